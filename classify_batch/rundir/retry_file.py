"""`retry.<generation>.jsonl`: what is to become of the failed files that got a new chance.

Written whole, before the journal says `reopened`; a line per batch of parts, each with a checksum like the journal's:

    {"again":[{…}],"looks":[{…}],"crc":1234567890}

First come the attempts whose old jobs are read again (`looks`), since they may have been paid; then the parts that are
sent again (`again`). A run takes up one line after the other, and says so in its journal (`retried`): so its memory
holds no more of them than it works on, and a killed process has taken a line or hasn't. After the last line the file is
removed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import msgspec

from classify_batch.errors import DamagedError
from classify_batch.lifecycle import Recheck, RequeuedPart, Retried
from classify_batch.ports import RunStore
from classify_batch.rundir.journal.line import DAMAGED_HINT, BadLineError, refuse_unsound, seal_line
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import retry_name


class _Line(msgspec.Struct):
    requeued: list[RequeuedPart] = msgspec.field(name="again")
    rechecks: list[Recheck] = msgspec.field(name="looks")


_decode = msgspec.json.Decoder(_Line).decode


@dataclass(frozen=True, slots=True)
class RetryBatch:
    """A line: it ends at byte `end` of the file."""

    generation: int
    end: int
    requeued: list[RequeuedPart]
    rechecks: list[Recheck]

    def as_retried(self) -> Retried:
        """What the journal says when a run takes the line up."""
        return {"generation": self.generation, "taken": self.end, "again": self.requeued, "looks": self.rechecks}


def encode_batch(requeued: list[RequeuedPart], rechecks: list[Recheck]) -> bytes:
    values = {"again": requeued, "looks": rechecks}
    try:
        return seal_line(msgspec.json.encode(values))
    except UnicodeEncodeError:  # a lone surrogate in what a server said
        return seal_line(json.dumps(values, separators=(",", ":")).encode("ascii"))


async def pending_retry_batches(
    store: RunStore, snapshot: RunSnapshot, *, rechecks_only: bool = False
) -> AsyncGenerator[RetryBatch, None]:
    """The lines that the run has not taken up yet, in their order. `rechecks_only`: of each generation only the first
    ones, which have rechecks.

    Raises:
        DamagedError: the file is not as it was written.
    """
    for generation in sorted(snapshot.pending_retries):
        pending = snapshot.pending_retries[generation]
        async with closing(_stream_batches(store, generation, pending.taken, pending.end)) as batches:
            async for batch in batches:
                if rechecks_only and not batch.rechecks:
                    break
                yield batch


async def _stream_batches(store: RunStore, generation: int, start: int, end: int) -> AsyncGenerator[RetryBatch, None]:
    name = retry_name(generation)
    place, parts = start, list[bytes]()
    try:
        async with closing(store.stream(name, start, end)) as blocks:
            async for block in blocks:
                *lines, rest = block.split(b"\n")
                for line in lines:
                    whole = b"".join([*parts, line])
                    parts.clear()
                    requeued, rechecks = _read_line(whole, f"{name} in {store.where}, byte {place}")
                    place += len(whole) + 1
                    yield RetryBatch(generation, place, requeued, rechecks)
                parts.append(rest)
    except FileNotFoundError:
        pass
    if place != end:
        raise DamagedError(f"{name} in {store.where} has no whole line at byte {place}", hint=DAMAGED_HINT)


def _read_line(line: bytes, where: str) -> tuple[list[RequeuedPart], list[Recheck]]:
    try:
        refuse_unsound(line)
        read = _decode(line)
    except (BadLineError, msgspec.MsgspecError, ValueError) as error:
        raise DamagedError(f"{where}: not as it was written ({error})", hint=DAMAGED_HINT) from None
    return read.requeued, read.rechecks
