"""Colors of messages: for terminals that show them, and for nobody else."""

from __future__ import annotations

import io

import click
import pytest

from classify_batch.cli.main import cli
from classify_batch.cli.rendering.outputs import color_label, color_line


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The label alone is colored, and can be read without."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert color_label("error:", "red", Terminal()) == "\x1b[31m\x1b[1merror:\x1b[0m"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", None)])
def test_no_colors_where_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    """By NO_COLOR, or a terminal without colors."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    assert color_label("error:", "red", Terminal()) == "error:"


def test_files_and_closed_streams_get_no_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is searched for `error: `."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert color_label("error:", "red", io.StringIO()) == "error:"
    assert color_label("error:", "red", None) == "error:"


SUMMARY = (
    "files       3 of 3",
    "  failed                 1   33 %",
    "hint: try again",
    "next: classify-batch resume x",
)


def test_a_summary_has_colors_where_a_terminal_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels, failures, hints; not a failure where there is none, and the words stay the same."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for line in SUMMARY:
        assert color_line(line, io.StringIO()) == line
        colored = color_line(line, Terminal())
        assert colored != line
        assert click.unstyle(colored) == line
    for line in ("  failed                 0    0 %", "  classified             3  100 %", ""):
        assert color_line(line, Terminal()) == line
    assert color_line("  failed                 10   3 %", Terminal()).startswith("\x1b[31m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert [color_line(line, Terminal()) for line in SUMMARY] == list(SUMMARY)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["files", "--help"], ["files", "list", "--help"]])
def test_help_has_colors_on_a_terminal_only(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words in the same places, in every command and group; NO_COLOR keeps them plain."""
    plain = help_on(io.StringIO(), words, monkeypatch)
    colored = help_on(Terminal(), words, monkeypatch)
    assert "\x1b" not in plain
    assert colored.count("\x1b[33m") >= 2, "headings"
    assert "\x1b[32m" in colored, "names"
    assert click.unstyle(colored) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert help_on(Terminal(), words, monkeypatch) == plain


def help_on(stream: io.StringIO, words: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", stream)
    cli.main(words, prog_name="classify-batch", standalone_mode=False)
    return stream.getvalue()


def test_no_command_is_cut_off_in_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a line that fits into 80 columns and says it all."""
    monkeypatch.setenv("COLUMNS", "80")
    _, _, commands = help_on(io.StringIO(), ["--help"], monkeypatch).partition("Commands:")
    assert "  completion  " in commands
    assert "..." not in commands
