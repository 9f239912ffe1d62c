"""The shards of a run: contiguous pieces of its plan, each carried out in a run directory of its own.

    RUN/run.json, plan.jsonl            the whole run; run.json says which bytes of the plan each shard has
    RUN/shards/00003/                   a run directory like any other: run.json, plan.jsonl, journal, outcomes, lock

Which files a shard has is decided once, when the run is planned, by the plan and the number of shards alone. A shard's
plan.jsonl is a copy of its piece of the plan, and its run.json is made of the whole run's: so whoever has a shard's
directory has all that it takes to carry it out, to prove it, and to read it. Both are written by the shard's first
process. Chunks keep the numbers of the whole plan, so that no two shards have one of the same number.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from classify_batch.errors import DamagedError, RunDirectoryError
from classify_batch.rundir.run_json import FORMAT, RunFile, ShardRange, create_run_file
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import PLAN_JSONL

if TYPE_CHECKING:
    from classify_batch.ports import RunStore
    from classify_batch.rundir.plan import PlanSummary
    from classify_batch.rundir.run_json import Reused

SHARDS_MAX = 10_000

_MAX_CREDITS = "max_credits"
_HINT = "restore the file from a copy, or begin again in a new run directory"


# --- Which chunks a shard has -----------------------------------------------------------------------------------------


def first_chunks(shards: int, *, files: int, files_per_chunk: int, done_chunks: int = 0) -> list[int]:
    """The first chunk of each shard, and behind them the number of chunks: each shard has the chunks up to the next
    one's first. Those that have only whole chunks differ by one chunk at most.

    Args:
        files: in all chunks but the first `done_chunks`, whose outcomes were reused.
        files_per_chunk: in each of them; the last one may have fewer.

    >>> first_chunks(3, files=25, files_per_chunk=4)
    [0, 2, 4, 7]
    >>> first_chunks(4, files=5, files_per_chunk=4, done_chunks=10)
    [10, 10, 11, 11, 12]
    """
    chunks = -(-files // files_per_chunk)
    # The chunk boundary that is nearest to an even share of the files.
    cuts = [(2 * shard * files + shards * files_per_chunk) // (2 * shards * files_per_chunk) for shard in range(shards)]
    return [done_chunks + min(cut, chunks) for cut in [*cuts, chunks]]


async def cut_plan_into_shards(
    store: RunStore, plan: PlanSummary, reused: Reused | None, files_per_chunk: int, shards: int
) -> list[ShardRange]:
    """What each shard has of the plan that was just written. Reads it once."""
    done_chunks, done_files = (0, 0) if reused is None else (reused.chunks, reused.files)
    files = plan.files - done_files
    firsts = first_chunks(shards, files=files, files_per_chunk=files_per_chunk, done_chunks=done_chunks)
    offsets, hashes = await find_chunks(store, firsts)
    before = [min((first - done_chunks) * files_per_chunk, files) for first in firsts]
    return [
        {
            "first_chunk": firsts[shard],
            "chunks": firsts[shard + 1] - firsts[shard],
            "files": before[shard + 1] - before[shard],
            "start": offsets[shard],
            "end": offsets[shard + 1],
            "sha256": hashes[shard],
        }
        for shard in range(shards)
    ]


async def find_chunks(store: RunStore, firsts: Sequence[int]) -> tuple[list[int], list[str]]:
    """The byte at which each of some chunks begins, and the SHA-256 of what is between each two of them.
    `firsts`: ascending; the last may be the number of chunks."""
    offsets: list[int] = []
    digests = [hashlib.sha256() for _ in firsts]  # of what stands behind each of them
    chunk = place = 0
    async with closing(store.stream(PLAN_JSONL)) as blocks:
        async for block in blocks:
            at = 0
            while len(offsets) < len(firsts):
                end = _end_of_lines(block, at, firsts[len(offsets)] - chunk)
                if end is None:
                    break
                if offsets:
                    digests[len(offsets) - 1].update(block[at:end])
                chunk, at = firsts[len(offsets)], end
                offsets.append(place + end)
            if offsets:
                digests[len(offsets) - 1].update(memoryview(block)[at:])
            chunk += block.count(b"\n", at)
            place += len(block)
            await checkpoint()
    offsets += [place] * (len(firsts) - len(offsets))  # of a plan without chunks
    return offsets, [digest.hexdigest() for digest in digests[:-1]]


def _end_of_lines(block: bytes, at: int, lines: int) -> int | None:
    """Where so many lines end that begin at `at`; None: not in this block."""
    if block.count(b"\n", at) < lines:
        return None
    for _ in range(lines):
        at = block.index(b"\n", at) + 1
    return at


# --- A shard's own files ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShardSlice:
    """What a shard takes of the whole run.

    Attributes:
        store, run, run_sha256: of the whole run.
        index: which shard it is, from 0.
    """

    store: RunStore
    run: RunFile
    run_sha256: str
    index: int

    @property
    def chunk_range(self) -> ShardRange:
        assert self.run.shards is not None  # noqa: S101 - only a run with shards has slices
        return self.run.shards[self.index]

    def share_of_credits(self, credits: float) -> float:
        """The shard's share of what the whole run may cost: as large as its share of the files that are sent. Rounded
        down, so that all shares together are no more than the whole. (A shard without files spends nothing.)"""
        sent, files = self.run.files - self.run.reused_files, self.chunk_range["files"]
        return math.floor(credits * files / sent * 1e6) / 1e6 if files else credits

    def credits_of_all(self, share: float) -> float:
        """What the whole run may cost where this is the shard's share of it."""
        sent, files = self.run.files - self.run.reused_files, self.chunk_range["files"]
        return round(share * sent / files, 4) if files else share

    async def write_shard(self, store: RunStore) -> RunFile:
        """Writes the shard's plan.jsonl and run.json, the latter last: without it there is no run.

        Raises:
            DamagedError: the plan of the whole run is not as it was written.
        """
        digest = hashlib.sha256()
        await store.replace(PLAN_JSONL, self._plan_blocks(digest))
        if digest.hexdigest() != self.chunk_range["sha256"]:
            raise DamagedError(
                f"{PLAN_JSONL} in {self.store.where}: shard {self.index} of it is not as it was written", hint=_HINT
            )
        run = self.as_run_file()
        await create_run_file(store, run)
        return run

    def as_run_file(self) -> RunFile:
        """What the shard's run.json says: the whole run's settings, which are about the shard's files only."""
        identity = self.run.identity.copy()
        identity.pop("ids_sha256", None)  # of all files
        settings = self.run.settings.copy()
        settings["limits"] = limits = dict(settings.get("limits", {}))
        if isinstance(credits := limits.get(_MAX_CREDITS), int | float):
            limits[_MAX_CREDITS] = self.share_of_credits(credits)
        return replace(
            self.run,
            format=FORMAT,
            settings=settings,
            identity=identity,
            files=self.chunk_range["files"],
            duplicates=0,
            chunks=self.chunk_range["chunks"],
            plan_sha256=self.chunk_range["sha256"],
            reused=None,
            inputs=None,
            shards=None,
            shard={
                "index": self.index,
                "count": len(self.run.shards or ()),
                "first_chunk": self.chunk_range["first_chunk"],
                "run_sha256": self.run_sha256,
            },
        )

    def refuse_other(self, run: RunFile, where: str) -> None:
        """Raises RunDirectoryError where the run in the shard's directory is not this shard."""
        if run.shard != self.as_run_file().shard or run.plan_sha256 != self.chunk_range["sha256"]:
            raise RunDirectoryError(
                f"{where} is not shard {self.index} of the run in {self.store.where}",
                hint="somebody moved it there: put both back, or begin a new run directory",
            )

    async def _plan_blocks(self, digest: hashlib._Hash) -> AsyncIterator[bytes]:
        start, end = self.chunk_range["start"], self.chunk_range["end"]
        if start == end:
            return
        async with closing(self.store.stream(PLAN_JSONL, start, end)) as blocks:
            async for block in blocks:
                digest.update(block)
                yield block
