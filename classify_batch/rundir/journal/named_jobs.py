"""Which jobs a journal names: those are somebody's already, and no candidates for a create whose answer was lost. The
latest of them show whether the job list has the clock of creates.

A shard looks them up in the journals of its siblings, too: their jobs stand in the same list, and can't be
distinguished from its own until their results are read. That is all it is for: a job that a sibling has not written
down yet is a candidate like a stranger's, until its results say whose it is.
"""

from __future__ import annotations

from classify_batch.file_keys import file_key
from classify_batch.ports import NamedFor, RunStore
from classify_batch.rundir.journal.entry import Entry, decode_entry
from classify_batch.rundir.journal.line import BadLineError
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import Kind, Log

_BACK_BYTES = 1 << 16
_LATEST_BYTES_MAX = 1 << 22
_SERVER_S = b'"server_s":'


async def find_line_before(store: RunStore, server_s: float | None) -> int:
    """Where a line begins before which the journal names no job that was made at `server_s` or later, by the server's
    own clock; the journal's beginning, if need be, or where None is asked for. A line that can't be read is passed
    over."""
    end, step = await store.size(Log.JOURNAL) or 0, _BACK_BYTES
    offset = end
    while server_s is not None and offset > step:
        offset, step = offset - step, 2 * step  # doubled: what is sought is near the end, or far away
        block = await store.read(Log.JOURNAL, offset, min(end, offset + _BACK_BYTES))
        lines = block.split(b"\n")
        place = offset + len(lines[0]) + 1
        for line in lines[1:-1]:
            if _SERVER_S in line and (known_s := _server_s_of(line)) is not None and known_s < server_s:
                return place
            place += len(line) + 1
    return 0


def _server_s_of(line: bytes) -> float | None:
    try:
        return decode_entry(line).server_s
    except BadLineError:
        return None


async def read_latest_jobs(store: RunStore) -> dict[str, float | None]:
    """The jobs that the journal's end names as answers to creates, oldest first, each with the server's own time as it
    was known when they were answered. None: unknown. As far back is read as it takes to find any, within a bound."""
    end, length = await store.size(Log.JOURNAL) or 0, _BACK_BYTES
    while end and length <= _LATEST_BYTES_MAX:
        start = max(0, end - length)
        lines = (await store.read(Log.JOURNAL, start, end)).split(b"\n")
        jobs = dict[str, float | None]()
        for line in lines[1 if start else 0 : -1]:
            if b'"job_id"' in line:
                _add_answered_creates(jobs, line)
        if jobs or not start:
            return jobs
        length *= 4
    return {}


def _add_answered_creates(jobs: dict[str, float | None], line: bytes) -> None:
    try:
        entry = decode_entry(line)
    except BadLineError:
        return
    if entry.kind is Kind.SUBMITTED:
        jobs.update((item.job_id, entry.server_s) for item in entry.items if item.job_id is not None)


async def add_jobs_named_from(
    store: RunStore, start: int, wanted: frozenset[str], named: dict[str, NamedFor], *, is_ours: bool = True
) -> int:
    """Adds those of `wanted` that the journal names from byte `start` on. Returns where its last whole line ends.
    `is_ours`: it is this process's; in another's, lines that can't be read are passed over: its last ones may just be
    written, or torn."""
    rest, place = b"", start
    async with closing(store.stream(Log.JOURNAL, start)) as blocks:
        async for block in blocks:
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                place += len(line) + 1
                if b'"job_id"' in line or b'"jobs":[' in line:
                    try:
                        add_named_jobs(named, wanted, decode_entry(line))
                    except BadLineError:
                        if is_ours:
                            raise
    return place


class SiblingJournal:
    """The journal of another shard of the same run, which another process may be writing."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._read_to: int | None = None

    async def search_again_from(self, server_s: float | None) -> None:
        """The next search is for other jobs: it begins where the first one can be named that was made at `server_s`."""
        if await self._store.size(Log.JOURNAL):
            before = await find_line_before(self._store, server_s)
            self._read_to = before if self._read_to is None else min(self._read_to, before)

    async def add_named_jobs(self, wanted: frozenset[str], named: dict[str, NamedFor]) -> None:
        """Adds those of `wanted` that it names, as far as it was not searched yet."""
        size = await self._store.size(Log.JOURNAL) or 0
        start = self._read_to or 0
        if size < start:  # whoever took the shard over cut off what was torn
            start = 0
        if size == start:
            return
        found = dict[str, NamedFor]()
        self._read_to = await add_jobs_named_from(self._store, start, wanted, found, is_ours=False)
        for job_key, named_for in found.items():
            known = named.get(job_key, frozenset())
            named[job_key] = None if named_for is None or known is None else known | named_for


def add_named_jobs(named: dict[str, NamedFor], wanted: frozenset[str], entry: Entry) -> None:
    """`wanted`, and what is added to `named`, are the keys of job IDs."""
    for item in entry.items:
        job_key = None if item.job_id is None else file_key(item.job_id)
        if job_key in wanted and entry.kind in (Kind.SUBMITTED, Kind.ADOPTED):
            named[job_key] = None
        for found_key in wanted.intersection(map(file_key, item.jobs)):
            chunks = named.get(found_key, frozenset())
            named[found_key] = None if chunks is None else chunks | {item.chunk}
    for recheck in entry.rechecks:
        if (old_job := recheck.get("job_id")) is not None and (old_key := file_key(old_job)) in wanted:
            named[old_key] = None
