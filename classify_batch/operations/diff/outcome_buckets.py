"""Spreads outcomes over buckets by the keys of their file IDs; many outcomes go to an unnamed temporary file.

Like `streams.spill.Buckets` for IDs alone, with two differences: an outcome has a label and a confidence; and the
bucket is a CRC-32 of the key, not Python's hash, which differs from process to process: so the same two runs give the
same lines in the same order every time.
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


def keys_of_records(records: Sequence[Record]) -> Sequence[str]:
    """The keys of the records' file IDs."""
    return file_keys([file_id for file_id, _, _ in records])


class Answer(NamedTuple):
    """An outcome without its confidence. Only a classified file has a `type`, only a failed one a `code`."""

    outcome: str
    type: str | None = None
    code: str | None = None

    @property
    def table_name(self) -> str:
        """The name in a table of types: of a file without a type, its outcome (`unmatched`, `failed`, …)."""
        return self.outcome if self.type is None else self.type


WAITING = 0
"""The label of a planned file that has no outcome yet."""


class AnswerInterner(dict[tuple[str, str | None, str | None], int]):
    """Numbers the different answers: millions of outcomes hold only a handful of them."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = [Answer("waiting")]

    def __missing__(self, answer: tuple[str, str | None, str | None]) -> int:
        label = self[answer] = len(self.answers)
        self.answers.append(Answer(*answer))
        return label


class OutcomeBuckets:
    """Records by bucket; within a bucket they keep their order. Close it by `with`."""

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

    def add_records(self, records: Sequence[Record]) -> None:
        numbers = [crc32(key.encode()) % self._limits.buckets for key in keys_of_records(records)]
        deque(map(list.append, map(self._held.__getitem__, numbers), records), maxlen=0)
        self._held_count += len(records)
        if self._held_count >= self._limits.held_ids:
            self._write_held_records()

    def read_bucket(self, number: int) -> list[Record]:
        records: list[Record] = []
        with adding_space_hint():
            for starts in self._segments:
                if data := self._file.read(starts[number], starts[number + 1] - starts[number]):
                    records += self._decoder.decode(data)
        return records + self._held[number]

    def _write_held_records(self) -> None:
        parts = [self._encoder.encode(records) if records else b"" for records in self._held]
        with adding_space_hint():
            start = self._file.append(b"".join(parts))
        self._segments.append(array("Q", accumulate(map(len, parts), initial=start)))
        for records in self._held:
            records.clear()
        self._held_count = 0


@contextmanager
def adding_space_hint() -> Iterator[None]:
    """Replaces the hint of an error of the temporary file: here the user can make room, or choose another disk."""
    try:
        yield
    except StoreError as error:
        raise StoreError(
            str(error), hint="comparing takes about 50 bytes a file and run on disk; make room, or set TMPDIR"
        ) from error
