"""Single calls of the API, through the same client, request gate and table of failures as a run's calls.

A run retries later what fails now; a single call has to end. What the API refuses, or doesn't know, a person must fix.
A create whose answer was lost is reported, and never repeated: the job may exist, and would be paid for twice.
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
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.operations.run_resources import RunResources
from classify_batch.settings import Settings, read_api_key
from classify_batch.vocabulary import SANDBOX

_NO_JOB = {"mode": "FAST", "rules": [{"type": "none", "description": "a call that only reads has no rules"}]}

PERHAPS_ACCEPTED = "the job may have been accepted, and the call is not repeated"
LIST_JOBS_FIRST = (
    "`classify-batch jobs list` shows whether it is there, by its rules and created_at; "
    "give the same command only if it isn't, or it may be paid twice"
)

_REFUSED_HINTS = {
    "create": "fix what the API names, then give the same command; nothing was accepted",
    "get": "check the job's id; `classify-batch jobs list` shows the jobs of the project",
    "results": "check the job's id; `classify-batch jobs list` shows the jobs of the project",
    "list": "check --page-size and --page-token: the API decides what it takes",
    "files": "check the options: the API decides what it takes",
}
_MISSING_HINT = "check the id, and that --project-id and the key are those of its project"


def load_single_call_settings(
    config: str | PathLike[str] | None, options: Mapping[str, Mapping[str, Any]], *, job: bool = False
) -> Settings:
    """The settings of a single call: a config is optional, and only a create (`job`) needs rules. Optional sections of
    the config are about runs, and are ignored.

    Raises:
        SettingsError: names every error in the settings.
        UsageError: the settings mean the embedded sandbox, which exists only inside a run.
    """
    # An optional section has the default None; setting it to None hides what the config says.
    left_out = {name: None for name, field in Settings.model_fields.items() if field.default is None}
    sections = {**left_out, **options, "job": options.get("job", {}) if job else _NO_JOB}
    settings = Settings(**sections) if config is None else Settings.load(config, **sections)
    if settings.api.base_url == SANDBOX:
        raise UsageError(
            'base_url = "sandbox" is a server that lives as long as a run, and there is no run here',
            hint="start one with `classify-batch sandbox`, and give its address: --base-url http://127.0.0.1:…",
        )
    return settings


def single_calls_for(settings: Settings, client: ApiClient) -> SingleCallsV1 | SingleCallsV2:
    """The single calls of the API's version."""
    return _SINGLE_CALLS[settings.api.version](client)


_SINGLE_CALLS: Mapping[str, Callable[[ApiClient], SingleCallsV1 | SingleCallsV2]] = {
    "v1": SingleCallsV1,
    "v2": SingleCallsV2,
}


@asynccontextmanager
async def connect_client(settings: Settings) -> AsyncIterator[ApiClient]:
    """The client of a single call; closed at the end of the block."""
    async with AsyncExitStack() as stack:
        resources = RunResources(settings, read_api_key(settings), Path(), SystemClock(), stack)
        client, _ = await resources.connect_client()
        with ending_single_call():
            yield client


async def get_job(settings: Settings, job_id: str) -> Body:
    """One job, as the API answers."""

    async def call_get() -> Body:
        async with connect_client(settings) as client:
            return await single_calls_for(settings, client).get_job(job_id)

    return await run_in_own_task(call_get)


async def list_jobs(settings: Settings, *, page_size: int | None, page_token: str | None, **filters: Any) -> Body:
    """One page of the project's jobs, as the API answers.

    Args:
        filters: v2's own, by the API's names: see `SingleCallsV2.list_jobs`.

    Raises:
        UsageError: v1 has no filters.
    """
    given = {name: value for name, value in filters.items() if value is not None and value != ()}
    if given:
        require_capability(
            settings.api.capabilities.can_filter_jobs, f"{settings.api.version} of the API can't filter its list"
        )

    async def call_list() -> Body:
        async with connect_client(settings) as client:
            return await single_calls_for(settings, client).list_jobs(
                page_size=page_size, page_token=page_token, **given
            )

    return await run_in_own_task(call_list)


async def get_results(settings: Settings, job_id: str, *, page_token: str | None) -> Results:
    """A job's results: all pages as one, or the page behind `page_token`.

    Raises:
        UsageError: on v2 a job has one result, and no pages.
        ApiError: LATER also where the job isn't finished.
    """
    if page_token and settings.api.capabilities.answers_in_job:
        message = f"on {settings.api.version} of the API a job has one result, and no pages"
        raise UsageError(message, hint="leave --page-token out")

    async def call_results() -> Results:
        async with connect_client(settings) as client:
            calls = single_calls_for(settings, client)
            if page_token and isinstance(calls, SingleCallsV1):
                return Results(await calls.get_results_page(job_id, page_token))
            return await calls.get_results(job_id)

    return await run_in_own_task(call_results)


async def cancel_job(settings: Settings, job_id: str) -> Body:
    """Cancels a job that isn't finished; returns it as the API answers then.

    Raises:
        UsageError: v1 can't cancel.
    """
    require_capability(settings.api.capabilities.can_cancel, f"{settings.api.version} of the API can't cancel a job")

    async def call_cancel() -> Body:
        async with connect_client(settings) as client:
            try:
                return await SingleCallsV2(client).cancel_job(job_id)
            except ApiError as error:
                # The API refuses to cancel a job that has ended.
                if error.verdict is Verdict.REFUSED:
                    error.hint = _cancel_refused_hint(job_id)
                raise

    return await run_in_own_task(call_cancel)


def _cancel_refused_hint(job_id: str) -> str:
    shows = f"`classify-batch jobs get {shlex.quote(job_id)}` shows how it stands"
    return f"only a job that isn't finished can be cancelled; {shows}"


def require_capability(capable: bool, message: str) -> None:
    """Raises UsageError where the API's version can't do what is asked for."""
    if not capable:
        raise UsageError(message, hint='v2 can: --api-version v2, or version = "v2" under [api]')


@contextmanager
def ending_single_call() -> Iterator[None]:
    """Raises an ApiError of the block as `final_error` makes it."""
    try:
        yield
    except ApiError as error:
        raise final_error(error) from None


def final_error(error: ApiError) -> ApiError:
    """The error as it ends a single call: its exit status and hint say what a person does next."""
    message, hint = str(error), error.hint
    if error.verdict is Verdict.AMBIGUOUS:
        message, hint = f"{message}; {PERHAPS_ACCEPTED}", LIST_JOBS_FIRST
    elif error.verdict is Verdict.REFUSED:
        hint = _REFUSED_HINTS.get(error.call, hint)
    elif error.verdict is Verdict.MISSING:
        hint = _MISSING_HINT
    final = ApiError(error.call, error.verdict, message, status=error.status, detail=error.detail, hint=hint)
    if error.verdict in (Verdict.REFUSED, Verdict.MISSING, Verdict.AMBIGUOUS):  # a scheduler must not repeat it
        final.exit_status = ExitStatus.PERSON
    return final
