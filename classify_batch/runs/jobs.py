"""One call to the API, through the client, the gate and the table of failures that a run has.

What a run would go on with later, a single call has to end with: what the API refuses, or doesn't know, is a person's
to mend, and a create whose answer was lost is told and never repeated.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from classify_batch.api.http import Http
from classify_batch.api.jobs import Body, JobsV1, Results
from classify_batch.api.v1 import FileList
from classify_batch.clock import SystemClock
from classify_batch.errors import ApiError, ExitStatus, SourceError, UsageError, Verdict
from classify_batch.records import FILES_PER_JOB_MAX, FINISHED_STATUSES
from classify_batch.runs.causes import in_own_task
from classify_batch.runs.world import World
from classify_batch.settings import SANDBOX, Settings, read_api_key
from classify_batch.sources.closing import closing
from classify_batch.sources.door import PROJECT, open_source
from classify_batch.wire.words import clean

_VERBS = {"v1": JobsV1}
"""The single calls of each version of the API."""

_ASKS_ONLY = {"rules": [{"type": "none", "description": "a call that only reads has no rules"}]}

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
    """Settings of a single call: a config is optional, and only a create (`job`) wants rules.

    Raises:
        SettingsError: names every fault.
        UsageError: the settings mean an embedded sandbox, which lives with a run only.
    """
    sections = {"job": {}, **options} if job else {**options, "job": _ASKS_ONLY}
    settings = Settings(**sections) if config is None else Settings.load(config, **sections)
    if settings.api.base_url == SANDBOX:
        raise UsageError(
            'base_url = "sandbox" is a server that lives as long as a run, and there is no run here',
            hint="start one with `classify-batch sandbox`, and give its address: --base-url http://127.0.0.1:…",
        )
    return settings


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Http]:
    """The client of a single call; closed at the end of the block."""
    async with AsyncExitStack() as stack:
        world = World(settings, read_api_key(settings), Path(), SystemClock(), stack)
        http, _ = await world.connect()
        with ending():
            yield http


async def create_job(
    settings: Settings,
    file_ids: Sequence[str],
    source: str | None = None,
    column: str | None = None,
    *,
    about_to_send: Callable[[], Awaitable[None]],
) -> Body:
    """Creates one job of `file_ids` and what `source` holds; repeated IDs are sent once.

    Raises:
        UsageError: settings or IDs don't fit; nothing was sent.
        ApiError: DOUBTFUL means that the job may have been accepted.
    """

    async def work() -> Body:
        async with connected(settings) as http:
            wanted = await _gather(http, file_ids, source, column)
            return await _verbs(settings, http).create(settings.job, wanted, about_to_send)

    return await in_own_task(work)


async def get_job(settings: Settings, job_id: str) -> Body:
    """One job, as the API tells it."""

    async def work() -> Body:
        async with connected(settings) as http:
            return await _verbs(settings, http).get(job_id)

    return await in_own_task(work)


async def list_jobs(settings: Settings, *, page_size: int | None, page_token: str | None) -> Body:
    """One page of the project's jobs, as the API tells it."""

    async def work() -> Body:
        async with connected(settings) as http:
            return await _verbs(settings, http).list_page(page_size=page_size, page_token=page_token)

    return await in_own_task(work)


async def get_results(settings: Settings, job_id: str, *, page_token: str | None) -> Results:
    """A job's results: all pages as one, or the one behind a token.

    Raises:
        ApiError: LATER also where the API refuses because the job isn't finished.
    """

    async def work() -> Results:
        async with connected(settings) as http:
            verbs = _verbs(settings, http)
            try:
                return (
                    Results(await verbs.results_page(job_id, page_token)) if page_token else await verbs.results(job_id)
                )
            except ApiError as error:
                if error.verdict is not Verdict.REFUSED:
                    raise
                raise await _perhaps_early(verbs, job_id, error) from None

    return await in_own_task(work)


async def _perhaps_early(verbs: JobsV1, job_id: str, refusal: ApiError) -> ApiError:
    """Why results were refused: a job that isn't finished has none yet."""
    status = (await verbs.get(job_id))["status"]
    if status in FINISHED_STATUSES:
        return refusal
    hint = f"`classify-batch jobs get {shlex.quote(job_id)}` shows when it is finished; then give the same command"
    return ApiError(
        refusal.call, Verdict.LATER, f"{refusal}; the job is {clean(status)}", status=refusal.status, hint=hint
    )


def _verbs(settings: Settings, http: Http) -> JobsV1:
    verbs = _VERBS.get(settings.api.version)
    if verbs is None:
        raise UsageError(
            f"single calls speak {', '.join(_VERBS)} of the API, and not {settings.api.version}",
            hint='set version = "v1" under [api]',
        )
    return verbs(http)


async def _gather(http: Http, file_ids: Sequence[str], source: str | None, column: str | None) -> list[str]:
    """The IDs of one job, each once. Reads no further than a job can hold."""
    wanted: dict[str, None] = {}
    pages = FileList(http).page if source == PROJECT else None
    sources = [open_source(file_ids)] if file_ids else []
    sources += [open_source(source, column=column, pages=pages)] if source is not None else []
    for each in sources:
        async with closing(each) as batches:
            async for batch in batches:
                wanted.update(dict.fromkeys(batch))
                if len(wanted) > FILES_PER_JOB_MAX:
                    raise UsageError(
                        f"a job holds at most {FILES_PER_JOB_MAX} files, and more were given",
                        hint="`classify-batch run` makes as many jobs as it takes",
                    )
    if not wanted:
        raise SourceError("no file was named", hint="name files by --file-id ID, or by --input SOURCE")
    return list(wanted)


@contextmanager
def ending() -> Iterator[None]:
    """Makes an ApiError the end of a single call: its exit status and hint say what a person does next."""
    try:
        yield
    except ApiError as error:
        raise _ended(error) from None


def _ended(error: ApiError) -> ApiError:
    words, hint = str(error), error.hint
    if error.verdict is Verdict.DOUBTFUL:
        words, hint = f"{words}; {PERHAPS_ACCEPTED}", LOOK_FIRST
    elif error.verdict is Verdict.REFUSED:
        hint = _REFUSED_HINTS.get(error.call, hint)
    elif error.verdict is Verdict.MISSING:
        hint = _MISSING_HINT
    ended = ApiError(error.call, error.verdict, words, status=error.status, detail=error.detail, hint=hint)
    if error.verdict in (Verdict.REFUSED, Verdict.MISSING, Verdict.DOUBTFUL):  # no scheduler may repeat it unasked
        ended.exit_status = ExitStatus.PERSON
    return ended
