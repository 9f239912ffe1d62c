"""An API of which a test says what it answers: the calls that it doesn't script must not be made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from classify_batch.errors import ApiError, Verdict
from classify_batch.records import Answers, Attempt, JobPage, JobView


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

    async def results(self, job: JobView, asked: Collection[str]) -> Answers:
        raise AssertionError("nobody reads results")
