"""What stands on either side of a stage: an API of which a test says what it answers (the calls that it doesn't script
must not be made), and a journal that keeps what is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any
from zlib import crc32

import anyio
import anyio.lowlevel

from classify_batch.errors import ApiError, Verdict
from classify_batch.lifecycle import Fact
from classify_batch.model import Answers, Attempt, AttemptKey, JobPage, JobView, Segment
from classify_batch.ports import NamedFor
from classify_batch.vocabulary import Kind, Log


def refusal(verdict: Verdict, call: str = "list", status: int | None = None) -> ApiError:
    return ApiError(call, verdict, f"{call}: {verdict}", status=status)


class ScriptedApi:
    """ports.Api, of which a test writes the calls that it needs."""

    requests = 0
    idempotent = False

    def transaction_id(self, attempt: Attempt) -> str | None:
        return None

    async def project_of_file(self, file_id: str) -> str | None:
        raise AssertionError("nobody asks for a file")

    async def create(self, attempt: Attempt, about_to_send: Callable[[], Awaitable[None]]) -> JobView:
        raise AssertionError("nobody creates")

    async def get(self, job_id: str) -> JobView:
        raise AssertionError("nobody asks for a job")

    async def list_page(
        self,
        *,
        page_size: int,
        page_token: str | None = None,
        job_ids: Collection[str] = (),
        created_from_s: float | None = None,
    ) -> JobPage:
        raise AssertionError("nobody reads the list")

    async def cancel(self, job_id: str) -> JobView:
        raise AssertionError("nobody cancels")

    async def results(self, job: JobView, asked: Collection[str]) -> Answers:
        raise AssertionError("nobody reads results")


class KeptJournal:
    """ports.Journal, which keeps what is recorded.

    Attributes:
        recorded: the facts, each with the event loop's time.
        lines: what was appended to each log.
        holders: which open attempt has which job.
        suspects: attempts whose shared bad jobs may be another file's doing.
        cancelled: attempts that were open when the run was cancelled.
    """

    server_s: float | None = None
    clocks_disagree = False

    def __init__(self) -> None:
        self.recorded: list[tuple[float, Fact]] = []
        self.lines = dict.fromkeys(Log, b"")
        self.holders: dict[str, AttemptKey] = {}
        self.suspects: set[AttemptKey] = set()
        self.cancelled: set[AttemptKey] = set()

    jobs_made = jobs_in_flight = 0

    def allot_attempt(self, chunk: int) -> int:
        return 1

    def other_file_suspected(self, key: AttemptKey) -> bool:
        return key in self.suspects

    def was_cancelled(self, key: AttemptKey) -> bool:
        return key in self.cancelled

    def record_about_run(self, kind: Kind, values: Mapping[str, Any]) -> None:
        """Nothing here is about the run as a whole."""

    def record(self, fact: Fact) -> None:
        self.recorded.append((anyio.current_time(), fact))

    def append(self, log: Log, lines: bytes) -> Segment | None:
        if not lines:
            return None
        start = len(self.lines[log])
        self.lines[log] += lines
        return Segment(start, start + len(lines), crc32(lines))

    async def wait_durable(self) -> None:
        await anyio.lowlevel.checkpoint()

    def learn_listed_s(self, created_at_s: float) -> None:
        self.server_s = created_at_s

    def record_clocks_disagree(self) -> None:
        self.clocks_disagree = True

    def attempt_of_job(self, job_id: str) -> AttemptKey | None:
        return self.holders.get(job_id)

    def is_in_flight(self, job_id: str) -> bool:
        return job_id in self.holders

    async def begin_search_from(self, server_s: float | None) -> int:
        return 0

    async def named_jobs(self, job_ids: Collection[str], start: int) -> tuple[dict[str, NamedFor], int]:
        return {}, start

    async def latest_jobs(self) -> dict[str, float | None]:
        return {}
