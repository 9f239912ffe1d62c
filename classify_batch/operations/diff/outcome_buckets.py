"""Outcomes spread over buckets by the keys of their file IDs, in a nameless temporary file once they are many.

As `streams.spill.Buckets` does for IDs alone, with two differences: an outcome carries a label and a confidence; and
the bucket follows from the key's bytes alone, not from a hash that differs from process to process, so that the same
two runs give the same lines in the same order every time.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Self
from zlib import crc32

import msgspec

from classify_batch.errors import StoreError
from classify_batch.file_keys import file_keys
from classify_batch.streams.spill import Limits, Spool

Record = tuple[str, int, float | None]
"""File ID, label of the answer, confidence."""


def keys_of(records: Sequence[Record]) -> Sequence[str]:
    """The keys of the records' file IDs."""
    return file_keys([file_id for file_id, _, _ in records])


class Answer(NamedTuple):
    """What an outcome says, but for the confidence. `type` only of a classified file, `code` only of a failed one."""

    outcome: str
    type: str | None = None
    code: str | None = None

    @property
    def name(self) -> str:
        """As it stands in a table of types: a file without one is `unmatched`, `failed` or the like."""
        return self.outcome if self.type is None else self.type


WAITING = 0
"""The label of a planned file that has no outcome yet."""


class AnswerInterner(dict[tuple[str, str | None, str | None], int]):
    """A small number for each answer that occurs: millions of outcomes say a handful of different things."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = [Answer("waiting")]

    def __missing__(self, answer: tuple[str, str | None, str | None]) -> int:
        label = self[answer] = len(self.answers)
        self.answers.append(Answer(*answer))
        return label


class OutcomeBuckets:
    """Records by bucket; within a bucket they keep the order in which they came. Close it by `with`."""

    def __init__(self, directory: Path | None, limits: Limits) -> None:
        self._file = Spool(directory, limits)
        self._limits = limits
        self._held: list[list[Record]] = [[] for _ in range(limits.buckets)]
        self._held_count = 0
        self._segments: list[array[int]] = []
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(list[Record])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def add(self, records: Sequence[Record]) -> None:
        numbers = [crc32(key.encode()) % self._limits.buckets for key in keys_of(records)]
        deque(map(list.append, map(self._held.__getitem__, numbers), records), maxlen=0)
        self._held_count += len(records)
        if self._held_count >= self._limits.held_ids:
            self._write()

    def bucket(self, number: int) -> list[Record]:
        records: list[Record] = []
        with _roomy():
            for starts in self._segments:
                if data := self._file.read(starts[number], starts[number + 1] - starts[number]):
                    records += self._decoder.decode(data)
        return records + self._held[number]

    def _write(self) -> None:
        parts = [self._encoder.encode(records) if records else b"" for records in self._held]
        with _roomy():
            start = self._file.append(b"".join(parts))
        self._segments.append(array("Q", accumulate(map(len, parts), initial=start)))
        for records in self._held:
            records.clear()
        self._held_count = 0


@contextmanager
def _roomy() -> Iterator[None]:
    """Gives a refusal of the temporary file the hint that fits here."""
    try:
        yield
    except StoreError as error:
        raise StoreError(
            str(error), hint="comparing takes about 50 bytes a file and run on disk; make room, or set TMPDIR"
        ) from error
