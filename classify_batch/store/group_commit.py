"""Group commit: many appends, one fsync.

    loop      append append append        append append          append …
                │ gather                    │ gather
    thread      └─ write, fsync ────────────┴─ write, fsync ─────┴─ …

An fsync takes milliseconds and one task can't wait for it without all others waiting too, so a thread of its
own does it, and whatever is appended meanwhile shares the next one. The event loop owns all state: it
gathers, hands a whole group over when the thread is free, and wakes a group's waiters when the thread is
done. So nothing is locked, and the thread is a plain consumer of a queue.

Why a group is handed over by `call_soon` and not at once: the tasks that a finished group wakes append again
in that very turn of the loop. Taken after the turn they form one group; taken at once they would split into
two that alternate for ever, each waiting for the other's fsync.

The order within a group is the promise of `RunStore.append`: results and failures are written and made
durable first, and not before then is the first byte of the journal written.

What nobody waits for may wait itself, for `LAZY_S`: a run that isn't hurried would otherwise pay a write, an
fsync and two wake-ups for each line, where the next line that somebody waits for could take it along.

A failed write or fsync is the end: after a failed fsync the kernel may have dropped the bytes and call the
pages clean, so that a second fsync would lie. Every later append and commit is refused; a new process reads
what is really there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NoReturn

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint

from classify_batch.errors import InternalError, RunDirectoryError, StoreError
from classify_batch.store.atomic_file import Fsync, Permit, allow, sync_directory
from classify_batch.store.os_errors import other_writer, refusals, taken_away
from classify_batch.store.plain_file import has_lost_name
from classify_batch.vocabulary import DATA_LOGS, Log

Write = Callable[[int, memoryview], int]

LAZY_S = 0.1

_OPEN = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class _Group:
    """What becomes durable together.

    Attributes:
        blocks: the bytes for each log, in the order of the calls.
        starts: where in its log the first of them must come to lie.
        waiters: a future for each waiting task, so that a cancelled one takes nobody with it.
        failed: set before they are woken; the error itself is the committer's.
    """

    __slots__ = ("blocks", "failed", "starts", "waiters")

    def __init__(self) -> None:
        self.blocks: dict[Log, list[bytes]] = {}
        self.starts: dict[Log, int] = {}
        self.waiters: list[asyncio.Future[None]] = []
        self.failed = False

    def wake(self, *, failed: bool) -> None:
        self.failed = failed
        for waiter in self.waiters:
            if not waiter.done():  # cancelled
                waiter.set_result(None)

    def add(self, log: Log, data: bytes, start: int) -> None:
        if (blocks := self.blocks.get(log)) is not None:
            blocks.append(data)
        else:
            self.blocks[log] = [data]
            self.starts[log] = start


class LogWriter:
    """The thread's side: puts groups behind the ends of the logs in `directory`.

    `flags`: further ones to open with. `permit`: asked before each write, of a file that is open already: whoever takes
    the directory from a process that stands still gives each log a new file.
    """

    def __init__(
        self,
        directory: Path,
        *,
        fsync: Fsync = os.fsync,
        write: Write = os.write,
        flags: int = os.O_NOFOLLOW,
        permit: Permit = allow,
    ) -> None:
        self._directory = directory
        self._flags = _OPEN | flags
        self._fsync = fsync
        self._write = write
        self._permit = permit
        self._descriptors: dict[Log, int] = {}

    def put(self, group: _Group) -> None:
        """Makes a group durable, data before journal. Raises StoreError."""
        self._refuse_files_without_names()
        data = [log for log in DATA_LOGS if log in group.blocks]
        for log in data:
            self._append_group(log, group)
        for log in data:
            self._sync_log(log)
        if Log.JOURNAL in group.blocks:
            self._append_group(Log.JOURNAL, group)
            self._sync_log(Log.JOURNAL)

    def _refuse_files_without_names(self) -> None:
        """Of all logs, whichever is written to next: no job may be paid whose outcome nobody could read."""
        with refusals(self._directory):
            self._permit()  # its error says more: where another process took the directory, the logs are others, too
        for log, descriptor in self._descriptors.items():
            path = self._directory / log
            with refusals(path):
                try:
                    named = path.stat()
                except (FileNotFoundError, NotADirectoryError):
                    raise taken_away(path) from None
                if has_lost_name(os.fstat(descriptor), named):
                    raise taken_away(path)

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            with suppress(OSError):  # every fsync came before; there is nothing left that closing could lose
                os.close(descriptor)
        self._descriptors.clear()

    def _append_group(self, log: Log, group: _Group) -> None:
        path = self._directory / log
        with refusals(path):
            self._permit()  # before a file is made
            descriptor = self._open_log(log)
            self._permit()
            # O_APPEND writes behind whatever is there, and the journal will name offsets: so it has to be what we left.
            if (size := os.fstat(descriptor).st_size) != (start := group.starts[log]):
                raise other_writer(path, size, start)
            rest = memoryview(b"".join(group.blocks[log]))
            while rest:
                rest = rest[self._write(descriptor, rest) :]  # a write may take less than it was given

    def _open_log(self, log: Log) -> int:
        """The log's descriptor. Its name is made durable once, also where a killed process created it."""
        if log not in self._descriptors:
            self._descriptors[log] = os.open(self._directory / log, self._flags, 0o600)
            sync_directory(self._directory, self._fsync)
        return self._descriptors[log]

    def _sync_log(self, log: Log) -> None:
        with refusals(self._directory / log):
            self._fsync(self._descriptors[log])


class Committer:
    """The loop's side. Bound to the asyncio loop of the first append; its thread starts with it."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self._queue: SimpleQueue[_Group | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._gathering = _Group()
        self._flying: _Group | None = None
        self._armed: asyncio.Handle | None = None
        self._closed = False
        self._failure: BaseException | None = None
        self._abandoned: StoreError | None = None

    def abandon(self, failure: StoreError) -> None:
        """From now on everything fails with this error; what is being written is not waited for."""
        self._abandoned = failure
        if self._failure is None:
            self._failure = failure
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        dropped, self._gathering = self._gathering, _Group()
        dropped.wake(failed=True)

    def append(self, log: Log, data: bytes, start: int) -> None:
        if self._failure is not None or self._closed:
            self._raise_failure()
        self._gathering.add(log, data, start)
        # While a group is being written, its end takes this along.
        if self._flying is None and self._armed is None:
            self._armed = asyncio.get_running_loop().call_later(LAZY_S, self._start_writing)

    async def commit(self) -> None:
        # First of all: what had gathered when the writing failed stays there, and nobody would ever wake who waits.
        if self._failure is not None or self._closed:
            self._raise_failure()
        # With nothing new, the caller's bytes may still be on their way.
        group = self._gathering if self._gathering.blocks else self._flying
        if group is None:
            await checkpoint()
            return
        waiter = asyncio.get_running_loop().create_future()
        if group is self._gathering and self._flying is None and not group.waiters:
            self._schedule_write()
        group.waiters.append(waiter)
        await waiter
        if group.failed:
            self._raise_failure()

    async def aclose(self) -> None:
        """Commits what is left, also in a cancelled task, and ends the thread."""
        if self._closed:
            return
        with anyio.CancelScope(shield=True):
            try:
                if self._failure is None:
                    await self.commit()
            finally:
                self._closed = True
                self._queue.put(None)
                if self._thread is not None:
                    await to_thread.run_sync(self._thread.join)

    def _raise_failure(self) -> NoReturn:
        """Raises a new error for each caller: a shared one would gather all their tracebacks."""
        match self._failure:
            case None:
                raise InternalError("append or commit after the store was closed")
            case StoreError() | RunDirectoryError() as failure:
                raise type(failure)(str(failure), hint=failure.hint) from (failure.__cause__ or failure)
            case failure:
                raise InternalError("the thread that commits died") from failure

    def _schedule_write(self) -> None:
        """Hands the group over after the present turn of the loop."""
        if self._armed is not None:
            self._armed.cancel()
        self._armed = asyncio.get_running_loop().call_soon(self._start_writing)

    def _start_writing(self) -> None:
        self._armed = None
        if self._thread is None:
            self._thread = Thread(
                target=self._write_group, args=(asyncio.get_running_loop(),), name="commit", daemon=True
            )
            self._thread.start()
        self._flying, self._gathering = self._gathering, _Group()
        self._queue.put(self._flying)

    def _finish_group(self, failure: BaseException | None) -> None:
        failure = self._abandoned if failure is None else failure
        # After a failure nothing more is written: those who wait for the next group must hear of it now.
        groups = [self._flying] if failure is None else [self._flying, self._gathering]
        self._flying = None
        self._failure = failure
        for group in groups:
            if group is not None:
                group.wake(failed=failure is not None)
        if failure is None and self._gathering.blocks:
            self._schedule_write()  # it waited for an fsync already

    def _write_group(self, loop: asyncio.AbstractEventLoop) -> None:
        failure: BaseException | None = None
        while failure is None and (group := self._queue.get()) is not None:
            try:
                self._writer.put(group)
            except BaseException as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                failure = error
            with suppress(RuntimeError):  # the loop is gone, and with it all who waited
                loop.call_soon_threadsafe(self._finish_group, failure)
        self._writer.close()
