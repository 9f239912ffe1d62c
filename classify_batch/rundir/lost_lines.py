"""Tells a journal that has lost lines which were on the disk: outcomes stand behind it of attempts it doesn't know.

An intent is durable before its create leaves, and so long before its outcomes are written. What a killed process or a
power loss leaves behind what is committed are outcomes of attempts that the journal has. Where it lacks one, it was cut
off at the end of a line, or put back from an older copy; to go on would pay again for all that was made since.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from classify_batch.errors import DamagedError
from classify_batch.ports import RunStore
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import Log

_HINT = (
    f"nothing was overwritten; put the {Log.JOURNAL} back that belongs to these outcomes, or begin a new run directory "
    "with the IDs that have none"
)


class _Line(msgspec.Struct, gc=False):
    """What a line of outcomes says of its attempt."""

    chunk: int
    attempt: int


_decode = msgspec.json.Decoder(_Line).decode


async def answer_sizes(store: RunStore) -> dict[Log, int]:
    """How long the files of answers are. Asked before the journal is read: a process at work adds to both."""
    return {log: await store.size(log) or 0 for log in (Log.RESULTS, Log.PROVISIONAL)}


async def refuse_lost_lines(store: RunStore, found: RunOnDisk, sizes: Mapping[Log, int]) -> None:
    """Raises DamagedError where answers that are not committed are of an attempt that the journal doesn't know.

    Not while retries wait, whose attempts get their numbers in lines that nobody waits for; nor in a run of v2 of
    version 0.2, whose creates left before their intents were durable.
    """
    snapshot = found.snapshot
    if snapshot.pending_retries or not snapshot.credits_all_journalled:
        return
    ends = {Log.RESULTS: snapshot.results_end, Log.PROVISIONAL: snapshot.provisional_end}
    for log, size in sizes.items():
        if size > ends[log]:
            await _refuse_unknown_attempts(store, snapshot, log, ends[log], size)


async def _refuse_unknown_attempts(store: RunStore, snapshot: RunSnapshot, log: Log, start: int, end: int) -> None:
    place, rest = start, b""
    async with closing(store.stream(log, start, end)) as blocks:
        async for block in blocks:
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if (unknown := _attempt_of_line(line)) is not None and not _knows_attempt(snapshot, unknown):
                    raise DamagedError(
                        f"{Log.JOURNAL} in {store.where} has lost lines: {log} has an answer, at byte {place}, of "
                        f"attempt {unknown.attempt} of chunk {unknown.chunk}, which it doesn't know",
                        hint=_HINT,
                    )
                place += len(line) + 1


def _attempt_of_line(line: bytes) -> _Line | None:
    """None for what a power loss has torn."""
    try:
        return _decode(line)
    except (msgspec.MsgspecError, ValueError):
        return None


def _knows_attempt(snapshot: RunSnapshot, line: _Line) -> bool:
    try:
        return line.attempt < snapshot.next_attempt(line.chunk)
    except IndexError:
        return False
