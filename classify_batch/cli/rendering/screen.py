"""The one thread that writes on stderr while a run is on: lines, and below them the live view.

Whoever has something to say puts it into a queue, so a terminal that stands still (Ctrl-S, a slow line) keeps nobody
waiting but this thread. Lines and view go through one console, so neither tears the other.

The cursor is never hidden: a process that is killed, or stopped by Ctrl-Z, leaves the terminal as it should be.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from classify_batch.cli.rendering.outputs import printable

if TYPE_CHECKING:
    from rich.text import Text

DRAW_EVERY_S_MIN = 0.125
"""Between two draws: eight a second at most."""
LOOK_EVERY_S = 0.25
"""How often the size of the terminal is looked at, and whether the process was stopped."""
CLOSE_WITHIN_S = 1.0
"""How long the end of a run waits for a terminal that takes nothing."""
LINES_WAITING_MAX = 1000

MakeLines = Callable[[int, int, bool], "list[Text]"]
"""The lines of the view, given the columns and rows there are, and whether only ASCII can be written."""


class Screen:
    """Writes lines on stderr, from a thread of its own.

    Args:
        make_view: what is drawn below the lines, on a terminal; None: nothing is.
    """

    def __init__(self, make_view: MakeLines | None = None) -> None:
        self._make_view = make_view
        self._waiting: deque[str] = deque()
        self._left_out = 0
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._was_stopped = False
        self._thread = threading.Thread(target=self._draw_until_closed, name="screen", daemon=True)
        self._thread.start()

    def print_line(self, line: str) -> None:
        """Writes a line soon. Never waits; where the terminal takes nothing, lines are left out and counted."""
        if len(self._waiting) >= LINES_WAITING_MAX:
            self._left_out += 1
        else:
            self._waiting.append(printable(line))
        self._changed.set()

    def start_afresh(self) -> None:
        """Draws the view below whatever a shell wrote while this process was stopped (Ctrl-Z, `fg`).

        A signal handler calls it, maybe in the middle of `redraw` or of itself: so it takes no lock, and wakes nobody.
        """
        self._was_stopped = True

    def redraw(self) -> None:
        """Draws the view soon. Never waits."""
        self._changed.set()

    def close(self) -> None:
        """Writes what waits, and removes the view."""
        self._closing.set()
        self._changed.set()
        self._thread.join(CLOSE_WITHIN_S)

    @property
    def is_open(self) -> bool:
        """Whether its thread still writes, or waits for a terminal."""
        return self._thread.is_alive()

    # --- The thread ---------------------------------------------------------------------------------------------

    def _draw_until_closed(self) -> None:
        if self._make_view is not None:
            try:
                self._work_with_view(self._make_view)
            except Exception as error:  # noqa: BLE001 - a run is worth more than its display
                click.echo(printable(f"warning: the live view ended: {type(error).__name__}: {error}"), err=True)
        while True:
            if text := self._take_lines():
                click.echo(text, err=True)
            elif self._closing.is_set():
                return
            else:
                self._changed.wait()
                self._changed.clear()

    def _work_with_view(self, make_view: MakeLines) -> None:
        from classify_batch.cli.rendering.terminal import Terminal

        with Terminal(sys.stderr, reflows=terminal_reflows()) as terminal:
            while not self._closing.is_set():
                self._changed.wait(LOOK_EVERY_S)
                if self._changed.is_set() or self._was_stopped or terminal.is_resized():
                    self._changed.clear()
                    if self._was_stopped:
                        self._was_stopped = False
                        terminal.forget_view()
                    terminal.draw_view(self._take_lines(), make_view)
                    self._closing.wait(DRAW_EVERY_S_MIN)
            terminal.draw_view(self._take_lines(), make_view)

    def _take_lines(self) -> str:
        lines = []
        while self._waiting:
            lines.append(self._waiting.popleft())
        if self._left_out:
            lines.append(f"({self._left_out:,} lines were left out: the terminal was too slow)")
            self._left_out = 0
        return "\n".join(lines)


def terminal_reflows() -> bool:
    """Whether the terminal wraps the lines that are on it anew when it becomes narrower. All do but xterm itself, which
    names its version to the programs in it, and GNU screen."""
    return not (os.environ.get("XTERM_VERSION") or os.environ.get("STY"))
