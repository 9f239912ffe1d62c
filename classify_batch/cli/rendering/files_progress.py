"""What `files upload` and `files list` show while they work: one line on a terminal, below what they say.

Only where stderr is a terminal and stdout is none: where both are, the lines of the output are the progress, and a view
between them would tear them. A pipe gets the output alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from classify_batch.cli.rendering.progress import choose_progress
from classify_batch.cli.rendering.screen import Screen

if TYPE_CHECKING:
    from rich.text import Text


class FilesProgress:
    """The line, and what is said above it."""

    def __init__(self, screen: Screen | None = None) -> None:
        """`screen`: None: nothing is drawn."""
        self.screen = screen
        self._words = ""

    def update(self, words: str) -> None:
        """Shows other words from now on."""
        self._words = words
        if self.screen is not None:
            self.screen.redraw()

    def print_line(self, line: str) -> None:
        """A line on stderr, which stays."""
        if self.screen is None:
            click.echo(line, err=True)
        else:
            self.screen.print_line(line)

    def lines(self, width: int, height: int, ascii_only: bool = False) -> list[Text]:  # noqa: ARG002 - as a view has it
        """What is drawn: nothing before there is anything to say."""
        from rich.text import Text

        line = Text(self._words)
        line.truncate(width)
        return [line] if self._words else []


@contextmanager
def showing_files() -> Iterator[FilesProgress]:
    """Shows the progress of a command about files inside the block, where somebody sees it."""
    if sys.stdout.isatty() or choose_progress("auto", sys.stderr, os.environ) != "live":
        yield FilesProgress()
        return
    progress = FilesProgress()
    progress.screen = Screen(progress.lines)
    try:
        yield progress
    finally:
        progress.screen.close()
