"""The library's log as lines of text or JSON, on stderr or in a file, by structlog."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from classify_batch.cli.rendering.outputs import printable
from classify_batch.errors import UsageError
from classify_batch.operations.run_log import ATTRIBUTES


@contextmanager
def writing_log(log_format: str, path: Path | None, *, verbose: bool, quiet: bool) -> Iterator[None]:
    """Writes the log inside the block: INFO and above, with `verbose` everything. `quiet`: on stderr errors only.

    Raises:
        UsageError: the file can't be opened.
    """
    logger, before = logging.getLogger("classify_batch"), logging.getLogger("classify_batch").level
    try:
        handler = logging.StreamHandler(sys.stderr) if path is None else LogFileHandler(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", hint="name another file") from None
    level = logging.DEBUG if verbose else logging.ERROR if quiet and path is None else logging.INFO
    handler.setLevel(level)
    handler.setFormatter(make_formatter(log_format))
    logger.addHandler(handler)
    logger.setLevel(min(level, logging.WARNING))  # warnings are shown elsewhere, too
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()


class LogFileHandler(WatchedFileHandler):
    """Appends to a file, which only its owner can read where it is new; goes on in a new one where it was rotated. The
    first write that fails is the last one, and said once: a run doesn't end for its log."""

    def __init__(self, path: Path) -> None:
        self._failed = False
        super().__init__(path, encoding="utf-8", errors="backslashreplace")

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        if not self._failed:
            super().emit(record)

    def close(self) -> None:
        with suppress(OSError):  # what could not be written before can't be now
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as logging calls it
        error = sys.exc_info()[1]
        if not self._failed and sys.stderr is not None:
            sys.stderr.write(printable(f"warning: {self.baseFilename} is not written any more: {error}") + "\n")
        self._failed = True


def make_formatter(log_format: str) -> logging.Formatter:
    """A formatter for records of the library."""
    common: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(allow=ATTRIBUTES),
        leave_out_what_is_none,
    ]
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        last += [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    else:
        last += [structlog.processors.format_exc_info, render_text]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=common, processors=last)


def leave_out_what_is_none(_logger: WrappedLogger, _name: str, values: EventDict) -> EventDict:
    """A record that is about no job has no `job`."""
    return {name: value for name, value in values.items() if value is not None}


def render_text(_logger: WrappedLogger, _name: str, values: EventDict) -> str:
    """A line for people: time, level, message, and what it is about. A traceback follows it."""
    about = " ".join(f"{name}={values[name]}" for name in ATTRIBUTES if name in values)
    line = f"{values['timestamp']} {values['level']:<7} {values['event']}" + (f"  {about}" if about else "")
    trace = values.get("exception")
    return "\n".join(map(printable, [line, *(trace.splitlines() if trace else ())]))
