"""Finds the files that earlier runs have answered, and the line that counts for each.

UUIDs are compared by value. If the input spells a file's ID differently than the earlier run, the copy gets the input's
spelling: the user looks for the IDs of the input in the results, whether a file was reused or sent.
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
from classify_batch.operations.reuse.copied_lines import rename_file_in_line
from classify_batch.operations.reuse.earlier_outcomes import EarlierRun, read_proven_lines, read_whole_lines
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import Buckets, Limits, Spool

_SPELLINGS_HELD = 64
"""So many spellings of each bucket are in memory at once: 8 MiB for all buckets."""


class SortedLines(NamedTuple):
    """Lines that follow each other: `lines` count, with `file_ids` in the input's spelling; `left_out` don't count."""

    lines: list[bytes]
    file_ids: list[str]
    left_out: list[bytes]


class KnownFiles:
    """The file IDs of earlier runs, the newest run first: if a file is in several runs, its first line counts.

    Close it by `with`. Read the runs; let the input be compared with them (see `inputs.dedupe.Known`); then sort the
    lines of each run, in the same order of runs. The IDs are kept in a file, since parsing them takes longest.

    Attributes:
        lines: how many lines all runs have.
    """

    def __init__(self, directory: Path | None, limits: Limits) -> None:
        self._buckets = Buckets(directory, limits)
        self._file_ids = Spool(directory, limits)
        self._spellings = InputSpellings(directory, limits)
        self._opened = ExitStack()
        self._batches: list[int] = []
        self._counts: list[Iterator[bool]] = []
        self._all_count = True
        self._replay = self._file_ids.replay()
        self.lines = 0

    def __enter__(self) -> Self:
        self._opened.enter_context(self._buckets)
        self._opened.enter_context(self._file_ids)
        self._opened.enter_context(self._spellings)
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    async def read_runs(self, runs: Sequence[EarlierRun]) -> None:
        """Reads the IDs of all lines. Raises DamagedError where a run's results are not as they were written."""
        for earlier in runs:
            batches = 0
            async with closing(read_proven_lines(earlier)) as stream:
                async for _, file_ids, _ in stream:
                    self._buckets.add(file_ids)
                    self._file_ids.add(file_ids)
                    self.lines += len(file_ids)
                    batches += 1
            self._batches.append(batches)

    def among(self, bucket: int, asked: set[str], spellings: Mapping[str, str]) -> set[str]:
        """The keys of a bucket that are known. Called for each bucket, in order."""
        file_ids = self._buckets.bucket(bucket)
        keys = file_keys(file_ids)
        known = asked.intersection(keys)
        simple = len(known) == len(keys)  # each line is known, and none twice: nothing has to be marked
        unknown = set[str]() if simple else set(keys) - known
        self._all_count = self._all_count and simple
        self._counts.append(repeat(True) if simple else marks_of(keys, unknown))
        if known and (spellings or keys is not file_ids):
            counting = list(compress(zip(file_ids, keys, strict=True), marks_of(keys, unknown)))
            names = [spellings.get(key, key) for _, key in counting]
            if names != [file_id for file_id, _ in counting]:
                self._spellings.add_bucket(bucket, names)
        return known

    async def sorted_lines(self, number: int, earlier: EarlierRun) -> AsyncGenerator[SortedLines, None]:
        """The lines of the run with this number. Called for each run, in order."""
        held: list[bytes] = []
        async with closing(read_whole_lines(earlier.store, earlier.run.snapshot.results_end)) as stream:
            for file_ids in islice(self._replay, self._batches[number]):
                while len(held) < len(file_ids):
                    if (more := await anext(stream, None)) is None:
                        raise WorldError(
                            f"{earlier.store.where} changed while it was read", hint="give the same command again"
                        )
                    held += more.data.split(b"\n")
                    held.pop()  # the empty string behind the last newline
                yield self._sort_lines(held[: len(file_ids)], file_ids)
                del held[: len(file_ids)]

    def _sort_lines(self, lines: list[bytes], file_ids: list[str]) -> SortedLines:
        if self._all_count:
            return self._apply_spellings(lines, file_ids, [])
        counts = list(map(next, map(self._counts.__getitem__, self._buckets.numbers(file_ids))))
        if all(counts):
            return self._apply_spellings(lines, file_ids, [])
        left_out = [line for line, counting in zip(lines, counts, strict=True) if not counting]
        return self._apply_spellings(list(compress(lines, counts)), list(compress(file_ids, counts)), left_out)

    def _apply_spellings(self, lines: list[bytes], file_ids: list[str], left_out: list[bytes]) -> SortedLines:
        """Gives the lines that count the input's spelling of their file IDs."""
        if not self._spellings:
            return SortedLines(lines, file_ids, left_out)
        for place, bucket in enumerate(self._buckets.numbers(file_ids)):
            name = self._spellings.next_spelling(bucket)
            if name is not None and name != file_ids[place]:
                lines[place], file_ids[place] = rename_file_in_line(lines[place], name), name
        return SortedLines(lines, file_ids, left_out)


class InputSpellings:
    """The input's spellings of file IDs. Only a bucket in which a spelling differs has them: then one for each of its
    lines that counts, in order. All but a few wait in a temporary file."""

    def __init__(self, directory: Path | None, limits: Limits) -> None:
        self._file = Spool(directory, limits)
        self._of_bucket: dict[int, Iterator[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def __bool__(self) -> bool:
        return bool(self._of_bucket)

    def add_bucket(self, bucket: int, names: Sequence[str]) -> None:
        parts = ["\n".join(names[at : at + _SPELLINGS_HELD]).encode() for at in range(0, len(names), _SPELLINGS_HELD)]
        ends = array("Q", accumulate(map(len, parts), initial=self._file.append(b"".join(parts))))
        self._of_bucket[bucket] = chain.from_iterable(starmap(self._read_part, pairwise(ends)))

    def next_spelling(self, bucket: int) -> str | None:
        """The spelling for the next line of a bucket; None where no spelling in it differs."""
        names = self._of_bucket.get(bucket)
        return None if names is None else next(names)

    def _read_part(self, start: int, end: int) -> list[str]:
        return self._file.read(start, end - start).decode().split("\n")
