"""The library's warnings on stderr, for a person."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from classify_batch.cli.rendering.outputs import printable


def print_on_stderr(line: str) -> None:
    click.echo(line, err=True)


class WarningHandler(logging.Handler):
    """Prints each record as a line like `warning: …`."""

    def __init__(self, level: int, print_line: Callable[[str], None]) -> None:
        super().__init__(level)
        self._print_line = print_line

    def emit(self, record: logging.LogRecord) -> None:
        self._print_line(printable(f"{record.levelname.lower()}: {record.getMessage()}"))


@contextmanager
def printing_warnings(
    print_line: Callable[[str], None] = print_on_stderr, *, errors_only: bool = False
) -> Iterator[None]:
    """Prints the warnings that the package logs inside the block."""
    logger = logging.getLogger("classify_batch")
    handler = WarningHandler(logging.ERROR if errors_only else logging.WARNING, print_line)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
