"""The run's own jobs as witnesses of the job list: whether it is of now, has the clock of creates, and says what they
said.

A list proves that a job isn't there only where it shows the jobs that are known to be there. One that comes from a
cache, from a replica that stands still, or of another user's jobs looks like any other, and lacks them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

from classify_batch.engine.context import EngineContext
from classify_batch.engine.reconciler.evidence import Evidence
from classify_batch.engine.reconciler.listing import READ_CALLS_MAX
from classify_batch.engine.server_clocks import compare_server_clocks
from classify_batch.errors import ApiError, Verdict
from classify_batch.file_keys import file_key
from classify_batch.limits.retry import retry_transient
from classify_batch.model import JobView
from classify_batch.ports import Api, Journal
from classify_batch.rundir.journal.replay import RunSnapshot

TAKEN_OVER_MAX = 100
"""So many of the jobs that an earlier process left in flight are witnesses: the latest."""


class Witness(NamedTuple):
    """A job of this account that must be listed `settle_s` after `since_s`, by the event loop's time."""

    job_id: str
    since_s: float


class OwnJobs:
    """The latest jobs of the run: those of this process, and those of this account that an earlier one left in flight.

    On an API that knows calls again they witness nothing: its list is read from some time on, and where it lacks the
    job the same call goes out again, and is answered with the same job.
    """

    def __init__(
        self,
        api: Api,
        journal: Journal,
        compare: Callable[[float | None, JobView], None],
        *,
        settle_s: float,
        answered_within_s: float,
    ) -> None:
        """
        Args:
            compare: gets each job of the run as the list shows it, with the server's time before which creates say that
                it can't have been made.
            settle_s: seconds within which the list shows a job that was made.
            answered_within_s: how much older than the answer to its create a job may be.
        """
        self._api = api
        self._journal = journal
        self._compare = compare
        self._settle_s = settle_s
        self._answered_within_s = answered_within_s
        self._witnesses = deque[Witness]()
        self._floors: dict[str, float | None] = {}
        self._earlier_floors: dict[str, float | None] | None = None
        self._shown: set[str] = set()
        self._missing_since_s: dict[str, float] = {}
        self._reading_s = 0.0

    def record_job(self, job_id: str, now_s: float, floor_s: float | None) -> None:
        """A job of this account that is there. Only the latest of those that must be listed by now is kept, and what
        came after it. `floor_s`: the server's time before which it can't have been made, by the clock of creates."""
        if self._api.idempotent:
            return
        self._witnesses.append(Witness(job_id, now_s))
        self._floors[file_key(job_id)] = floor_s
        while len(self._witnesses) > 1 and now_s - self._witnesses[1].since_s >= self._settle_s:
            self._forget(self._witnesses.popleft())

    def take_over(self, snapshot: RunSnapshot, now_s: float) -> None:
        """Records the jobs of this account that an earlier process left in flight: they are listed like those of this
        one."""
        attempts = reversed(snapshot.open_attempts.values())
        in_flight = ((each.job_id, each.server_s) for each in attempts if snapshot.is_own(each) and not each.is_recheck)
        latest = islice(((job_id, floor_s) for job_id, floor_s in in_flight if job_id is not None), TAKEN_OVER_MAX)
        for job_id, floor_s in reversed(list(latest)):
            self.record_job(job_id, now_s, floor_s)

    def _forget(self, witness: Witness) -> None:
        self._floors.pop(file_key(witness.job_id), None)
        self._missing_since_s.pop(witness.job_id, None)

    async def begin_list_reading(self, now_s: float) -> None:
        """A reading of the list begins, from its front. Raises StoreError."""
        self._reading_s = now_s
        self._shown.clear()
        if self._earlier_floors is None:
            self._earlier_floors = {} if self._api.idempotent else await self._read_earlier_floors()

    async def _read_earlier_floors(self) -> dict[str, float | None]:
        """Of jobs that the journal names, by whatever process: they need not be there any more, or be this account's,
        but where they are listed they show the list's clock."""
        return {
            file_key(job_id): None if answered_s is None else answered_s - self._answered_within_s
            for job_id, answered_s in (await self._journal.latest_jobs()).items()
        }

    def record_listed(self, views: Iterable[JobView]) -> None:
        """Jobs that the list shows."""
        earlier = self._earlier_floors or {}
        for view in views:
            key = file_key(view.job_id)
            if key in self._floors:
                self._shown.add(key)
                self._compare(self._floors[key], view)
            elif key in earlier:
                self._compare(earlier[key], view)

    async def find_job_not_shown(self, now_s: float) -> str | None:
        """The run's latest job that the list must have shown and did not, though it is there. None: the list shows what
        it must, as far as anything is known. One that was just made may be missing.

        Raises:
            ApiError: whether a job is there can't be found out now.
        """
        for job_id, since_s in reversed(self._witnesses):
            if self._reading_s - since_s < self._settle_s:
                continue
            if file_key(job_id) in self._shown:
                return None
            if not await self._is_gone(job_id, now_s):
                return job_id
        return None

    async def _is_gone(self, job_id: str, now_s: float) -> bool:
        """Whether a job isn't there by its ID, either: twice, `settle_s` apart, since the replica that says so may be
        the one that lags."""
        try:
            await retry_transient(lambda: self._api.get(job_id), calls_max=READ_CALLS_MAX)
        except ApiError as error:
            if error.verdict not in (Verdict.MISSING, Verdict.REFUSED):
                raise
            return now_s - self._missing_since_s.setdefault(job_id, now_s) >= self._settle_s
        self._missing_since_s.pop(job_id, None)
        return False


def watch_own_jobs(context: EngineContext, evidence: Evidence) -> OwnJobs:
    """The run's own jobs, which show what the list's words are worth."""

    def compare(floor_s: float | None, view: JobView) -> None:
        compare_server_clocks(context, floor_s, view)
        evidence.record_own_job(view)

    settings = context.settings
    return OwnJobs(
        context.api,
        context.journal,
        compare,
        settle_s=settings.limits.settle_s,
        answered_within_s=settings.accept_s,
    )
