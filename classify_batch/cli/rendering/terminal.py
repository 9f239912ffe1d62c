"""A view at the bottom of a terminal, by rich's `Live`, and lines that scroll away above it."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.control import Control
from rich.live import Live
from rich.live_render import LiveRender
from rich.segment import ControlType
from rich.text import Text

COLUMNS_MIN = 20

Size = tuple[int, int]


class CursorKeepingConsole(Console):
    """Never hides the cursor."""

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - as rich has it
        return False


class ReflowedLive(Live):
    """Erases also what a terminal that became narrower made of the last view.

    rich knows how many lines it drew. A terminal that wraps them anew shows more, and those would stay behind.
    """

    rows_to_erase = 0

    def forget_rows(self) -> None:
        """The next view is drawn where the cursor is, and nothing is erased for it."""
        self._live_render = LiveRender(self.get_renderable())

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        first, *rest = super().process_renderables(renderables)
        rows, self.rows_to_erase = self.rows_to_erase, 0
        if not rows:
            return [first, *rest]
        return [first, Control(*[(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * rows), *rest]


class View:
    """The lines of the view that count now."""

    def __init__(self) -> None:
        self.lines: list[Text] = []

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.lines


class Terminal:
    """Draws the view and prints lines above it. For one thread; the view is removed at the end of the `with` block."""

    def __init__(self, file: TextIO, *, reflows: bool) -> None:
        self._file, self._reflows = file, reflows
        self._console = CursorKeepingConsole(
            file=file, force_terminal=True, force_interactive=True, highlight=False, markup=False, emoji=False
        )
        self._view = View()
        self._live = ReflowedLive(
            self._view,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            vertical_overflow="crop",
        )
        self._drawn: list[int] = []
        self._size = self._read_size()
        self._ascii_only = not can_encode(file, "━─·×…")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Removes the view."""
        self._live.stop()

    def forget_view(self) -> None:
        """What was drawn stays where it is: others have written since, so nobody knows where that is."""
        self._live.forget_rows()
        self._drawn = []

    def is_resized(self) -> bool:
        return self._read_size() != self._size

    def draw_view(self, lines_above: str, make_view: Callable[[int, int, bool], list[Text]]) -> None:
        """Draws the view anew, and prints lines above it; nothing is drawn while the view has no lines."""
        columns, rows = self._size = self._read_size()
        self._console.size = (columns, rows)
        # One column stays free: a line that fills the last one is wrapped by some terminals and not by others.
        view = make_view(columns - 1, rows - 1, self._ascii_only)
        if view and not self._live.is_started:
            self._live.start()
        if not self._live.is_started:
            if lines_above:
                self._console.print(Text(lines_above), soft_wrap=True)
            return
        if self._reflows:
            self._live.rows_to_erase = sum((each - 1) // columns for each in self._drawn if each > columns)
        self._view.lines, self._drawn = view, [line.cell_len for line in view]
        if lines_above:  # the console draws the view anew below what it prints, in the same write
            self._console.print(Text(lines_above), soft_wrap=True)
        else:
            self._live.refresh()

    def _read_size(self) -> Size:
        """The terminal's columns and rows: what the system says; else what rich finds in the environment."""
        try:
            columns, rows = os.get_terminal_size(self._file.fileno())
        except (OSError, ValueError):
            columns, rows = 0, 0
        found = self._console.size if not (columns and rows) else None
        return max(COLUMNS_MIN, columns or (found.width if found else 0)), rows or (found.height if found else 0)


def can_encode(file: TextIO, text: str) -> bool:
    try:
        text.encode(file.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
