"""Colors of messages: for terminals that show them, and for nobody else."""

from __future__ import annotations

import io

import pytest

from classify_batch.cli.rendering.outputs import color_label


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
