"""The process's own stdout and stderr, as the commands want them.

stderr carries logs and messages. Where it is full, broken or closed they are dropped: a message that can't be written
never ends or changes what a command does.

stdout carries the result. Where it can't be written the command has failed to hand its result over: the first write
that fails raises StdoutError. A broken pipe stays Python's BrokenPipeError, since nobody wants the rest. A closed
stream is replaced by /dev/null.

Characters that the stream's encoding doesn't have are written as JSON escapes.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from classify_batch.errors import ExitStatus, WorldError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_ESCAPED_LIKE_JSON = "classify-batch-json"
CHARACTER_ERRORS = {"strict": _ESCAPED_LIKE_JSON}
"""How a stream treats characters that its encoding doesn't have, where Python would raise an error: in a locale of
ISO 8859 even a dash is one."""

_OWN_RESULT = (ExitStatus.COMPLETE, ExitStatus.FAILURES)


class StdoutError(WorldError):
    """The result could not be written to stdout; the same command prints it again."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"stdout can't be written ({reason})",
            hint="make room where stdout goes, then give the same command: it goes on, and prints it again",
        )


def printable(text: str) -> str:
    """A text that may hold words of the server, for a terminal: what isn't printable, like an escape code or half a
    surrogate pair, is shown as \N{REPLACEMENT CHARACTER}. Lines stay lines."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def shows_colors(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that shows colors, and whose user wants them."""
    if stream is None or not stream.isatty():
        return False
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in (None, "", "dumb", "unknown")


def color_label(label: str, color: str, stream: TextIO | None) -> str:
    """A word that begins a message, like `error:`, in a color where the stream is a terminal that shows colors."""
    if not shows_colors(stream):
        return label
    import click

    return click.style(label, fg=color, bold=True)


_LABEL = re.compile(r"(hint:|next:|[a-z](?:\S| (?! ))*(?=  |$))|  (failed) +(?=[\d,]*[1-9])")
_LABEL_COLORS = {"hint:": "cyan", "next:": "green"}


def color_line(line: str, stream: TextIO | None) -> str:
    """A line of a summary, with its label in bold or in a color, and failures in red; see `color_label`."""
    if not shows_colors(stream) or (found := _LABEL.match(line)) is None:
        return line
    import click

    if found[2]:
        return click.style(line, fg="red")
    return click.style(found[1], fg=_LABEL_COLORS.get(found[1]), bold=True) + line[found.end() :]


def to_json_line(value: object) -> str:
    """A value as a line of JSON that any terminal can show: what can't be printed becomes its JSON escape, such as half
    a surrogate pair, or what would control the terminal."""
    return _escape_unprintable(json.dumps(value, ensure_ascii=False))


def echo_json_lines(lines: bytes) -> None:
    """Prints lines of JSON on stdout, as they stand; on a terminal what can't be printed becomes its JSON escape."""
    import click

    if sys.stdout.isatty():
        lines = "\n".join(map(_escape_unprintable, lines.decode(errors="replace").split("\n"))).encode()
    click.echo(lines, nl=False)


def _escape_unprintable(line: str) -> str:
    """Of a line of JSON: what can't be printed stands inside of strings only."""
    return line if line.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


@contextmanager
def printing_result(status: int) -> Iterator[None]:
    """Wraps the printing of a result by a command that exits with `status`; where the result can't be printed, it
    decides the exit status instead.

    0 and 1 promise that the caller has the answer, so they become 75: the same command prints it again. Any other
    status says to a scheduler what to do next (77: a person must act), and stays true.
    """
    try:
        yield
    except StdoutError as error:
        if status not in _OWN_RESULT:
            error.exit_status = ExitStatus(status)
        raise


class MessageStream(io.FileIO):
    """For stderr: drops what can't be written, and reports every write as done.

    It takes text without a buffer between: a buffer has a lock, and where one thread waits for a terminal that stands
    still, the main thread would wait for the lock, and handle no signal.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        rest = memoryview(data).cast("B")
        while rest:
            try:
                written: int | None = super().write(rest)
            except OSError:
                break
            if written is None:
                break
            rest = rest[written:]
        return memoryview(data).nbytes


class ResultStream(io.FileIO):
    """For stdout: raises at the first write that fails, and drops the rest.

    Python flushes stdout at exit; without the dropping, the same error would come again there, with a traceback.
    """

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
            select.select([], [self], [])  # another process made this pipe or terminal non-blocking: wait for room
        return memoryview(data).nbytes


def install_streams() -> None:
    """Replaces the process's stdout and stderr by streams that behave as the head of this file says."""
    codecs.register_error(_ESCAPED_LIKE_JSON, escape_like_json)
    occupy_closed_descriptors()
    if sys.stdout is sys.__stdout__:  # leave alone what a test, or an embedding program, put there
        sys.stdout = wrap_descriptor(ResultStream, 1, sys.__stdout__)
    if sys.stderr is sys.__stderr__:
        sys.stderr = wrap_descriptor(MessageStream, 2, sys.__stderr__, buffered=False)


def escape_like_json(error: UnicodeError) -> tuple[str, int]:
    """For `codecs`: the JSON escapes of what an encoding doesn't have, so that a line of JSON stays what it says."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def occupy_closed_descriptors() -> None:
    """Opens /dev/null for each of stdin, stdout and stderr that is closed.

    The system gives a free descriptor to the next file that is opened: messages would end up in the journal.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one


def wrap_descriptor(kind: type[io.FileIO], number: int, before: TextIO | None, *, buffered: bool = True) -> TextIO:
    stream = kind(os.devnull, "wb") if before is None else kind(number, "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(stream) if buffered else stream,
        encoding="utf-8" if before is None else before.encoding,
        errors=None if before is None else CHARACTER_ERRORS.get(before.errors or "strict", before.errors),
        line_buffering=before is not None,
        write_through=not buffered,
    )
