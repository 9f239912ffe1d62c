"""`classify-batch init`: a config to begin with, asked for on a terminal or given by options."""

from __future__ import annotations

import os
import pty
import shlex
import time
import tomllib
from pathlib import Path

import pytest

from tests.support.command_line import PATIENCE_S, command, environment
from tests.support.start_command import COMMAND, CommandProcess

INVOICE = "invoice=has line items and a total amount"


def test_a_config_is_written_without_a_question(tmp_path: Path) -> None:
    """Where rules are given nothing is asked; v2 is recommended."""
    path = tmp_path / "my.toml"
    done = command("init", path, "--rule", INVOICE, "--rule", 'a type=words with "quotes" and \\ =', status=0)
    found = tomllib.loads(path.read_text())
    assert found["api"] == {"version": "v2"}
    assert found["job"]["rules"] == [
        {"type": "invoice", "description": "has line items and a total amount"},
        {"type": "a type", "description": 'words with "quotes" and \\ ='},
    ]
    assert f"\nnext: classify-batch check {path} --input inbox/" in done.stderr


@pytest.mark.parametrize(
    ("options", "version", "mode"),
    [
        ((), "v2", None),
        (("--mode", "FAST"), "v2", "FAST"),
        (("--mode", "MULTIMODAL"), "v1", "MULTIMODAL"),
        (("--api-version", "v1"), "v1", None),
    ],
)
def test_the_version_follows_from_what_is_wanted(
    tmp_path: Path, options: tuple[str, ...], version: str, mode: str | None
) -> None:
    """MULTIMODAL is v1's."""
    path = tmp_path / "my.toml"
    command("init", path, "--rule", INVOICE, *options, status=0)
    found = tomllib.loads(path.read_text())
    assert (found["api"]["version"], found["job"].get("mode")) == (version, mode)


def test_what_is_written_runs_on_the_sandbox(tmp_path: Path) -> None:
    """`check` accepts it, and a run with it is complete."""
    path, ids = tmp_path / "my.toml", tmp_path / "ids.txt"
    ids.write_text("a\nb\n")
    command("init", path, "--rule", INVOICE, "--base-url", "sandbox", status=0)
    command("check", path, "--input", ids, status=0)
    command("run", path, "--input", ids, "--run-dir", tmp_path / "run", "--settle-s", "0", status=0)


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ((), "there is no rule, and nobody to ask", "--rule"),
        (("--rule", "invoice"), "'invoice' is not TYPE=DESCRIPTION", "--help"),
        (("--rule", "invoice=short"), "job.rules.0.description", "settings"),
        (("--rule", INVOICE, "--rule", INVOICE), "rule types must be unique", "settings"),
        (("--rule", INVOICE, "--mode", "MULTIMODAL", "--api-version", "v2"), "MULTIMODAL", ""),
        (("--rule", INVOICE, "--base-url", "ftp://x"), "base_url", "settings"),
    ],
)
def test_what_no_run_would_take_is_not_written(tmp_path: Path, words: tuple[str, ...], error: str, hint: str) -> None:
    """The error names it, and there is no file."""
    path = tmp_path / "my.toml"
    done = command("init", path, *words, status=2)
    assert error in done.stderr
    assert hint in done.stderr.partition("hint: ")[2]
    assert not path.exists()


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    """Nobody's config is written over; a folder that isn't there is named."""
    path = tmp_path / "my.toml"
    path.write_text("mine")
    assert "is there already" in command("init", path, "--rule", INVOICE, status=2).stderr
    assert path.read_text() == "mine"
    assert "can't be written" in command("init", tmp_path / "no" / "my.toml", "--rule", INVOICE, status=2).stderr


@pytest.mark.parametrize("name", ["my jobs.toml", "a\nb.toml", "\udcff.toml", "$x'y.toml"], ids=range(4))
def test_any_name_of_a_file_will_do(tmp_path: Path, name: str) -> None:
    """It stands in the config's comments and in the next command, for a shell; a name of several lines or of no
    encoding ended with 70, and left an empty file."""
    path = tmp_path / name
    done = command("init", path, "--rule", INVOICE, status=0)
    assert tomllib.loads(path.read_text())["job"]["rules"][0]["type"] == "invoice"
    said = done.stderr.partition("next: ")[2]
    assert shlex.split(said)[2] == (str(path) if str(path).isprintable() else "CONFIG")
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_config_for_the_sandbox_is_not_slowed_down(tmp_path: Path) -> None:
    """A rate that is polite to somebody else's server would let a hundred documents of one's own take half a minute."""
    path = tmp_path / "my.toml"
    command("init", path, "--rule", INVOICE, "--base-url", "sandbox", status=0)
    assert tomllib.loads(path.read_text())["limits"] == {"requests_per_s": 200.0, "settle_s": 2}
    other = tmp_path / "other.toml"
    command("init", other, "--rule", INVOICE, status=0)
    assert "limits" not in {name for name, values in tomllib.loads(other.read_text()).items() if values}


def answer(path: Path, *options: str, answers: tuple[str, ...]) -> None:
    """The command on a terminal, where a person gives these answers."""
    ours, theirs = pty.openpty()
    words = [*COMMAND, "init", str(path), *options]
    with CommandProcess(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(NO_COLOR="1")) as process:
        os.close(theirs)
        os.write(ours, "".join(f"{each}\n" for each in answers).encode())
        until_s = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.05)
        process.kill()
    os.close(ours)
    assert process.returncode == 0


def test_a_person_who_gives_rules_is_asked_nothing(tmp_path: Path) -> None:
    """The line of the README works on a terminal as it does in a script."""
    path = tmp_path / "my.toml"
    answer(path, "--rule", INVOICE, answers=())
    assert tomllib.loads(path.read_text())["api"] == {"version": "v2"}


def test_who_practises_is_asked_for_types_only(tmp_path: Path) -> None:
    """The versions differ in what a newcomer can't know yet, and in the sandbox hardly."""
    path = tmp_path / "my.toml"
    answer(path, "--base-url", "sandbox", answers=("invoice", "has line items and a total", ""))
    assert [rule["type"] for rule in tomllib.loads(path.read_text())["job"]["rules"]] == ["invoice"]


def test_a_person_is_asked(tmp_path: Path) -> None:
    """On a terminal: the version, then types until an empty answer; a description that is too short is asked for
    again."""
    path = tmp_path / "my.toml"
    given = ("", "invoice", "short", "invoice", "has line items and a total", "contract", "an agreement of two", "")
    answer(path, answers=given)
    found = tomllib.loads(path.read_text())
    assert found["api"]["version"] == "v2"
    assert [rule["type"] for rule in found["job"]["rules"]] == ["invoice", "contract"]
