"""What is remembered of jobs that aren't held as candidates: 21 bytes of each, and its ID if that is no UUID.

A crowded project may have a million jobs that nothing excludes but their results. No more of them are held than
`evidence.CANDIDATES_MAX`: those that are decided and concern nobody, and those that nobody waits for, are set aside,
and make room for others. What came when there was no room waits here: nothing is left to find for an attempt only when
nothing waits that can be its job. When a job was first seen is kept of all of them, since it decides whose it can be;
and its ID, since a job that leaves the list has to be asked for by itself.
"""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

from classify_batch.file_keys import file_key
from classify_batch.model import JobView
from classify_batch.vocabulary import JobStatus

_BUCKETS = 509
"""A prime number, so that IDs that were counted upwards spread, too. Inserting into one moves some KiB, at a
million jobs."""

_is_usual_uuid = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}").fullmatch

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

    def is_still_decided(self, view: JobView) -> bool:
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
    """Columns, sorted by the numbers of the job IDs, of which these are the halves."""

    highs: array[int]
    lows: array[int]
    first_seen: array[int]
    standings: array[int]

    @classmethod
    def empty(cls) -> _Bucket:
        return cls(array("Q"), array("Q"), array("I"), array("B"))

    def find_place(self, number: int) -> tuple[int, bool]:
        """Where a job is, or would be; and whether it is there."""
        high, low = number >> 64, number & _LOW_64
        start = bisect_left(self.highs, high)
        end = bisect_right(self.highs, high, start)
        place = bisect_left(self.lows, low, start, end)
        return place, place < end and self.lows[place] == low


@dataclass(slots=True)
class JobsSetAside:
    """By job ID: the number that a UUID is, or a digest of any other ID."""

    _buckets: dict[int, _Bucket] = field(default_factory=dict)
    _times: dict[float, int] = field(default_factory=dict)  # numbered: a reading of the list has few
    _times_by_number: list[float] = field(default_factory=list)
    _waiting: dict[float, int] = field(default_factory=dict)  # by when they were first seen
    _standings: dict[int, int] = field(default_factory=dict)
    _other_ids: dict[int, str] = field(default_factory=dict)  # by number, those that are no UUIDs

    @property
    def waiting_count(self) -> int:
        """How many wait for a look."""
        return sum(self._waiting.values())

    def find_job(self, job_id: str) -> SetAside | None:
        if not self._buckets:
            return None
        bucket, place, is_there = self._find_place(number_of(job_id))
        return SetAside(Standing(bucket.standings[place]), self._first_seen_s(bucket, place)) if is_there else None

    def set_job_aside(self, job_id: str, standing: Standing, first_seen_s: float) -> None:
        """Remembers a job; of one that is remembered, only the standing changes."""
        number = number_of(job_id)
        bucket, place, is_there = self._find_place(number)
        if is_there:
            self._change_standing(bucket, place, standing)
            return
        if not _is_usual_uuid(job_id):
            self._other_ids[number] = job_id
        bucket.highs.insert(place, number >> 64)
        bucket.lows.insert(place, number & _LOW_64)
        bucket.first_seen.insert(place, self._number_time(first_seen_s))
        bucket.standings.insert(place, standing)
        self._count_standing(standing, first_seen_s, 1)

    def remove_job(self, job_id: str) -> None:
        """Forgets a job, if it is remembered."""
        number = number_of(job_id)
        bucket, place, is_there = self._find_place(number)
        if not is_there:
            return
        self._count_standing(bucket.standings[place], self._first_seen_s(bucket, place), -1)
        self._other_ids.pop(number, None)
        for column in bucket:
            del column[place]

    def waiting_between(self, since_s: float | None, before_s: float) -> int:
        """How many wait that were first seen at `since_s` or later (None: whenever), and before `before_s`."""
        from_s = -math.inf if since_s is None else since_s
        return sum(count for first_seen_s, count in self._waiting.items() if from_s <= first_seen_s < before_s)

    def has_waiting(self) -> bool:
        """Returns whether any are `WAITING`, who get room first. When none are left, those that came `NEXT` are."""
        if Standing.WAITING not in self._standings and Standing.NEXT in self._standings:
            for bucket, place in self._iterate_standings((Standing.NEXT,)):
                self._change_standing(bucket, place, Standing.WAITING)
        return Standing.WAITING in self._standings

    def with_standing(self, wanted: Standing) -> Iterator[tuple[str, float]]:
        """The IDs of those that have a standing, and when they were first seen. Nothing may change meanwhile."""
        for bucket in self._buckets.values():
            for place, standing in enumerate(bucket.standings):
                if standing == wanted:
                    number = bucket.highs[place] << 64 | bucket.lows[place]
                    yield self._other_ids.get(number) or str(UUID(int=number)), self._first_seen_s(bucket, place)

    def reconsider(self, standings: Collection[Standing], since_s: float | None) -> None:
        """Lets those wait that have one of these standings, and were first seen at `since_s` or later (None:
        whenever): they were judged by what is true no longer."""
        for bucket, place in self._iterate_standings(standings):
            if since_s is None or self._first_seen_s(bucket, place) >= since_s:
                self._change_standing(bucket, place, Standing.NEXT)

    def clear(self) -> None:
        self._buckets.clear()
        self._times.clear()
        self._times_by_number.clear()
        self._waiting.clear()
        self._standings.clear()
        self._other_ids.clear()

    def _iterate_standings(self, standings: Collection[Standing]) -> Iterator[tuple[_Bucket, int]]:
        for bucket in self._buckets.values():
            for place, standing in enumerate(bucket.standings):
                if standing in standings:
                    yield bucket, place

    def _find_place(self, number: int) -> tuple[_Bucket, int, bool]:
        bucket = self._buckets.get(number % _BUCKETS)
        if bucket is None:
            bucket = self._buckets[number % _BUCKETS] = _Bucket.empty()
        return bucket, *bucket.find_place(number)

    def _number_time(self, time_s: float) -> int:
        number = self._times.setdefault(time_s, len(self._times_by_number))
        if number == len(self._times_by_number):
            self._times_by_number.append(time_s)
        return number

    def _first_seen_s(self, bucket: _Bucket, place: int) -> float:
        return self._times_by_number[bucket.first_seen[place]]

    def _change_standing(self, bucket: _Bucket, place: int, standing: Standing) -> None:
        first_seen_s = self._first_seen_s(bucket, place)
        self._count_standing(bucket.standings[place], first_seen_s, -1)
        bucket.standings[place] = standing
        self._count_standing(standing, first_seen_s, 1)

    def _count_standing(self, standing: int, first_seen_s: float, more: int) -> None:
        _add_to_count(self._standings, standing, more)
        if standing in _STILL_TO_LOOK_AT:
            _add_to_count(self._waiting, first_seen_s, more)


def _add_to_count(counts: dict[Any, int], key: float, more: int) -> None:
    counts[key] = counts.get(key, 0) + more
    if not counts[key]:
        del counts[key]


def number_of(job_id: str) -> int:
    """A number of 128 bits, the same for every spelling of a UUID. One that is written as usual can be restored."""
    key = job_id if _is_usual_uuid(job_id) else file_key(job_id)
    if _is_usual_uuid(key):
        return int(key.replace("-", ""), 16)
    job_id = key
    return int.from_bytes(blake2b(job_id.encode("utf-8", "backslashreplace"), digest_size=16).digest())
