"""What is remembered of jobs that aren't held as candidates: 17 bytes of each.

A crowded project may have a million jobs that nothing excludes but their results. No more of them are held than
`evidence.CANDIDATES_MAX`: those that are decided, and concern nobody, are set aside, and make room for others. What
came when there was no room waits here, and proves that there is more to look at: nothing is left to find only when
nothing waits. When a job was first seen is kept of all of them, since it decides whose it can be.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from classify_batch.engine.reconciler.match import digest_of
from classify_batch.model import JobView
from classify_batch.vocabulary import JobStatus

_BUCKET_SHIFT = 56
"""A bucket for each first byte of a digest: inserting into one moves a few KiB, at a million jobs."""


class Standing(IntEnum):
    """Why a job needs no look; or that it waits for one.

    `ELSEWHERE`: the journal names it as another attempt's. `READ`: its results name other files only. `SILENT`: it
    ended with PARTIAL_SUCCESS and names none. `FAILED`: it was seen as failed for long enough. `WAITING`: nothing is
    known yet.
    """

    ELSEWHERE = 0
    READ = 1
    SILENT = 2
    FAILED = 3
    WAITING = 4


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
                return view.answered
            case Standing.SILENT:
                return view.status == JobStatus.PARTIAL_SUCCESS
            case Standing.FAILED:
                return view.finished and not view.answered
            case Standing.WAITING:
                return False


class _Bucket(NamedTuple):
    """Columns, sorted by the digests of job IDs."""

    digests: array[int]
    first_seen_s: array[float]
    standings: array[int]

    def find(self, digest: int) -> int | None:
        place = bisect_left(self.digests, digest)
        return place if place < len(self.digests) and self.digests[place] == digest else None


@dataclass(slots=True)
class JobsSetAside:
    """By job ID, of which eight bytes of a digest stand for the whole.

    Attributes:
        waiting: how many wait for a look.
    """

    waiting: int = 0
    _buckets: dict[int, _Bucket] = field(default_factory=dict)

    def find(self, job_id: str) -> SetAside | None:
        if not self._buckets:
            return None
        digest = digest_of(job_id)
        bucket = self._buckets.get(digest >> _BUCKET_SHIFT)
        place = None if bucket is None else bucket.find(digest)
        if bucket is None or place is None:
            return None
        return SetAside(Standing(bucket.standings[place]), bucket.first_seen_s[place])

    def put(self, job_id: str, standing: Standing, first_seen_s: float) -> None:
        """Remembers a job that is not remembered yet."""
        digest = digest_of(job_id)
        bucket = self._buckets.setdefault(digest >> _BUCKET_SHIFT, _Bucket(array("Q"), array("d"), array("B")))
        place = bisect_left(bucket.digests, digest)
        bucket.digests.insert(place, digest)
        bucket.first_seen_s.insert(place, first_seen_s)
        bucket.standings.insert(place, standing)
        self.waiting += standing is Standing.WAITING

    def remove(self, job_id: str) -> None:
        """Forgets a job that is remembered."""
        digest = digest_of(job_id)
        bucket = self._buckets[digest >> _BUCKET_SHIFT]
        place = bucket.digests.index(digest, bisect_left(bucket.digests, digest))
        self.waiting -= bucket.standings[place] == Standing.WAITING
        for column in bucket:
            del column[place]

    def look_again(self, since_s: float | None) -> None:
        """Lets those wait whose results were read and that were first seen at `since_s` or later (None: all): a new
        attempt's files may be in them."""
        for bucket in self._buckets.values():
            for place, standing in enumerate(bucket.standings):
                if standing == Standing.READ and (since_s is None or bucket.first_seen_s[place] >= since_s):
                    bucket.standings[place] = Standing.WAITING
                    self.waiting += 1

    def clear(self) -> None:
        self._buckets.clear()
        self.waiting = 0
