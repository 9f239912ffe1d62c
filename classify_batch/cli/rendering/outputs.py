"""The process's own stdout and stderr, as the commands want them.

stderr is talk. Where it is full, broken or closed nothing can be said, so what is said there is given up, and never
ends or changes what a command does.

stdout is what was asked for. Where it can't be written the command has failed to hand it over: StdoutError, at the
first write that fails. A broken pipe stays Python's own error, since nobody wants the rest. A closed one is /dev/null.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from classify_batch.errors import ExitStatus, WorldError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_OWN_RESULT = (ExitStatus.COMPLETE, ExitStatus.FAILURES)


class StdoutError(WorldError):
    """What was asked for could not be written to stdout; the same command prints it again."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"stdout can't be written ({reason})",
            hint="make room where stdout goes, then give the same command: it goes on, and prints it again",
        )


@contextmanager
def printing(status: int) -> Iterator[None]:
    """Prints what a command found that is to leave with `status`, and says with which status it leaves where that
    can't be printed.

    0 and 1 say that somebody has their answer, and nobody has: 75, since the same command gives it. Any other status
    tells a scheduler what to do next (77: only a person gets further), and that is still so.
    """
    try:
        yield
    except StdoutError as error:
        if status not in _OWN_RESULT:
            error.exit_status = ExitStatus(status)
        raise


class _Talk(io.FileIO):
    """Takes whatever it is given, and loses what can't be written."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            written: int | None = super().write(data)
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written


class _Data(io.FileIO):
    """Fails once. What is still buffered then goes nowhere, instead of failing again at exit."""

    _given_up = False

    def write(self, data: ReadableBuffer, /) -> int:
        while not self._given_up:
            try:
                written: int | None = super().write(data)
            except OSError as error:
                self._given_up = True
                if isinstance(error, BrokenPipeError):
                    raise
                raise StdoutError(error.strerror or str(error)) from error
            if written is not None:
                return written
            select.select([], [self], [])  # somebody else made this pipe or terminal non-blocking: wait all the same
        return memoryview(data).nbytes


def take_over() -> None:
    """Makes the streams that this process was started with as the head of this file says."""
    _occupy()
    if sys.stdout is sys.__stdout__:  # and not what a test, or an embedding program, put there
        sys.stdout = _stream(_Data, 1, sys.__stdout__)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stream(_Talk, 2, sys.__stderr__)


def _occupy() -> None:
    """A descriptor that was closed is given to the next file that is opened, and a journal is no place for talk."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one


def _stream(kind: type[io.FileIO], number: int, before: TextIO | None) -> TextIO:
    if before is None:
        return io.TextIOWrapper(io.BufferedWriter(kind(os.devnull, "wb")), encoding="utf-8")
    return io.TextIOWrapper(
        io.BufferedWriter(kind(number, "wb", closefd=False)),
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=True,
    )
