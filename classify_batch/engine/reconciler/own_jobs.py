"""The run's own jobs as witnesses of the job list: whether it is of now, has the clock of creates, and says what they
said.

A list proves that a job isn't there only where it shows the jobs that are known to be there. One that comes from a
cache, from a replica that stands still, or of another user's jobs looks like any other, and lacks them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from classify_batch.errors import ApiError, Verdict
from classify_batch.file_keys import file_key
from classify_batch.limits.retry import retry_transient
from classify_batch.model import JobView
from classify_batch.ports import Api, Journal


class OwnJobs:
    """The latest jobs of the run, by whatever process.

    On an API that knows calls again they witness nothing: its list is read from some time on, and where it lacks the
    job the same call goes out again, and is answered with the same job.
    """

    def __init__(
        self, api: Api, journal: Journal, settle_s: float, compare: Callable[[float | None, JobView], None]
    ) -> None:
        """
        Args:
            settle_s: seconds within which the list shows a job that was made.
            compare: gets each of them as the list shows it, with the server's time as it was known when its
                create was answered.
        """
        self._api = api
        self._journal = journal
        self._settle_s = settle_s
        self._compare = compare
        self._latest: dict[str, float | None] = {}
        self._ids: dict[str, str] = {}
        self._known_since_s: dict[str, float] = {}
        self._deleted: set[str] = set()
        self._shown: set[str] = set()
        self._reading_s = 0.0

    async def begin_list_reading(self, now_s: float) -> None:
        """A reading of the list begins, from its front. Raises StoreError."""
        self._reading_s = now_s
        self._shown.clear()
        if not self._api.idempotent:
            self._latest = dict(await self._journal.latest_jobs())
            self._ids = {file_key(job_id): job_id for job_id in self._latest}
            self._known_since_s = {job_id: self._known_since_s.get(job_id, now_s) for job_id in self._latest}
            self._deleted.intersection_update(self._latest)

    def record_listed(self, views: Iterable[JobView]) -> None:
        """Jobs that the list shows."""
        for view in views:
            if (job_id := self._ids.get(file_key(view.job_id))) is not None:
                self._shown.add(job_id)
                self._compare(self._latest[job_id], view)

    async def find_job_not_shown(self) -> str | None:
        """The run's latest job that the list must have shown and did not, though it is there. None: the list shows what
        it must, as far as anything is known. One that was just made may be missing.

        Raises:
            ApiError: whether a job is there can't be found out now.
        """
        for job_id in reversed(self._latest):
            is_settled = self._reading_s - self._known_since_s[job_id] >= self._settle_s
            if not is_settled or job_id in self._deleted:
                continue
            if job_id in self._shown or await self._is_there(job_id):
                return None if job_id in self._shown else job_id
            self._deleted.add(job_id)
        return None

    async def _is_there(self, job_id: str) -> bool:
        try:
            await retry_transient(lambda: self._api.get(job_id))
        except ApiError as error:
            if error.verdict not in (Verdict.MISSING, Verdict.REFUSED):
                raise
            return False
        return True
