"""Finds the files that earlier runs have answered, and the line that counts for each.

UUIDs are compared by value. If the input spells a file's ID differently than the earlier run, the copy gets the input's
spelling: the user looks for the IDs of the input in the results, whether a file was reused or sent. It also gets what
the input carries, whatever the earlier run carried.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import compress, islice, repeat
from pathlib import Path
from typing import NamedTuple, Self

from classify_batch.errors import WorldError
from classify_batch.file_keys import file_keys
from classify_batch.inputs.dedupe import Key, mark_first_occurrences
from classify_batch.inputs.rows import file_ids_of_rows
from classify_batch.operations.reuse.copied_lines import rename_file_in_line
from classify_batch.operations.reuse.earlier_outcomes import EarlierRun, read_proven_lines, read_whole_lines
from classify_batch.streams.buckets import Buckets
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import BucketQueues, Limits, Spool

_ROWS_HELD = 64
"""So many rows of each bucket are in memory at once: 8 MiB for all buckets, where nothing is carried."""


class SortedLines(NamedTuple):
    """Lines that follow each other: `lines` count, with `rows` of the input; `left_out` don't count."""

    lines: list[bytes]
    rows: Sequence[str]
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
        self._new_rows = BucketQueues(directory, limits, _ROWS_HELD)
        self._opened = ExitStack()
        self._batches: list[int] = []
        self._counts: list[Iterator[bool]] = []
        self._all_count = True
        self._replay = self._file_ids.replay_ids()
        self.lines = 0

    def __enter__(self) -> Self:
        self._opened.enter_context(self._buckets)
        self._opened.enter_context(self._file_ids)
        self._opened.enter_context(self._new_rows)
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    async def read_runs(self, runs: Sequence[EarlierRun]) -> None:
        """Reads the IDs of all lines. Raises DamagedError where a run's results are not as they were written."""
        for earlier in runs:
            batches = 0
            async with closing(read_proven_lines(earlier)) as stream:
                async for _, file_ids, _ in stream:
                    self._buckets.add_ids(file_ids)
                    self._file_ids.add_ids(file_ids)
                    self.lines += len(file_ids)
                    batches += 1
            self._batches.append(batches)

    @property
    def own_keys(self) -> bool:
        """Whether each ID of the runs is its own key."""
        return self._buckets.own_keys

    @property
    def binary(self) -> bool:
        """Whether each ID of the runs is a UUID in its canonical spelling."""
        return self._buckets.binary

    def among_keys(self, bucket: int, asked: set[bytes], *, binary: bool) -> set[bytes]:
        """`known_keys_among`, where each ID is its own key, here and in the input."""
        keys = self._buckets.read_binary(bucket) if binary else self._buckets.read_bucket(bucket)
        known = asked.intersection(keys)
        self._add_counts(keys, known)
        return known

    def _add_counts(self, keys: Sequence[Key], known: set[Key]) -> set[Key]:
        """Marks the lines of a bucket that count. Returns the keys of those whose file isn't asked for."""
        simple = len(known) == len(keys)  # each line is known, and none twice: nothing has to be marked
        unknown = set[Key]() if simple else set(keys) - known
        self._all_count = self._all_count and simple
        self._counts.append(repeat(True) if simple else mark_first_occurrences(keys, unknown))
        return unknown

    def known_keys_among(self, bucket: int, asked: set[str], rows: Mapping[str, str]) -> set[str]:
        """The keys of a bucket that are known. Called for each bucket, in order."""
        file_ids = self._buckets.bucket_texts(bucket)
        keys = file_keys(file_ids)
        known = asked.intersection(keys)
        unknown = self._add_counts(keys, known)
        if known and (rows or keys is not file_ids):
            counting = list(compress(zip(file_ids, keys, strict=True), mark_first_occurrences(keys, unknown)))
            new_rows = [rows.get(key, key) for _, key in counting]
            if new_rows != [file_id for file_id, _ in counting]:
                self._new_rows.add_bucket(bucket, new_rows)
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

    def _sort_lines(self, lines: list[bytes], file_ids: Sequence[str]) -> SortedLines:
        if self._all_count:
            return self._apply_rows(lines, file_ids, [])
        counts = list(map(next, map(self._counts.__getitem__, self._buckets.bucket_numbers(file_ids))))
        if all(counts):
            return self._apply_rows(lines, file_ids, [])
        left_out = [line for line, counting in zip(lines, counts, strict=True) if not counting]
        return self._apply_rows(list(compress(lines, counts)), list(compress(file_ids, counts)), left_out)

    def _apply_rows(self, lines: list[bytes], file_ids: Sequence[str], left_out: list[bytes]) -> SortedLines:
        """Gives the lines that count the input's spelling of their file IDs, and its rows."""
        if not self._new_rows:
            return SortedLines(lines, file_ids, left_out)
        rows = list(file_ids)
        for place, bucket in enumerate(self._buckets.bucket_numbers(file_ids)):
            if (row := self._new_rows.next_row(bucket)) is not None:
                rows[place] = row
        for place, (name, file_id) in enumerate(zip(file_ids_of_rows(rows), file_ids, strict=True)):
            if name != file_id:
                lines[place] = rename_file_in_line(lines[place], name)
        return SortedLines(lines, rows, left_out)
