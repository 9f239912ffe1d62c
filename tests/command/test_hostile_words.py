"""Words of a server that would control a terminal, or that no encoding of stdout takes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from classify_batch.cli.rendering.outputs import printable, to_json_line
from classify_batch.cli.rendering.warnings import printing_warnings
from tests.support.command_line import command, command_process, on_a_terminal
from tests.support.complete_run import write_complete_run

TITLE = "inv\x1b]0;owned\x07oice"
HALF_PAIR = "inv\udc80oice"


@pytest.mark.parametrize("kind", [TITLE, HALF_PAIR, "inv\x9b31moice", "inv\u202eoice"])
@pytest.mark.parametrize("words", [("status",), ("verify",), ("diff", "run")])
def test_types_that_would_control_a_terminal_are_shown_without_it(
    tmp_path: Path, kind: str, words: tuple[str, ...]
) -> None:
    """Whoever reads it sees printable characters only; the process ends as it should."""
    write_complete_run(tmp_path / "run", 10, 5, kind=kind)
    done = command(*words, "run", folder=tmp_path, status=0)
    assert all(c.isprintable() or c == "\n" for c in done.stdout + done.stderr)


@pytest.mark.parametrize("kind", [TITLE, HALF_PAIR, "inv\x9b31moice", "inv\u202eoice", "inv\U000e0001oice", "发票😀"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_keeps_the_words_whatever_the_terminals_encoding(tmp_path: Path, kind: str, encoding: str) -> None:
    """A program reads back what the server said, half a surrogate pair too; and no terminal obeys it."""
    write_complete_run(tmp_path / "run", 10, 5, kind=kind)
    done = command_process("status", tmp_path / "run", "--json", environ={"PYTHONIOENCODING": encoding}, status=0)
    assert json.loads(done.stdout)["types"] == {kind: 10}
    assert all(c.isprintable() or c == "\n" for c in done.stdout)


@pytest.mark.parametrize("kind", [TITLE, "inv\x9b31moice", "inv\u202eoice", "inv\x7foice"])
@pytest.mark.parametrize("words", [("export", "run", "-"), ("diff", "run", "other", "--only", "type")])
def test_lines_of_json_are_escaped_on_a_terminal_only(tmp_path: Path, kind: str, words: tuple[str, ...]) -> None:
    """A terminal obeys none of the server's words; elsewhere the lines come as they stand in the run."""
    write_complete_run(tmp_path / "run", 10, 5, kind=kind)
    write_complete_run(tmp_path / "other", 10, 5)
    name, *rest = (str(tmp_path / word) if word in ("run", "other") else word for word in words)
    shown = on_a_terminal(name, *rest).replace("\r\n", "\n")
    assert all(c.isprintable() or c == "\n" for c in shown)
    piped = command_process(name, *rest, status=0).stdout
    assert [json.loads(line) for line in shown.splitlines()] == [json.loads(line) for line in piped.splitlines()]
    assert len(piped.splitlines()) == 10
    assert (kind in piped) is (kind is not TITLE)  # JSON itself escapes what is below a space


def test_a_summary_of_a_diff_is_escaped_on_a_terminal(tmp_path: Path) -> None:
    """The types in it are the server's words, too."""
    write_complete_run(tmp_path / "run", 10, 5, kind="inv\x9b31moice")
    write_complete_run(tmp_path / "other", 10, 5)
    shown = on_a_terminal("diff", str(tmp_path / "run"), str(tmp_path / "other"), "--json").replace("\r\n", "\n")
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert json.loads(shown)["types"][0]["before"] == "inv\x9b31moice"


def test_the_target_of_an_export_is_named_in_printable_characters(tmp_path: Path) -> None:
    """Whoever has made its name may not be whoever reads it."""
    write_complete_run(tmp_path / "run", 10, 5)
    done = command("export", "run", "o\x1b]0;owned\x07.csv", folder=tmp_path, status=0)
    assert "exported    10 of 10 files to o" in done.stderr
    assert all(c.isprintable() or c == "\n" for c in done.stderr)


def test_printable_texts_stay_as_they_are() -> None:
    """Lines, letters of all scripts and symbols."""
    for text in ("a\nb", "größe 文 ✓ …", ""):
        assert printable(text) == text
    assert printable("a\x1b[31mb\tc") == "a\N{REPLACEMENT CHARACTER}[31mb\N{REPLACEMENT CHARACTER}c"
    assert (
        to_json_line({"a": "\ud800\x9b\U000e0001", "b": "ü ✓"}) == '{"a": "\\ud800\\u009b\\udb40\\udc01", "b": "ü ✓"}'
    )


def test_warnings_and_errors_are_printable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What names a job or a project of the server goes through the same door."""
    with printing_warnings():
        logging.getLogger("classify_batch").warning("job %s", TITLE)
    assert "\x1b" not in capsys.readouterr().err
    done = command("status", tmp_path / "no\x1b]0;run", status=2)
    assert "\x1b" not in done.stderr
