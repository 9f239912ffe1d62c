"""A config to begin with, as text: what `init` writes."""

from __future__ import annotations

import json
import tomllib

from pydantic import ValidationError

from classify_batch.settings.config_file import CONFIG_FILE, ConfigFile
from classify_batch.settings.error_places import words_of_fault
from classify_batch.settings.job_spec import Rule
from classify_batch.settings.settings import Settings
from classify_batch.vocabulary import SANDBOX

_VERSION_WORDS = {
    "v2": "a file a job; a create whose answer is lost is repeated safely. v1: MULTIMODAL, up to 500 files a job",
    "v1": "up to 500 files a job, and MULTIMODAL. v2: a create whose answer is lost is repeated safely",
}


INPUT_EXAMPLE = "inbox/ # a folder of documents, or a file of file IDs"

_SANDBOX_LIMITS = ("requests_per_s = 200.0 # the sandbox is on this machine, and has no limit", "settle_s = 2")


def recommend_version(mode: str | None) -> str:
    """v2, unless something is wanted that only v1 has."""
    return "v1" if mode == "MULTIMODAL" else "v2"


def format_config(
    name: str, rules: list[tuple[str, str]], *, version: str, mode: str | None = None, base_url: str | None = None
) -> str:
    """The text of a config with these rules (type and description). `name`: how a shell names it, in one line."""
    lines = [
        "# A job for classify-batch. Every setting: classify-batch manual settings",
        f"#   classify-batch check {name} --input {INPUT_EXAMPLE}",
        f"#   classify-batch run {name} --input inbox/ --run-dir runs/first",
        "",
        "[api]",
        f'version = "{version}" # {_VERSION_WORDS[version]}',
    ]
    if base_url is not None:
        lines.append(f"base_url = {_quote_toml(base_url)}")
    else:
        lines.append('# base_url = "https://api.cloud.eu.llamaindex.ai" # the EU region; a key belongs to one region')
        lines.append('# base_url = "sandbox" # practise without a key')
    lines.append('# project_id = "…" # else the project that the key belongs to')
    if mode is not None:
        lines += ["", "[job]", f'mode = "{mode}" # MULTIMODAL reads images, too, and costs twice as much as FAST']
    for kind, description in rules:
        lines += ["", "[[job.rules]]", f"type = {_quote_toml(kind)}", f"description = {_quote_toml(description)}"]
    lines += [
        "",
        "[limits]",
        "# jobs_in_flight = 20",
        *(_SANDBOX_LIMITS if base_url == SANDBOX else ("# requests_per_s = 20.0",)),
        "# max_credits = 1000.0 # the most that a run may cost",
        "# tolerated_failure_percentage = 1.0 # so many failed files still exit with 0",
    ]
    return "\n".join(lines) + "\n"


def _quote_toml(text: str) -> str:
    """As a basic string of TOML, which has JSON's escapes."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def check_config(text: str) -> None:
    """Raises SettingsError where a run would not take this config."""
    token = CONFIG_FILE.set(ConfigFile(values=tomllib.loads(text)))
    try:
        Settings()  # its values are the config's
    finally:
        CONFIG_FILE.reset(token)


def find_rule_error(kind: str, description: str) -> str | None:
    """What is wrong with a rule; None where nothing is."""
    try:
        Rule(type=kind, description=description)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, fault['loc']))}: {words_of_fault(fault)}"
    return None
