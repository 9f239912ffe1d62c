"""One call to the API, through the client, the gate and the table of failures that a run has.

What a run would go on with later, a single call has to end with: what the API refuses, or doesn't know, is a person's
to mend, and a create whose answer was lost is told and never repeated.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from classify_batch.clock import SystemClock
from classify_batch.errors import ApiError, ExitStatus, UsageError, Verdict
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.raw_bodies import Body
from classify_batch.llamacloud.single_calls import Results
from classify_batch.llamacloud.v1.single_calls import SingleCallsV1
from classify_batch.llamacloud.v2.single_calls import SingleCallsV2
from classify_batch.operations.own_task import in_own_task
from classify_batch.operations.run_resources import RunResources
from classify_batch.settings import SANDBOX, Settings, read_api_key

_ASKS_ONLY = {"mode": "FAST", "rules": [{"type": "none", "description": "a call that only reads has no rules"}]}

PERHAPS_ACCEPTED = "the job may have been accepted, and the call is not repeated"
LOOK_FIRST = (
    "`classify-batch jobs list` shows whether it is there, by its rules and created_at; "
    "give the same command only if it isn't, or it may be paid twice"
)

_REFUSED_HINTS = {
    "create": "mend what the API names, then give the same command; nothing was accepted",
    "get": "check the job's id; `classify-batch jobs list` shows the jobs of the project",
    "results": "check the job's id; `classify-batch jobs list` shows the jobs of the project",
    "list": "check --page-size and --page-token: the API decides what it takes",
    "files": "check the options: the API decides what it takes",
}
_MISSING_HINT = "check the id, and that --project-id and the key are those of its project"


def load_settings(
    config: str | PathLike[str] | None, options: Mapping[str, Mapping[str, Any]], *, job: bool = False
) -> Settings:
    """Settings of a single call: a config is optional, and only a create (`job`) wants rules. Sections that a config
    may leave out are about runs, and don't count.

    Raises:
        SettingsError: names every fault.
        UsageError: the settings mean an embedded sandbox, which lives with a run only.
    """
    left_out = {name: None for name, field in Settings.model_fields.items() if field.default is None}
    sections = {**left_out, **options, "job": options.get("job", {}) if job else _ASKS_ONLY}
    settings = Settings(**sections) if config is None else Settings.load(config, **sections)
    if settings.api.base_url == SANDBOX:
        raise UsageError(
            'base_url = "sandbox" is a server that lives as long as a run, and there is no run here',
            hint="start one with `classify-batch sandbox`, and give its address: --base-url http://127.0.0.1:…",
        )
    return settings


def verbs_of(settings: Settings, http: ApiClient) -> SingleCallsV1 | SingleCallsV2:
    """The single calls of the API's version."""
    return _SINGLE_CALLS[settings.api.version](http)


_SINGLE_CALLS: Mapping[str, Callable[[ApiClient], SingleCallsV1 | SingleCallsV2]] = {
    "v1": SingleCallsV1,
    "v2": SingleCallsV2,
}


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[ApiClient]:
    """The client of a single call; closed at the end of the block."""
    async with AsyncExitStack() as stack:
        world = RunResources(settings, read_api_key(settings), Path(), SystemClock(), stack)
        http, _ = await world.connect()
        with ending():
            yield http


async def get_job(settings: Settings, job_id: str) -> Body:
    """One job, as the API tells it."""

    async def work() -> Body:
        async with connected(settings) as http:
            return await verbs_of(settings, http).get_job(job_id)

    return await in_own_task(work)


async def list_jobs(settings: Settings, *, page_size: int | None, page_token: str | None, **filters: Any) -> Body:
    """One page of the project's jobs, as the API tells it.

    Args:
        filters: v2's own, by the API's names: see `SingleCallsV2.list_jobs`.

    Raises:
        UsageError: v1 has no filters.
    """
    asked = {name: value for name, value in filters.items() if value is not None and value != ()}
    if asked:
        require(settings.api.capabilities.can_filter_jobs, f"{settings.api.version} of the API can't filter its list")

    async def work() -> Body:
        async with connected(settings) as http:
            return await verbs_of(settings, http).list_jobs(page_size=page_size, page_token=page_token, **asked)

    return await in_own_task(work)


async def get_results(settings: Settings, job_id: str, *, page_token: str | None) -> Results:
    """A job's results: all pages as one, or the one behind a token.

    Raises:
        UsageError: v2 has no pages of them.
        ApiError: LATER also where the job isn't finished.
    """
    if page_token and settings.api.capabilities.answers_in_job:
        words = f"on {settings.api.version} of the API a job has one result, and no pages"
        raise UsageError(words, hint="leave --page-token out")

    async def work() -> Results:
        async with connected(settings) as http:
            verbs = verbs_of(settings, http)
            if page_token and isinstance(verbs, SingleCallsV1):
                return Results(await verbs.get_results_page(job_id, page_token))
            return await verbs.get_results(job_id)

    return await in_own_task(work)


async def cancel_job(settings: Settings, job_id: str) -> Body:
    """Stops a job that isn't finished; gives it as the API tells it then.

    Raises:
        UsageError: v1 can't.
    """
    require(settings.api.capabilities.can_cancel, f"{settings.api.version} of the API can't cancel a job")

    async def work() -> Body:
        async with connected(settings) as http:
            try:
                return await SingleCallsV2(http).cancel_job(job_id)
            except ApiError as error:
                if error.verdict is Verdict.REFUSED:
                    error.hint = _cancel_refused_hint(job_id)
                raise

    return await in_own_task(work)


def _cancel_refused_hint(job_id: str) -> str:
    shows = f"`classify-batch jobs get {shlex.quote(job_id)}` shows how it stands"
    return f"only a job that isn't finished can be cancelled; {shows}"


def require(capable: bool, words: str) -> None:
    """Raises UsageError, with these words, where the API's version can't do what is asked for."""
    if not capable:
        raise UsageError(words, hint='v2 can: --api-version v2, or version = "v2" under [api]')


@contextmanager
def ending() -> Iterator[None]:
    """Makes an ApiError the end of a single call: its exit status and hint say what a person does next."""
    try:
        yield
    except ApiError as error:
        raise ended(error) from None


def ended(error: ApiError) -> ApiError:
    """The error as the end of a single call."""
    words, hint = str(error), error.hint
    if error.verdict is Verdict.DOUBTFUL:
        words, hint = f"{words}; {PERHAPS_ACCEPTED}", LOOK_FIRST
    elif error.verdict is Verdict.REFUSED:
        hint = _REFUSED_HINTS.get(error.call, hint)
    elif error.verdict is Verdict.MISSING:
        hint = _MISSING_HINT
    last = ApiError(error.call, error.verdict, words, status=error.status, detail=error.detail, hint=hint)
    if error.verdict in (Verdict.REFUSED, Verdict.MISSING, Verdict.DOUBTFUL):  # no scheduler may repeat it unasked
        last.exit_status = ExitStatus.PERSON
    return last
