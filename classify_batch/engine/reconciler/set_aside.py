"""What is remembered of jobs that aren't held as candidates: 33 bytes of each, and its ID if that is no UUID.

A crowded project may have a million jobs that nothing excludes but their results. No more of them are held than
`evidence.CANDIDATES_MAX`: those that are decided and concern nobody, and those that nobody waits for, are set aside,
and make room for others. What came when there was no room waits here: nothing is left to find for an attempt only when
nothing waits that can be its job. When a job was first seen is kept of all of them, since it decides whose it can be;
and its ID, since a job that leaves the list has to be asked for by itself.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple
from uuid import UUID

from classify_batch.engine.reconciler.match import digest_of
from classify_batch.model import JobView
from classify_batch.vocabulary import JobStatus

_BUCKET_SHIFT = 56
"""A bucket for each first byte of a digest: inserting into one moves a few KiB, at a million jobs."""

_LOW_64 = (1 << 64) - 1


class Standing(IntEnum):
    """Why a job needs no look; or that it waits for one.

    `ELSEWHERE`: the journal names it as another attempt's. `READ`: its results name other files only. `SILENT`: it
    ended with PARTIAL_SUCCESS and names none. `FAILED`: it was seen as failed for long enough. `UNAWAITED`: it can't be
    the job of any attempt there is. `WAITING`: it may be an attempt's, and nothing is known yet. `NEXT`: the same, but
    it came while others waited: they get room first, wherever the list shows them.
    """

    ELSEWHERE = 0
    READ = 1
    SILENT = 2
    FAILED = 3
    UNAWAITED = 4
    WAITING = 5
    NEXT = 6


_STILL_TO_LOOK_AT = frozenset({Standing.WAITING, Standing.NEXT})


class SetAside(NamedTuple):
    """A job, as it is remembered."""

    standing: Standing
    first_seen_s: float

    def needs_no_look(self, view: JobView) -> bool:
        """Whether it still stands as it did, as the server shows it now."""
        match self.standing:
            case Standing.ELSEWHERE:
                return True
            case Standing.READ:
                return view.answered or not view.finished
            case Standing.SILENT:
                return view.status == JobStatus.PARTIAL_SUCCESS
            case Standing.FAILED:
                return view.finished and not view.answered
            case Standing.UNAWAITED | Standing.WAITING | Standing.NEXT:
                return False


class _Bucket(NamedTuple):
    """Columns, sorted by the digests of job IDs. The halves of a UUID; where an ID is none, zeros."""

    digests: array[int]
    uuid_high: array[int]
    uuid_low: array[int]
    first_seen_s: array[float]
    standings: array[int]

    @classmethod
    def empty(cls) -> _Bucket:
        return cls(array("Q"), array("Q"), array("Q"), array("d"), array("B"))

    def find(self, digest: int) -> int | None:
        place = bisect_left(self.digests, digest)
        return place if place < len(self.digests) and self.digests[place] == digest else None


@dataclass(slots=True)
class JobsSetAside:
    """By job ID, of which eight bytes of a digest stand for the whole."""

    _buckets: dict[int, _Bucket] = field(default_factory=dict)
    _waiting: dict[float, int] = field(default_factory=dict)  # by when they were first seen: a reading has few times
    _standings: dict[int, int] = field(default_factory=dict)
    _other_ids: dict[int, str] = field(default_factory=dict)  # by digest, those that are no UUIDs

    @property
    def waiting(self) -> int:
        """How many wait for a look."""
        return sum(self._waiting.values())

    def find(self, job_id: str) -> SetAside | None:
        bucket, place = self._find(digest_of(job_id)) if self._buckets else (None, None)
        if bucket is None or place is None:
            return None
        return SetAside(Standing(bucket.standings[place]), bucket.first_seen_s[place])

    def put(self, job_id: str, standing: Standing, first_seen_s: float) -> None:
        """Remembers a job; of one that is remembered, only the standing changes."""
        digest = digest_of(job_id)
        bucket, place = self._find(digest)
        if bucket is not None and place is not None:
            self._change(bucket, place, standing)
            return
        bucket = self._buckets.setdefault(digest >> _BUCKET_SHIFT, _Bucket.empty())
        place, uuid = bisect_left(bucket.digests, digest), _uuid_of(job_id)
        if uuid is None:
            self._other_ids[digest] = job_id
        bucket.digests.insert(place, digest)
        bucket.uuid_high.insert(place, (uuid or 0) >> 64)
        bucket.uuid_low.insert(place, (uuid or 0) & _LOW_64)
        bucket.first_seen_s.insert(place, first_seen_s)
        bucket.standings.insert(place, standing)
        self._count(standing, first_seen_s, 1)

    def remove(self, job_id: str) -> None:
        """Forgets a job, if it is remembered."""
        digest = digest_of(job_id)
        bucket, place = self._find(digest)
        if bucket is None or place is None:
            return
        self._count(bucket.standings[place], bucket.first_seen_s[place], -1)
        self._other_ids.pop(digest, None)
        for column in bucket:
            del column[place]

    def waiting_between(self, since_s: float | None, before_s: float) -> int:
        """How many wait that were first seen at `since_s` or later (None: whenever), and before `before_s`."""
        from_s = -math.inf if since_s is None else since_s
        return sum(count for first_seen_s, count in self._waiting.items() if from_s <= first_seen_s < before_s)

    def advance(self) -> bool:
        """Returns whether any are `WAITING`, who get room first. When none are left, those that came `NEXT` are."""
        if Standing.WAITING not in self._standings and Standing.NEXT in self._standings:
            for bucket, place in self._having((Standing.NEXT,)):
                self._change(bucket, place, Standing.WAITING)
        return Standing.WAITING in self._standings

    def with_standing(self, wanted: Standing) -> Iterator[tuple[str, float]]:
        """The IDs of those that have a standing, and when they were first seen. Nothing may change meanwhile."""
        for bucket in self._buckets.values():
            for place, standing in enumerate(bucket.standings):
                if standing == wanted:
                    uuid = bucket.uuid_high[place] << 64 | bucket.uuid_low[place]
                    yield (
                        self._other_ids.get(bucket.digests[place]) or str(UUID(int=uuid)),
                        bucket.first_seen_s[place],
                    )

    def look_again(self, standings: Collection[Standing], since_s: float | None) -> None:
        """Lets those wait that have one of these standings, and were first seen at `since_s` or later (None:
        whenever): they were judged by what is true no longer."""
        for bucket, place in self._having(standings):
            if since_s is None or bucket.first_seen_s[place] >= since_s:
                self._change(bucket, place, Standing.NEXT)

    def clear(self) -> None:
        self._buckets.clear()
        self._waiting.clear()
        self._standings.clear()
        self._other_ids.clear()

    def _having(self, standings: Collection[Standing]) -> Iterator[tuple[_Bucket, int]]:
        for bucket in self._buckets.values():
            for place, standing in enumerate(bucket.standings):
                if standing in standings:
                    yield bucket, place

    def _find(self, digest: int) -> tuple[_Bucket | None, int | None]:
        bucket = self._buckets.get(digest >> _BUCKET_SHIFT)
        return bucket, None if bucket is None else bucket.find(digest)

    def _change(self, bucket: _Bucket, place: int, standing: Standing) -> None:
        first_seen_s = bucket.first_seen_s[place]
        self._count(bucket.standings[place], first_seen_s, -1)
        bucket.standings[place] = standing
        self._count(standing, first_seen_s, 1)

    def _count(self, standing: int, first_seen_s: float, more: int) -> None:
        _count_in(self._standings, standing, more)
        if standing in _STILL_TO_LOOK_AT:
            _count_in(self._waiting, first_seen_s, more)


def _count_in(counts: dict[Any, int], key: float, more: int) -> None:
    counts[key] = counts.get(key, 0) + more
    if not counts[key]:
        del counts[key]


def _uuid_of(job_id: str) -> int | None:
    """The ID as a number, where it is a UUID as it is written usually."""
    try:
        uuid = UUID(job_id)
    except ValueError:
        return None
    return uuid.int if str(uuid) == job_id else None
