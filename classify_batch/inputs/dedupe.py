"""Each file ID once: exact, in the order of first appearance, in memory that doesn't grow with the input.

The IDs go into a spool as they come, and into buckets by hash. Equal IDs meet in the same bucket, so one
bucket at a time shows which of its IDs came for the first time: at most a bit for each, and none at all for a
bucket without repeats. Then the spool is replayed; each ID's bucket was written down, and its next bit says
whether the ID stays. What is left in memory is one bucket, and at the worst 1 bit per ID.

Two spellings of one UUID are equal IDs (see file_keys.py): the first one stays, as it was given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress, repeat
from pathlib import Path
from typing import Protocol, Self, TypeVar

from anyio.lowlevel import checkpoint

from classify_batch.file_keys import file_key, file_keys
from classify_batch.inputs.rows import OnFurther, file_ids_of_rows, merge_rows
from classify_batch.streams.buckets import Buckets
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import LIMITS, BucketQueues, Limits, NumberSpool, Spool
from classify_batch.streams.uuid_lines import UuidLines

EXAMPLES_MAX = 5

Key = TypeVar("Key", str, bytes)

_ROWS_HELD = 16
"""So many rows of each bucket are in memory at once: a row may have 16 KiB."""

_FEW = 1 << 14
"""Of all buckets, so many flags take 4 MiB."""

_TO_DIGITS = bytes([48, 49]) + bytes(254)
_BITS = [tuple(bool(byte & bit) for bit in (128, 64, 32, 16, 8, 4, 2, 1)) for byte in range(256)]


class Known(Protocol):
    """IDs that are taken care of elsewhere; spread over as many buckets as the input, by the same hash."""

    @property
    def own_keys(self) -> bool:
        """Whether each of them is spelled as its key is."""

    @property
    def binary(self) -> bool:
        """Whether each of them is a UUID in its canonical spelling."""

    def among_keys(self, bucket: int, asked: set[bytes], *, binary: bool) -> Collection[bytes]:
        """Those of a bucket's IDs that are known, where each is its own key, here and there. Asked in place of
        `known_keys_among`.

        Args:
            binary: all are UUIDs, here and there, and are given as 16 bytes each; otherwise in UTF-8.
        """

    def known_keys_among(self, bucket: int, asked: set[str], rows: Mapping[str, str]) -> Collection[str]:
        """Those of the keys of a bucket's IDs that are known. Asked once for each bucket, in their order.

        `rows`: the row of an ID, in the spelling that came first, by its key; a key that isn't in it is the row.
        """


class Distinct:
    """An asynchronous iterable of batches without repeats; go through it once.

    Attributes:
        duplicates: IDs that were left out; known when the first batch comes, 0 before.
        examples: the first few of these, each once; known at the end, and not given where some IDs were known.
        known: distinct IDs that were left out for being known; given when the first batch comes, or there is none.
    """

    def __init__(
        self,
        batches: AsyncIterator[Sequence[str]],
        directory: Path | None,
        limits: Limits,
        known: Known | None,
        on_further: OnFurther | None = None,
        name: str | None = None,
    ) -> None:
        self._name = name
        self._on_further = on_further
        self._batches = batches
        self._directory = directory
        self._limits = limits
        self._known = known
        self.known = 0
        self.duplicates = 0
        self.examples: tuple[str, ...] = ()

    async def __aiter__(self) -> AsyncIterator[Sequence[str]]:
        with (
            Spool(self._directory, self._limits) as spool,
            Buckets(self._directory, self._limits) as buckets,
            NumberSpool(self._directory, self._limits) as numbers,
            RepeatedRows(self._directory, self._limits) as repeated,
        ):
            async with closing(self._batches) as stream:
                async for batch in stream:
                    if batch:
                        rows = UuidLines.pack(batch) or batch
                        spool.add_ids(rows)
                        numbers.add_numbers(buckets.add_ids(file_ids_of_rows(rows), rows))
                    await checkpoint()
            stays = await self._judge_buckets(buckets, repeated)
            for batch, numbers_of_batch in zip(spool.replay_ids(), numbers.replay_numbers(), strict=True):
                kept: Sequence[str] = batch
                if self.duplicates or self.known:
                    flags = bytes(map(next, map(stays.__getitem__, numbers_of_batch)))
                    kept = batch.compress(flags) if isinstance(batch, UuidLines) else list(compress(batch, flags))
                if not self.known and len(kept) < len(batch) and len(self.examples) < EXAMPLES_MAX:
                    left_out = Counter(file_ids_of_rows(batch)) - Counter(file_ids_of_rows(kept))
                    self.examples = _one_spelling_each((*self.examples, *left_out))[:EXAMPLES_MAX]
                if kept:
                    yield repeated.put_into_buckets(list(kept), buckets) if repeated else kept
                await checkpoint()

    async def _judge_buckets(self, buckets: Buckets, repeated: RepeatedRows) -> list[Iterator[bool]]:
        """For each bucket, whether its IDs stay, one after the other."""
        stays: list[Iterator[bool]] = []
        for number in range(len(buckets)):
            if buckets.own_keys and (self._known is None or self._known.own_keys):
                stays.append(self._judge_keys(number, buckets))
                await checkpoint()
                continue
            rows = buckets.bucket_texts(number)
            file_ids = file_ids_of_rows(rows)
            keys = file_keys(file_ids)
            asked = set(keys)
            carries = file_ids is not rows
            repeats = carries and len(asked) < len(keys)
            merged = merge_rows(keys, rows, self._on_further, self._name) if repeats else {}
            known: Collection[str] = ()
            if self._known is not None:
                # Reversed: of equal keys the first one is written last, and stays.
                firsts = dict(zip(reversed(keys), reversed(rows), strict=True)) | merged if carries else None
                known = self._known.known_keys_among(number, asked, firsts or _spellings_left_out(keys, file_ids))
            self.known += len(known)
            self.duplicates += len(keys) - len(asked)
            if merged:
                repeated.add_bucket(number, [key for key in dict.fromkeys(keys) if key not in known], merged)
            simple = not known and len(asked) == len(keys)
            stays.append(repeat(True) if simple else mark_first_occurrences(keys, known))
            await checkpoint()
        return stays

    def _judge_keys(self, number: int, buckets: Buckets) -> Iterator[bool]:
        """The same for one bucket, where each ID is its own key, carries nothing, and is known by it, too."""
        binary = buckets.binary and (self._known is None or self._known.binary)
        keys = buckets.read_binary(number) if binary else buckets.read_bucket(number)
        if self._known is None:
            firsts = _first_appearances(keys)
            repeats = firsts.count(0)
            self.duplicates += repeats
            return _hold_flags(firsts) if repeats else repeat(True)
        asked = set(keys)
        known = self._known.among_keys(number, asked, binary=binary)
        self.known += len(known)
        self.duplicates += len(keys) - len(asked)
        if len(known) == len(asked):
            return repeat(False)
        if len(asked) < len(keys):
            return mark_first_occurrences(keys, known)
        new = asked.difference(known)
        return _hold_flags(bytes(map(new.__contains__, keys)))


class RepeatedRows:
    """The rows of IDs that came more than once: each carries all that came with its ID."""

    def __init__(self, directory: Path | None, limits: Limits) -> None:
        self._rows = BucketQueues(directory, limits, _ROWS_HELD)
        self._is_repeated: dict[int, Iterator[bool]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._rows.__exit__(*error)

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add_bucket(self, number: int, stay: Sequence[str], merged: Mapping[str, str]) -> None:
        """Adds the rows of a bucket. `stay`: the keys of its IDs that stay, each once, in their order."""
        if rows := [merged[key] for key in stay if key in merged]:
            self._rows.add_bucket(number, rows)
            self._is_repeated[number] = _unpack_flags(_pack_flags(bytes(key in merged for key in stay)))

    def put_into_buckets(self, rows: list[str], buckets: Buckets) -> list[str]:
        """The rows that stay, with all that is carried. Called with all of them, in order."""
        for place, number in enumerate(buckets.bucket_numbers(file_ids_of_rows(rows))):
            flags = self._is_repeated.get(number)
            if flags is not None and next(flags) and (row := self._rows.next_row(number)) is not None:
                rows[place] = row
        return rows


def distinct(
    batches: AsyncIterator[Sequence[str]],
    *,
    directory: Path | None = None,
    limits: Limits = LIMITS,
    known: Known | None = None,
    on_further: OnFurther | None = None,
    name: str | None = None,
) -> Distinct:
    """The same IDs, each where it appears first.

    Args:
        batches: file IDs, or rows; none of them has a newline inside. The row of a repeated ID carries all that came.
        directory: where temporary files go that outgrow memory (twice the input's size); None is the system's own
            place for them.
        known: IDs that are left out.
        on_further, name: see merge_rows.

    Raises:
        SourceError: the rows of an ID carry more than may go with one.
        StoreError: the temporary files can't be written.
    """
    return Distinct(batches, directory, limits, known, on_further, name)


def _spellings_left_out(keys: Sequence[str], file_ids: Sequence[str]) -> dict[str, str]:
    """The first spelling of each ID, by its key; none where each ID is its own key."""
    return {} if keys is file_ids else dict(zip(reversed(keys), reversed(file_ids), strict=True))


def _one_spelling_each(file_ids: Iterable[str]) -> tuple[str, ...]:
    """Each file once, by the first spelling of its ID."""
    first: dict[str, str] = {}
    for file_id in file_ids:
        first.setdefault(file_key(file_id), file_id)
    return tuple(first.values())


def mark_first_occurrences(keys: Sequence[Key], left_out: Collection[Key] = ()) -> Iterator[bool]:
    """For each key whether it appears for the first time, and is not left out."""
    return _hold_flags(_first_appearances(keys, left_out))


def _hold_flags(flags: bytes) -> Iterator[bool]:
    """Bytes of 0 and 1, one by one: held as they are where they are few, and otherwise as a bit for each."""
    return map(bool, flags) if len(flags) <= _FEW else _unpack_flags(_pack_flags(flags))


def _first_appearances(keys: Sequence[Key], left_out: Collection[Key] = ()) -> bytes:
    """A 1 for each key that is not further on the left and not left out, a 0 for each other."""
    unseen = dict.fromkeys(keys, 1)
    if not left_out and len(unseen) == len(keys):
        return b"\1" * len(keys)
    unseen.update(dict.fromkeys(left_out, 0))
    return bytes(map(unseen.pop, keys, repeat(0)))


def _pack_flags(flags: bytes) -> bytes:
    """Bytes of 0 and 1 → bits, the first in the highest place, zeros behind the last."""
    size = -(-len(flags) // 8)
    # By way of one large number in base 2: then C does the packing.
    return int(flags.translate(_TO_DIGITS).ljust(size * 8, b"0"), 2).to_bytes(size)


def _unpack_flags(bits: bytes) -> Iterator[bool]:
    return chain.from_iterable(map(_BITS.__getitem__, bits))
