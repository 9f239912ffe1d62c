"""Which files the earlier runs have answered, and which of their lines is the one that counts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack
from itertools import compress, islice, repeat
from pathlib import Path
from typing import NamedTuple, Self

from classify_batch.errors import WorldError
from classify_batch.manifest.reuse.committed import Earlier, proven_lines, whole_lines
from classify_batch.sources.closing import closing
from classify_batch.sources.distinct import marks_of
from classify_batch.sources.spill import Buckets, Limits, Spool


class Judged(NamedTuple):
    """Lines that follow each other: those that count with their file IDs, and those that don't."""

    lines: list[bytes]
    file_ids: list[str]
    left_out: list[bytes]


class KnownFiles:
    """The file IDs of earlier runs, the newest run first: of a file that is in several of them, the first line counts.

    Close it by `with`. Read the runs, let the input be judged against them (see `sources.distinct.Known`), and go
    through the lines of each run in the same order again; their IDs are kept, since to find them takes longest.

    Attributes:
        lines: of all runs.
    """

    def __init__(self, directory: Path | None, limits: Limits) -> None:
        self._buckets = Buckets(directory, limits)
        self._file_ids = Spool(directory, limits)
        self._opened = ExitStack()
        self._batches: list[int] = []
        self._counts: list[Iterator[bool]] = []
        self._all_count = True
        self._replay = self._file_ids.replay()
        self.lines = 0

    def __enter__(self) -> Self:
        self._opened.enter_context(self._buckets)
        self._opened.enter_context(self._file_ids)
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    async def read(self, runs: Sequence[Earlier]) -> None:
        """Raises DamagedError: a run's results are not there as they were written."""
        for earlier in runs:
            batches = 0
            async with closing(proven_lines(earlier)) as stream:
                async for _, file_ids, _ in stream:
                    self._buckets.add(file_ids)
                    self._file_ids.add(file_ids)
                    self.lines += len(file_ids)
                    batches += 1
            self._batches.append(batches)

    def among(self, bucket: int, asked: set[str]) -> set[str]:
        """Those of a bucket's IDs that are known; the buckets come in their order."""
        file_ids = self._buckets.bucket(bucket)
        known = asked.intersection(file_ids)
        simple = len(known) == len(file_ids)
        self._all_count = self._all_count and simple
        self._counts.append(repeat(True) if simple else marks_of(file_ids, set(file_ids) - known))
        return known

    async def judged(self, number: int, earlier: Earlier) -> AsyncGenerator[Judged, None]:
        """The lines of the `number`-th run; the runs come in their order."""
        held: list[bytes] = []
        async with closing(whole_lines(earlier.store, earlier.run.standing.results_end)) as stream:
            for file_ids in islice(self._replay, self._batches[number]):
                while len(held) < len(file_ids):
                    if (more := await anext(stream, None)) is None:
                        raise WorldError(
                            f"{earlier.store.where} changed while it was read", hint="the same command again"
                        )
                    held += more.data.split(b"\n")
                    held.pop()  # what stands behind the last newline: nothing
                yield self._judge(held[: len(file_ids)], file_ids)
                del held[: len(file_ids)]

    def _judge(self, lines: list[bytes], file_ids: list[str]) -> Judged:
        if self._all_count:
            return Judged(lines, file_ids, [])
        counts = list(map(next, map(self._counts.__getitem__, self._buckets.numbers(file_ids))))
        if all(counts):
            return Judged(lines, file_ids, [])
        left_out = [line for line, counting in zip(lines, counts, strict=True) if not counting]
        return Judged(list(compress(lines, counts)), list(compress(file_ids, counts)), left_out)
