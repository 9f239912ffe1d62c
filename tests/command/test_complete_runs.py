"""A command against a directory that is there: one that is complete, one with other webhooks; and what configs and
plans say before anything is sent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.command_line import HEADER, asked, command, environment, mirror, sandbox
from tests.support.start_command import SCRIPT, run_process

CONFIG = """
[job]
rules = [{{ type = "invoice", description = "has line items and a total" }}]
{job}

[api]
base_url = "{url}"
{rest}
"""
HOOK = 'webhook_url = "https://hooks.example/x", webhook_events = ["parse.success"]'
HEADERS = f'webhook_headers = {{ Authorization = "{HEADER}" }}'


class Place(NamedTuple):
    """A folder with a config and three IDs, and a server."""

    folder: Path
    url: str

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def config(self, job: str = "", rest: str = "", name: str = "c.toml", url: str = "") -> Path:
        path = self.folder / name
        path.write_text(CONFIG.format(url=url or self.url, job=job, rest=rest))
        return path

    def call(
        self, *words: object, key: bool = True, values: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = command(*words, environ={**(values or {}), **({} if key else {"LLAMA_CLOUD_API_KEY": None})})
        assert "s3cr3t" not in done.stdout + done.stderr
        return done

    def begin(self, verb: str, config: Path, *options: str, key: bool = True) -> subprocess.CompletedProcess[str]:
        return self.call(verb, config, "--input", self.folder / "ids.txt", "--run-dir", self.run_dir, *options, key=key)

    def names(self) -> set[str]:
        return {path.name for path in self.run_dir.iterdir()}

    def contents(self) -> dict[str, tuple[int, bytes]]:
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in self.run_dir.iterdir()}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with sandbox("--fault", 'foreign=["file-bad"]') as base_url:
        yield base_url


@pytest.fixture
def place(tmp_path: Path, server: str) -> Place:
    (tmp_path / "ids.txt").write_text("file-1\nfile-2\nfile-3\n")
    return Place(tmp_path, server)


def said(done: subprocess.CompletedProcess[str], status: int) -> str:
    assert done.returncode == status, done.stderr
    return done.stderr


# --- Runs that are complete -------------------------------------------------------------------------------------------


def test_a_complete_run_needs_no_key(place: Place) -> None:
    """Both commands say that it is complete, and call and write nothing; they take not even the lock."""
    config = place.config()
    said(place.begin("run", config), 0)
    requests = asked(place.url)
    (place.run_dir / "lock").unlink()
    before, moment = place.contents(), place.run_dir.stat().st_mtime_ns
    assert "complete already" in said(place.call("resume", place.run_dir, key=False), 0)
    done = place.call("resume", place.run_dir, "--config", config, "--json", key=False)
    assert "complete already" in said(done, 0)
    assert json.loads(done.stdout.splitlines()[-1])["state"] == "complete"
    assert (place.contents(), place.run_dir.stat().st_mtime_ns) == (before, moment)
    assert "complete already" in said(place.begin("run", config, key=False), 0)
    assert (place.contents(), place.run_dir.stat().st_mtime_ns) == (before, moment)
    assert asked(place.url) == requests


KILLED = """
import os, runpy, signal, sys

begun, really_open = sys.argv.pop(1), os.open

def open_and_die(path, *args, **named):
    descriptor = really_open(path, *args, **named)
    if os.path.basename(path).startswith(begun):
        os.kill(os.getpid(), signal.SIGKILL)
    return descriptor

os.open = open_and_die
runpy.run_module("classify_batch", run_name="__main__")
"""


@pytest.mark.parametrize("begun", [".trial.", ".failures.1.jsonl.", ".retry.1.jsonl.", ".manifest.json."])
def test_a_retry_that_was_killed_leaves_nothing_behind(place: Place, begun: str) -> None:
    """It was killed before it had begun, so the run is complete, and no later start would take the lock."""
    (place.folder / "ids.txt").write_text("file-1\nfile-bad\n")
    said(place.begin("run", place.config()), 1)
    before = place.names()
    words = ("resume", str(place.run_dir), "--retry-failed")
    killed = run_process([*SCRIPT, KILLED, begun, *words], env=environment())
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert any(name.startswith(begun) for name in place.names() - before)
    done = place.call("resume", place.run_dir)
    assert done.returncode == 1, done.stderr
    assert [name for name in place.names() if name.endswith(".tmp")] == []
    said(place.call("verify", place.run_dir), 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_complete_run_needs_no_writable_disk(place: Place) -> None:
    """Nothing has to be written."""
    said(place.begin("run", place.config()), 0)
    place.run_dir.chmod(0o500)
    try:
        assert "complete already" in said(place.call("resume", place.run_dir, key=False), 0)
        assert "complete already" in said(place.begin("run", place.config(), key=False), 0)
    finally:
        place.run_dir.chmod(0o700)


def test_the_tolerance_of_each_start_decides_the_exit_status(place: Place) -> None:
    """Also of a run that is complete: its failures are known, and how many are tolerated may differ at each start."""
    (place.folder / "ids.txt").write_text("file-1\nfile-bad\n")
    said(place.begin("run", place.config()), 1)
    done = place.call("resume", place.run_dir, "--tolerated-failure-percentage", "50", "--json")
    assert "complete already" in said(done, 0)
    assert json.loads(done.stdout.splitlines()[-1])["exit_status"] == 0
    assert "complete already" in said(place.call("resume", place.run_dir), 1)


def test_retrying_failures_of_a_complete_run_needs_the_key(place: Place) -> None:
    """Its status is shown without a key; a new chance for the failed files takes one, and the headers."""
    (place.folder / "ids.txt").write_text("file-1\nfile-bad\n")
    config = place.config(f"webhook_configurations = [{{ {HOOK}, {HEADERS} }}]")
    said(place.begin("run", config), 1)
    complete = place.call("resume", place.run_dir, "--config", config, key=False)
    assert "complete already" in said(complete, 1)
    before = place.contents()
    assert "webhook headers" in said(place.call("resume", place.run_dir), 2)
    assert "webhook headers" in said(place.call("resume", place.run_dir, "--retry-failed"), 2)
    retry = ("resume", place.run_dir, "--retry-failed", "--config", config)
    assert "no API key" in said(place.call(*retry, key=False), 2)
    assert place.contents() == before
    assert "complete already" not in said(place.call(*retry), 1)


def test_a_complete_run_refuses_a_command_that_does_not_fit(place: Place) -> None:
    """Refused all the same: another config, other IDs, a limit that can't be."""
    config = place.config()
    said(place.begin("run", config), 0)
    other = place.config("parsing_configuration = { max_pages = 3 }", name="other.toml")
    refused = said(place.call("resume", place.run_dir, "--config", other, key=False), 2)
    assert "parsing configuration" in refused
    assert "parsing configuration" in said(place.begin("run", other, key=False), 2)
    said(place.call("resume", place.run_dir, "--jobs-in-flight", "-3", key=False), 2)
    (place.folder / "ids.txt").write_text("file-9\n")
    assert "other file IDs" in said(place.begin("run", config, key=False), 2)


def test_an_incomplete_run_needs_its_key_before_anything_is_written(place: Place) -> None:
    """Before anything is written."""
    config = place.config()
    assert "no API key" in said(place.begin("run", config, key=False), 2)
    assert not place.run_dir.exists()
    said(place.begin("plan", config, key=False), 0)
    assert "no API key" in said(place.call("resume", place.run_dir, key=False), 2)


@pytest.mark.parametrize("older", [False, True])
def test_a_run_of_another_organization_is_refused(place: Place, older: bool) -> None:
    """Another organization, or none, is refused before anything is sent: also where version 0.2 planned the run, which
    kept the organization among the settings only."""
    config = place.config(rest='organization_id = "ours"')
    said(place.begin("plan", config), 0)
    run = json.loads((place.run_dir / "run.json").read_text())
    assert older or run["identity"]["organization_id"] == "ours"
    if older:
        run["identity"].pop("organization_id", None)
        (place.run_dir / "run.json").write_text(json.dumps(run))
    requests = asked(place.url)
    for other in (
        place.call("resume", place.run_dir, "--organization-id", "theirs"),
        place.begin("run", config, "--organization-id", "theirs"),
        place.begin("run", place.config(name="none.toml")),
    ):
        assert 'organization (api.organization_id): the run has "ours", the command' in said(other, 2)
    assert asked(place.url) == requests
    said(place.call("resume", place.run_dir), 0)


@pytest.mark.parametrize("older", [False, True])
def test_a_run_without_organization_refuses_one(place: Place, older: bool) -> None:
    """The key's own one was meant; naming one later may mean another."""
    said(place.begin("plan", place.config()), 0)
    run = json.loads((place.run_dir / "run.json").read_text())
    if older:
        run["identity"].pop("organization_id", None)
        (place.run_dir / "run.json").write_text(json.dumps(run))
    refused = said(place.call("resume", place.run_dir, "--organization-id", "theirs"), 2)
    assert 'organization (api.organization_id): the run has none, the command "theirs"' in refused
    said(place.call("resume", place.run_dir), 0)


# --- Webhooks of a directory and of a command -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        "",
        'webhook_configurations = [{ webhook_url = "https://hooks.example/o", webhook_events = ["parse.success"] }]',
        'webhook_configurations = [{ webhook_url = "https://hooks.example/x" }]',
        f"webhook_configurations = [{{ {HOOK} }}, {{ {HOOK} }}]",
        f"webhook_configurations = [{{ {HOOK}, {HEADERS} }}]",
    ],
    ids=["none", "another URL", "other events", "one more", "headers"],
)
def test_changed_webhooks_are_a_warning_that_names_both_sides(place: Place, other: str) -> None:
    """Webhooks may change, and not without a warning: both sides are named, headers by their names."""
    said(place.begin("plan", place.config(f"webhook_configurations = [{{ {HOOK} }}]")), 0)
    warned = said(place.call("resume", place.run_dir, "--config", place.config(other, name="other.toml")), 0)
    assert 'webhooks changed: the run was planned with [{"webhook_url": "https://hooks.example/x"' in warned
    assert ("Authorization" in warned) == ("Authorization" in other)


def test_changed_header_values_are_no_difference(place: Place) -> None:
    """They are stored nowhere."""
    with mirror() as server:
        full = place.config(f"webhook_configurations = [{{ {HOOK}, {HEADERS} }}]", url=server.base_url)
        said(place.begin("plan", full), 0)
        full.write_text(full.read_text().replace(HEADER, f"{HEADER}-new"))
        assert "webhooks changed" not in said(place.call("resume", place.run_dir, "--config", full), 0)
        assert server.bodies[0]["webhook_configurations"][0]["webhook_headers"] == {"Authorization": f"{HEADER}-new"}


# --- Configs ----------------------------------------------------------------------------------------------------------


def test_header_values_that_are_no_text_are_sent_as_json_and_kept_secret(place: Place) -> None:
    """Numbers and truth values go out as JSON writes them, and are as secret as the rest."""
    with mirror() as server:
        headers = f'webhook_headers = {{ A = "{HEADER}", B = 5551234567, C = true, D = 1.5 }}'
        config = place.config(f"webhook_configurations = [{{ {HOOK}, {headers} }}]", url=server.base_url)
        said(place.begin("run", config), 0)
        sent = server.bodies[0]["webhook_configurations"][0]["webhook_headers"]
    assert sent == {"A": HEADER, "B": "5551234567", "C": "true", "D": "1.5"}
    assert not any(b"5551234567" in data for _, data in place.contents().values())


@pytest.mark.parametrize(
    "webhook",
    [
        'webhook_url = "https://"',
        'webhook_url = "https://?s3cr3t"',
        'webhook_url = "https://[s3cr3t"',
        'webhook_url = "https://host/s3cr3t\\nx"',
        f'{HOOK}, webhook_headers = {{ A = "s3cr3t\\r\\nB: c" }}',
        f'{HOOK}, webhook_headers = {{ "A\\ns3cr3t" = "b" }}',
        f'{HOOK}, webhook_headers = {{ "" = "s3cr3t" }}',
    ],
)
def test_a_bad_webhook_is_refused_without_showing_its_value(place: Place, webhook: str) -> None:
    """No host, or a header of two lines: refused with the place, and without the value."""
    config = place.config(f"webhook_configurations = [{{ {webhook} }}]")
    refused = said(place.begin("plan", config), 2)
    assert f"{config}, line 4: job.webhook_configurations: " in refused
    assert "hint: " in refused


def test_a_number_in_quotes_is_an_error_in_a_config_only(place: Place) -> None:
    """A wrong type in a file is an error, each with its line; the environment has nothing but text."""
    loose = 'jobs_in_flight = "20"\nattempts = 3.0\ndrain_s = "5"\nsettle_s = 1\nmax_credits = 7'
    parsing = 'parsing_configuration = { max_pages = "5", target_pages = [0, "1"] }'
    config = place.config(parsing, f"[limits]\n{loose}")
    refused = said(place.begin("plan", config), 2)
    assert "5 faults in the settings" in refused
    for line, words in {
        4: "job.parsing_configuration.max_pages: must be a whole number (given: '5')",
        9: "limits.jobs_in_flight: must be a whole number (given: '20')",
        10: "limits.attempts: must be a whole number (given: 3.0)",
        11: "limits.drain_s: must be a number (given: '5')",
    }.items():
        assert f"{config}, line {line}: {words}" in refused
    assert "job.parsing_configuration.target_pages.1: " in refused
    text = {"CLASSIFY_BATCH_LIMITS__ATTEMPTS": "4", "CLASSIFY_BATCH_JOB__PARSING_CONFIGURATION__MAX_PAGES": "2"}
    ids = ("--input", place.folder / "ids.txt", "--run-dir", place.run_dir)
    said(place.call("plan", place.config(rest="[limits]\nattempts = 2"), *ids, values=text), 0)


# --- Plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "job", "words"),
    [
        ("v1", "", None),
        ("v2", "", "max_pages   5, sent with every job"),
        ("v2", "parsing_configuration = { max_pages = 3 }", "max_pages   3, sent with every job"),
        ("v2", "parsing_configuration = { target_pages = [0] }", "max_pages   5, sent with every job"),
        ("v2", "parsing_configuration = { target_pages = [0, 1, 2, 3, 4, 5] }", "max_pages   6, sent with every job"),
        ("v1", "parsing_configuration = { target_pages = [0, 1, 2, 3, 4, 5] }", "18 pages  (6 pages a file"),
    ],
)
def test_a_plan_shows_the_max_pages_that_v2_is_sent(place: Place, version: str, job: str, words: str | None) -> None:
    """By itself v2 reads every page, and so `max_pages` always goes along."""
    done = place.begin("plan", place.config(job, f'version = "{version}"'))
    said(done, 0)
    assert (words or "pages a file") in done.stdout
    assert ("max_pages" in done.stdout) == (version == "v2")
