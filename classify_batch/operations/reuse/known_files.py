"""Which files the earlier runs have answered, and which of their lines is the one that counts.

UUIDs are compared by value. A file that the input spells otherwise than the earlier run gets the input's spelling:
whoever gave the IDs looks for these in the results, whether a file was reused or sent.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import accumulate, chain, compress, islice, pairwise, repeat, starmap
from pathlib import Path
from typing import NamedTuple, Self

from classify_batch.errors import WorldError
from classify_batch.file_keys import file_keys
from classify_batch.inputs.dedupe import marks_of
from classify_batch.operations.reuse.copied_lines import renamed_line
from classify_batch.operations.reuse.earlier_outcomes import Earlier, proven_lines, whole_lines
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import Buckets, Limits, Spool

_NAMES_HELD = 64
"""So many spellings of each bucket are in memory at once: of all buckets 8 MiB."""


class Judged(NamedTuple):
    """Lines that follow each other: those that count with their file IDs, spelled as the input does, and those that
    don't."""

    lines: list[bytes]
    file_ids: list[str]
    left_out: list[bytes]


class KnownFiles:
    """The file IDs of earlier runs, the newest run first: of a file that is in several of them, the first line counts.

    Close it by `with`. Read the runs, let the input be judged against them (see `inputs.dedupe.Known`), and go
    through the lines of each run in the same order again; their IDs are kept, since to find them takes longest.

    Attributes:
        lines: of all runs.
    """

    def __init__(self, directory: Path | None, limits: Limits) -> None:
        self._buckets = Buckets(directory, limits)
        self._file_ids = Spool(directory, limits)
        self._names = _Names(directory, limits)
        self._opened = ExitStack()
        self._batches: list[int] = []
        self._counts: list[Iterator[bool]] = []
        self._all_count = True
        self._replay = self._file_ids.replay()
        self.lines = 0

    def __enter__(self) -> Self:
        self._opened.enter_context(self._buckets)
        self._opened.enter_context(self._file_ids)
        self._opened.enter_context(self._names)
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

    def among(self, bucket: int, asked: set[str], spellings: Mapping[str, str]) -> set[str]:
        """Those of a bucket's keys that are known; the buckets come in their order."""
        file_ids = self._buckets.bucket(bucket)
        keys = file_keys(file_ids)
        known = asked.intersection(keys)
        simple = len(known) == len(keys)
        unknown = set[str]() if simple else set(keys) - known
        self._all_count = self._all_count and simple
        self._counts.append(repeat(True) if simple else marks_of(keys, unknown))
        if known and (spellings or keys is not file_ids):
            counting = list(compress(zip(file_ids, keys, strict=True), marks_of(keys, unknown)))
            names = [spellings.get(key, key) for _, key in counting]
            if names != [file_id for file_id, _ in counting]:
                self._names.add(bucket, names)
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
            return self._named(lines, file_ids, [])
        counts = list(map(next, map(self._counts.__getitem__, self._buckets.numbers(file_ids))))
        if all(counts):
            return self._named(lines, file_ids, [])
        left_out = [line for line, counting in zip(lines, counts, strict=True) if not counting]
        return self._named(list(compress(lines, counts)), list(compress(file_ids, counts)), left_out)

    def _named(self, lines: list[bytes], file_ids: list[str], left_out: list[bytes]) -> Judged:
        """The lines that count, with the names that the input gives to their files."""
        if not self._names:
            return Judged(lines, file_ids, left_out)
        for place, bucket in enumerate(self._buckets.numbers(file_ids)):
            name = self._names.next_of(bucket)
            if name is not None and name != file_ids[place]:
                lines[place], file_ids[place] = renamed_line(lines[place], name), name
        return Judged(lines, file_ids, left_out)


class _Names:
    """What the input calls files that it spells otherwise than the earlier runs: for each bucket that has such a file,
    a name for each of its lines that counts, in their order. All but a few wait in a temporary file."""

    def __init__(self, directory: Path | None, limits: Limits) -> None:
        self._file = Spool(directory, limits)
        self._of_bucket: dict[int, Iterator[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def __bool__(self) -> bool:
        return bool(self._of_bucket)

    def add(self, bucket: int, names: Sequence[str]) -> None:
        parts = ["\n".join(names[at : at + _NAMES_HELD]).encode() for at in range(0, len(names), _NAMES_HELD)]
        ends = array("Q", accumulate(map(len, parts), initial=self._file.append(b"".join(parts))))
        self._of_bucket[bucket] = chain.from_iterable(starmap(self._read, pairwise(ends)))

    def next_of(self, bucket: int) -> str | None:
        """The name of the next line of a bucket; None where nothing in it is spelled otherwise."""
        names = self._of_bucket.get(bucket)
        return None if names is None else next(names)

    def _read(self, start: int, end: int) -> list[str]:
        return self._file.read(start, end - start).decode().split("\n")
