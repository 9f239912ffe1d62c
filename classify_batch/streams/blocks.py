"""Files and stdin as blocks of bytes."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import aiofiles
import anyio.to_thread

from classify_batch.errors import SourceError
from classify_batch.streams.closing import closing

BLOCK_BYTES = 1 << 18
"""Small enough that what is made of it stays in the CPU's cache, and that the threads' heaps keep little of freed
ones."""

_BLOCKS_AT_ONCE = 4
"""A hop to a thread and back takes longer than reading a block."""

_NO_STDIN = "give the path of a file instead of -"
_PATIENCE_S = 0.2
"""How long a thread waits for bytes before it looks whether anybody still wants them: Ctrl-C waits as long."""


async def read_file(path: Path) -> AsyncIterator[bytes]:
    """A file's blocks. A FIFO, or a device, may be silent for as long as it likes: no thread waits in it.

    Raises:
        SourceError: the file is missing, a directory, or can't be read.
    """
    try:
        async with aiofiles.open(path, "rb", buffering=0, opener=_open_without_waiting) as file:
            descriptor = file.fileno()
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                async with closing(read_descriptor(descriptor)) as blocks:
                    async for block in blocks:
                        yield block
            else:
                while (piece := await anyio.to_thread.run_sync(_read_descriptor_if_ready, descriptor)) != b"":
                    if piece is not None:
                        yield piece
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SourceError(
            f"input {str(path)!r} can't be read: {reason}",
            hint="give the path of a readable file, - for stdin, or project: for the project's files",
        ) from None


async def read_descriptor(descriptor: int, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
    """The blocks of an open file that has a size, from `start` to `end`, or to its own end. After the first block
    several are read at once. Raises OSError."""
    count = 1
    while blocks := await anyio.to_thread.run_sync(_read_blocks, descriptor, start, end, count):
        count = _BLOCKS_AT_ONCE
        for block in blocks:
            start += len(block)
            yield block


def _read_blocks(descriptor: int, start: int, end: int | None, count: int) -> list[bytes]:
    blocks: list[bytes] = []
    while len(blocks) < count:
        block = os.pread(descriptor, BLOCK_BYTES if end is None else max(0, min(BLOCK_BYTES, end - start)), start)
        if not block:
            break
        blocks.append(block)
        start += len(block)
    return blocks


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


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens also a FIFO at once: otherwise the thread would wait until somebody else opens it for writing."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_descriptor_if_ready(descriptor: int) -> bytes | None:
    """What is there, b"" at the end, None while nothing has come, or nobody has opened a FIFO for writing."""
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    if not ready.poll(_PATIENCE_S * 1000):
        return None
    try:
        return os.read(descriptor, BLOCK_BYTES)
    except BlockingIOError:  # another reader was faster
        return None


def _read_if_ready(stdin: BinaryIO) -> bytes | None:
    """What is there, b"" at the end, None while nothing has come."""
    try:
        descriptor = stdin.fileno()
    except io.UnsupportedOperation:
        return stdin.read(BLOCK_BYTES)
    if sys.platform != "win32" and not select.select([descriptor], [], [], _PATIENCE_S)[0]:
        return None
    return stdin.read1(BLOCK_BYTES) if isinstance(stdin, io.BufferedReader) else stdin.read(BLOCK_BYTES)
