"""A new chance for the failed files of a run, in the same directory.

Their lines are first copied durably to `failures.<generation>.jsonl`; then one line in the journal, `reopened`, says
which parts go out again, and from there `failures.jsonl` begins at 0. A crash before that line leaves a copy that
nobody refers to; a crash after it leaves old failures behind the committed end, which the next start cuts off.

Files that failed as `overdue` or `unresolved` may have been paid: they don't go out again, but back into the hands of
those who watch their jobs (or look for them), who send them again only when that is proven to be safe.
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from classify_batch.clock import to_iso
from classify_batch.journal.entry import write_part
from classify_batch.journal.replay import Reader, Standing
from classify_batch.journal.writer import JournalWriter
from classify_batch.manifest.plan import PlanReader
from classify_batch.ports import Log, RunStore
from classify_batch.records import AttemptKey, FailureCode, Part, to_ranges
from classify_batch.states import Kind


def earlier_failures_name(generation: int) -> str:
    """Where the failures are kept that the `generation`-th retry put aside."""
    return f"failures.{generation}.jsonl"


class _Old(NamedTuple):
    """An attempt that was given up and may have been paid."""

    key: AttemptKey
    job_id: str | None


@dataclass(slots=True)
class _Failed:
    """The failed files, as positions in their chunks."""

    again: dict[int, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("H")))
    attempts: dict[int, int] = field(default_factory=dict)
    old: dict[_Old, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("H")))


async def reopen_failures(store: RunStore, standing: Standing, journal: JournalWriter, plan: PlanReader) -> int:
    """Reopens all failed files; returns how many. Only after the directory was mended, before any outcome is appended.

    Raises:
        StoreError: the disk refused; nothing was reopened, or all was.
    """
    end = standing.failures_end
    if not end:
        return 0
    generation = standing.generation + 1
    await store.replace(earlier_failures_name(generation), store.stream(Log.FAILURES, 0, end))
    failed = await _read_failed(store, end, plan)
    since_s = await _look_back(store, failed)
    sizes = {key: len(await plan.file_ids(key)) for key in {*failed.again, *(old.key.chunk for old in failed.old)}}
    values = {
        "generation": generation,
        "again": [
            {"chunk": chunk, "attempts": failed.attempts[chunk], **write_part(_part(chunk, positions, sizes[chunk]))}
            for chunk, positions in sorted(failed.again.items())
        ],
        "looks": [
            {
                "chunk": old.key.chunk,
                "attempt": old.key.attempt,
                "attempts": failed.attempts[old.key.chunk],
                **write_part(_part(old.key.chunk, positions, sizes[old.key.chunk])),
                **({} if old.job_id is None else {"job_id": old.job_id}),
                "since": to_iso(since_s.get(old.key, 0.0)),
            }
            for old, positions in sorted(failed.old.items(), key=lambda item: item[0].key)
        ],
    }
    journal.record_about_run(Kind.REOPENED, values)
    await journal.durable()
    await store.truncate(Log.FAILURES, 0)
    return sum(map(len, failed.again.values())) + sum(map(len, failed.old.values()))


async def _read_failed(store: RunStore, end: int, plan: PlanReader) -> _Failed:
    failed = _Failed()
    chunk, positions = -1, dict[str, int]()
    async for failure in _lines(store, end):
        if failure["chunk"] != chunk:
            chunk = failure["chunk"]
            positions = {file_id: position for position, file_id in enumerate(await plan.file_ids(chunk))}
        position, key = positions[failure["file_id"]], AttemptKey(chunk, failure["attempt"])
        if failure["code"] == FailureCode.OVERDUE:
            failed.old[_Old(key, failure["job_id"])].append(position)
        elif failure["code"] == FailureCode.UNRESOLVED:
            failed.old[_Old(key, None)].append(position)
        else:
            failed.again[chunk].append(position)
        failed.attempts[chunk] = max(failed.attempts.get(chunk, 0), key.attempt)
    return failed


async def _lines(store: RunStore, end: int) -> AsyncIterator[dict[str, Any]]:
    rest = b""
    async for block in store.stream(Log.FAILURES, 0, end):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield json.loads(line)


async def _look_back(store: RunStore, failed: _Failed) -> dict[AttemptKey, float]:
    """When the create calls that are still in doubt were first intended: the journal knows. Also takes from there how
    many attempts the chunks had, whose other files may have been in later ones: no number is given out twice."""
    doubtful = {old.key for old in failed.old if old.job_id is None}
    since_s: dict[AttemptKey, float] = {}
    reader = Reader(Log.JOURNAL)
    async for block in store.stream(Log.JOURNAL):
        for entry, _ in reader.feed(block):
            if entry.kind is not Kind.SUBMITTING:
                continue
            for item in entry.items:
                if item.chunk in failed.attempts:
                    failed.attempts[item.chunk] = max(failed.attempts[item.chunk], item.attempt)
                if (key := AttemptKey(item.chunk, item.attempt)) in doubtful:
                    since_s.setdefault(key, entry.at_s)
    return since_s


def _part(chunk: int, positions: array[int], size: int) -> Part:
    return Part(chunk, None if len(positions) == size else to_ranges(sorted(positions)))
