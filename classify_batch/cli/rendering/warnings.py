"""The library's warnings on stderr, for a person."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

from classify_batch.cli.rendering.outputs import printable


class StderrHandler(logging.Handler):
    """Prints each record as a line like `warning: …`."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(printable(f"{record.levelname.lower()}: {record.getMessage()}"), err=True)


@contextmanager
def printing_warnings() -> Iterator[None]:
    """Prints the warnings that the package logs inside the block."""
    logger, handler = logging.getLogger("classify_batch"), StderrHandler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
