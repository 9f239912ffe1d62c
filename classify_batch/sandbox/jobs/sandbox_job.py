"""An accepted job of the sandbox. Its state is a function of the job and the time: there is no clock in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from classify_batch.file_keys import is_parse_job
from classify_batch.sandbox.documents.project import JobConfig, Version
from classify_batch.sandbox.faults.job_endings import JobEnding
from classify_batch.vocabulary import ANSWERED_STATUSES, FINISHED_STATUSES, JobStatus


@dataclass(frozen=True, slots=True)
class SandboxJob:
    """An accepted job and its future.

    Attributes:
        number: counts the jobs of the table from 1, over restarts too.
        ending: how it ends at `finished_at_s`, or at `settled_at_s` if it shows ERROR first. Before it is PENDING.
        rank: its place in the list.
        transaction_id: the idempotency key of a v2 create.
        clock_shift_s: how far the times that it shows are ahead of its real ones.
        by_other: somebody else made it, not the client under test, which pays nothing for it.
        deleted: it is shown no more; what was paid for it stays paid.
    """

    number: int
    job_id: str
    project_id: str
    created_at_s: float
    duration_s: float
    ending: JobEnding
    file_ids: tuple[str, ...]
    config: JobConfig
    mode: str
    rank: int = 0
    transaction_id: str | None = None
    clock_shift_s: float = 0.0
    by_other: bool = False
    deleted: bool = False

    @property
    def version(self) -> Version:
        return self.config.version

    @property
    def shown_created_at_s(self) -> float:
        return self.created_at_s + self.clock_shift_s

    @property
    def finished_at_s(self) -> float:
        return self.created_at_s + self.duration_s

    @property
    def settled_at_s(self) -> float:
        """When it begins to show how it really ended."""
        return self.finished_at_s + self.ending.error_first_s

    @property
    def ever_finishes(self) -> bool:
        return self.ending.status in FINISHED_STATUSES

    def is_finished(self, now_s: float) -> bool:
        return self.ever_finishes and now_s >= self.finished_at_s

    def is_answered(self, now_s: float) -> bool:
        return self.status(now_s) in ANSWERED_STATUSES

    def status(self, now_s: float) -> JobStatus:
        if not self.is_finished(now_s):
            return JobStatus.PENDING
        return self.ending.status if now_s >= self.settled_at_s else JobStatus.ERROR

    def error_message(self, now_s: float) -> str | None:
        if not self.is_finished(now_s):
            return None
        return self.ending.error_message if now_s >= self.settled_at_s else "TIMEOUT"

    def shown_status(self, now_s: float) -> str:
        """The word for its status. While it is unfinished, this may be a word that is not documented."""
        if self.is_finished(now_s) or "unknown_status" not in self.ending.oddities:
            return self.status(now_s)
        return "QUEUED" if now_s < self.half_done_at_s else "RUNNING"

    @property
    def half_done_at_s(self) -> float:
        return self.created_at_s + self.duration_s / 2

    def changed_at_s(self, now_s: float) -> float:
        """When its status last changed: on v2 a job is RUNNING in the second half of its life."""
        if self.is_finished(now_s):
            return self.settled_at_s if now_s >= self.settled_at_s else self.finished_at_s
        runs = self.version == "v2" and now_s >= self.half_done_at_s
        return self.half_done_at_s if runs else self.created_at_s

    def cancelled_at(self, now_s: float) -> SandboxJob:
        """The job as it is if it is cancelled now, before it is finished."""
        # The oddities stay: they are about how the job is shown, not about how it ends.
        ending = JobEnding(JobStatus.CANCELLED, oddities=self.ending.oddities)
        return replace(self, duration_s=now_s - self.created_at_s, ending=ending)

    @property
    def credits(self) -> int:
        """What it costs its creator: only files that it answers are billed, and no parse jobs."""
        return self.credits_billed(parse_jobs=False)

    def credits_billed(self, *, parse_jobs: bool) -> int:
        """What is billed. `parse_jobs`: whether these are billed like files."""
        paid = (
            parse_jobs or not is_parse_job(file_id) for _, file_id, has_result in self.answered_files() if has_result
        )
        return credits_for_pages(sum(paid), self.mode)

    @property
    def is_of_parse_job(self) -> bool:
        """Whether it classifies a parse job of its creator, and no file."""
        return any(map(is_parse_job, self.file_ids))

    def answered_files(self) -> Iterator[tuple[int, str, bool]]:
        """The files in its results, once finished: position, file ID, and whether `result` is not null."""
        if self.ending.status not in ANSWERED_STATUSES:
            return
        null, absent = frozenset(self.ending.null), frozenset(self.ending.absent)
        for position, file_id in enumerate(self.file_ids):
            if position not in absent:
                yield position, file_id, position not in null


def credits_for_pages(pages: int, mode: str) -> int:
    """What so many pages cost; a file of the sandbox is a page."""
    return 2 * pages if mode == "MULTIMODAL" else pages
