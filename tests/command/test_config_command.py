"""`classify-batch config show`: each setting, and where it came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import HEADER, KEY, command, command_process

CONFIG = """
[api]
version = "v2"
[[job.rules]]
type = "invoice"
description = "has line items and a total"
[[job.rules]]
type = "contract"
description = "an agreement of parties"
[[job.webhook_configurations]]
webhook_url = "https://hooks.example/x"
webhook_headers = { Authorization = "Bearer s3cr3t-header" }
[limits]
attempts = 5
requests_per_s = 7
settle_s = 3
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(CONFIG)
    return path


def test_each_value_has_its_origin(config: Path) -> None:
    """Option, variable, line of the file, default: in the order in which they win."""
    environ = {"CLASSIFY_BATCH_LIMITS__ATTEMPTS": "4", "CLASSIFY_BATCH_LIMITS__SETTLE_S": "9"}
    words = ("config", "show", config, "--json", "--settle-s", "1")
    found = json.loads(command(*words, environ=environ, status=0).stdout)
    assert found["api.version"] == {"value": "v2", "origin": f"{config}, line 3"}
    assert found["job.rules.1"]["origin"] == f"{config}, line 7"
    assert found["limits.settle_s"] == {"value": 1.0, "origin": "option"}
    assert found["limits.attempts"] == {"value": 4, "origin": "CLASSIFY_BATCH_LIMITS__ATTEMPTS"}
    assert found["limits.requests_per_s"]["origin"] == "CLASSIFY_BATCH_LIMITS__REQUESTS_PER_S"
    assert found["limits.jobs_in_flight"] == {"value": 20, "origin": "default"}
    assert found["escalation"] == {"value": None, "origin": "default"}


def test_the_vendors_variable_gives_the_address(config: Path) -> None:
    """As a run takes it."""
    environ = {"LLAMA_CLOUD_BASE_URL": "http://127.0.0.1:9"}
    found = json.loads(command("config", "show", config, "--json", environ=environ, status=0).stdout)
    assert found["api.base_url"] == {"value": "http://127.0.0.1:9", "origin": "LLAMA_CLOUD_BASE_URL"}


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_nothing_secret_is_shown(config: Path, form: tuple[str, ...]) -> None:
    """Neither the key nor a webhook's header; the variable that holds the key is named."""
    shown = command("config", "show", config, *form, status=0).stdout
    assert "LLAMA_CLOUD_API_KEY" in shown
    assert "hooks.example" in shown
    assert KEY not in shown
    assert HEADER not in shown


def test_a_missing_key_is_said(config: Path) -> None:
    """And is no error: a run on another machine may have one."""
    done = command("config", "show", config, "--json", environ={"LLAMA_CLOUD_API_KEY": None}, status=0)
    assert "no API key" in json.loads(done.stdout)["key"]["value"]


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("[limit]\nattempts = 1", "'limits'"),
        ("[limits]\nattempt = 1", "'attempts'"),
        ("[limits]\nRequests_Per_S = 1", "'requests_per_s'"),
        ('[[job.rules]]\ntyp = "a"\ndescription = "a description of it"', "'type'"),
        ("[price]\ncredits_per_page = { FASTER = 1 }", "'FAST'"),
    ],
)
def test_a_slip_is_named_with_what_was_meant(tmp_path: Path, wrong: str, meant: str) -> None:
    """Of the names that its section has."""
    path = tmp_path / "my.toml"
    path.write_text(wrong)
    assert f"did you mean {meant}?" in command("config", "show", path, status=2).stderr


def test_what_is_like_nothing_gets_no_guess(tmp_path: Path) -> None:
    """A wrong guess is worse than none."""
    path = tmp_path / "my.toml"
    path.write_text("[limits]\nzzz = 1\n")
    assert "did you mean" not in command("config", "show", path, status=2).stderr


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("rum",), "'run'"),
        (("files", "uplaod"), "'upload'"),
        (("jobs", "lst"), "'list'"),
        (("config", "shwo", "x.toml"), "'show'"),
    ],
)
def test_a_mistyped_command_is_named_with_what_was_meant(words: tuple[str, ...], meant: str) -> None:
    """Of the group's commands."""
    assert f"did you mean {meant}?" in command(*words, status=2).stderr


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_a_mistyped_column_is_named_with_what_was_meant(config: Path, tmp_path: Path, suffix: str) -> None:
    """Of the columns that are there."""
    texts = {
        "csv": "file_id,path\na,b\n",
        "jsonl": '{"file_id":"a","path":"b"}\n',
        "json": '[{"file_id":"a","path":"b"}]',
    }
    ids = tmp_path / f"ids.{suffix}"
    ids.write_text(texts[suffix])
    words = ("plan", config, "--input", ids, "--run-dir", tmp_path / "run")
    assert "did you mean 'path'?" in command(*words, "--carry", "pth", status=2).stderr
    assert "did you mean 'file_id'?" in command(*words, "--column", "fileid", status=2).stderr


def test_a_span_has_a_unit(config: Path, tmp_path: Path) -> None:
    """`--max-runtime 4` may mean hours or seconds: it is asked for."""
    words = ("run", config, "--input", tmp_path, "--run-dir", tmp_path / "run", "--max-runtime")
    assert "4: of what? 4h, 4m or 4s" in command(*words, "4", status=2).stderr


def test_a_terminal_that_lacks_characters_gets_their_escapes(config: Path) -> None:
    """In a locale of ISO 8859 what is written with a dash or an ellipsis doesn't end the command."""
    shown = command_process("config", "show", config, environ={"PYTHONIOENCODING": "latin-1"}, status=0).stdout
    assert "\\u2013" in shown
