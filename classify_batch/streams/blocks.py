"""Files and stdin as blocks of bytes."""

from __future__ import annotations

import io
import select
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import aiofiles
import anyio.to_thread

from classify_batch.errors import SourceError

BLOCK_BYTES = 1 << 18
"""Large enough that the hop to a thread costs little, small enough that a batch is no memory worth naming."""

_NO_STDIN = "give the path of a file instead of -"
_PATIENCE_S = 0.2
"""How long a thread waits for stdin before it looks whether anybody still wants it: Ctrl-C waits as long."""


async def read_file(path: Path) -> AsyncIterator[bytes]:
    """A file's blocks. Raises SourceError for one that is missing, a directory or can't be read."""
    try:
        async with aiofiles.open(path, "rb", buffering=0) as file:
            while block := await file.read(BLOCK_BYTES):
                yield block
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SourceError(
            f"input {str(path)!r} can't be read: {reason}",
            hint="give the path of a readable file, - for stdin, or project: for the project's files",
        ) from None


async def read_stdin() -> AsyncIterator[bytes]:
    """Stdin's blocks, without a thread that would wait for a line which never comes."""
    if sys.stdin is None:
        raise SourceError("stdin is closed", hint=_NO_STDIN)
    stdin = sys.stdin.buffer
    try:
        while (block := await anyio.to_thread.run_sync(_read_if_ready, stdin)) != b"":
            if block is not None:
                yield block
    except (OSError, ValueError) as error:
        raise SourceError(f"stdin can't be read: {error}", hint=_NO_STDIN) from None


def _read_if_ready(stdin: BinaryIO) -> bytes | None:
    """What is there, b"" at the end, None while nothing has come."""
    try:
        descriptor = stdin.fileno()
    except io.UnsupportedOperation:
        return stdin.read(BLOCK_BYTES)
    if sys.platform != "win32" and not select.select([descriptor], [], [], _PATIENCE_S)[0]:
        return None
    return stdin.read1(BLOCK_BYTES) if isinstance(stdin, io.BufferedReader) else stdin.read(BLOCK_BYTES)
