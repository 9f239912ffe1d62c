"""What happens in a run, for the caller's logging: the logger `classify_batch`.

INFO has starts, stops and limits; DEBUG has jobs and requests. Every record has `run` (the run's ID), `chunk` and `job`
(the API's ID of it) as attributes, which are None where a record is about none. Nothing is printed: who wants to see
it, gives the logger a handler and a level.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from classify_batch.engine.progress import Ending
from classify_batch.errors import the_cause
from classify_batch.events import (
    CreateAmbiguous,
    Event,
    FilesCommitted,
    FilesFailed,
    JobFinished,
    JobSubmitted,
    LimitDiscovered,
    LimitsChanged,
    OutageBegan,
    OutageEnded,
    RateLimited,
    Stopped,
    ThrottlingBegan,
    ThrottlingEnded,
)
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.vocabulary import OutcomeKind

log = logging.getLogger("classify_batch")

ATTRIBUTES = ("run", "chunk", "job")
"""What every record has, besides its message."""

_run: ContextVar[str | None] = ContextVar("classify_batch_run", default=None)
"""The ID of the run on which a task works: several may be on in one process."""


class AboutRun(logging.Filter):
    """Gives each record the attributes that it hasn't; lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Adds `run`, `chunk` and `job`."""
        values = record.__dict__
        values.setdefault("run", _run.get())
        values.setdefault("chunk", None)
        values.setdefault("job", None)
        return True


log.addFilter(AboutRun())


@contextmanager
def logging_run(found: RunOnDisk, hide_secrets: Callable[[str], str]) -> Iterator[RunLog]:
    """Logs the run inside of the block: its start, what happens, and its end. `hide_secrets`: takes secrets out of a
    text, as out of every error."""
    token = _run.set(found.run.run_id)
    done = found.snapshot.outcomes.total()
    log.info("run started: %d of %d files have their outcome", done, found.run.files)
    run_log = RunLog(hide_secrets)
    try:
        yield run_log
    except BaseException as error:
        cause = the_cause(error) if isinstance(error, BaseExceptionGroup) else error
        words = str(cause) if isinstance(cause, Exception) else "interrupted"
        log.info("run stopped: %s", hide_secrets(words))
        raise
    finally:
        _run.reset(token)


class RunLog:
    """`ports.Observer` that logs. Warnings are logged where they are made."""

    def __init__(self, hide_secrets: Callable[[str], str]) -> None:
        self._hide_secrets = hide_secrets
        self._jobs: dict[tuple[int, int], str] = {}

    async def observe(self, event: Event) -> None:
        """Logs an event: INFO, or DEBUG for what happens to every job."""
        match event:
            case JobSubmitted() | JobFinished() | FilesCommitted() | FilesFailed():
                self._log_job(event)
            case CreateAmbiguous():
                self._log_about(logging.INFO, event, "unknown whether a create was accepted: %s", event.reason)
            case Stopped():
                log.info("stopping: %s", self._hide_secrets(event.reason))
            case _:
                log_limits(event)

    def log_ending(self, ending: Ending) -> None:
        """Logs how the run stands when this process leaves it."""
        counts = ", ".join(f"{ending.manifest['counts'][kind]} {kind}" for kind in OutcomeKind)
        why = f": {self._hide_secrets(ending.reason)}" if ending.reason else ""
        log.info("run %s, exit status %d: %s%s", ending.state.value, ending.exit_status, counts, why)

    def _log_job(self, event: JobSubmitted | JobFinished | FilesCommitted | FilesFailed) -> None:
        """Jobs are told by their IDs, which only their first event has."""
        if not log.isEnabledFor(logging.DEBUG):
            return
        match event:
            case JobSubmitted():
                self._jobs[event.chunk, event.attempt] = event.job_id
                self._log_about(logging.DEBUG, event, "job found in the list" if event.found else "job created")
            case JobFinished():
                self._log_about(logging.DEBUG, event, "job finished: %s after %s s", event.status, event.duration_s)
            case FilesFailed():
                words = self._hide_secrets(event.message)
                self._log_about(logging.DEBUG, event, "%d files failed: %s: %s", event.files, event.code, words)
            case FilesCommitted():
                self._log_about(logging.DEBUG, event, "outcomes committed: %s", dict(event.outcomes))
                self._jobs.pop((event.chunk, event.attempt), None)

    def _log_about(
        self,
        level: int,
        event: JobSubmitted | JobFinished | FilesCommitted | FilesFailed | CreateAmbiguous,
        message: str,
        *values: object,
    ) -> None:
        job = self._jobs.get((event.chunk, event.attempt))
        log.log(level, message, *values, extra={"chunk": event.chunk, "job": job})


def log_limits(event: Event) -> None:
    """Logs what changed in what the API allows, or whether it answers."""
    match event:
        case LimitsChanged():
            log.info("limits changed: %s", ", ".join(f"{name} = {value}" for name, value in event.limits.items()))
        case LimitDiscovered():
            log.info("the API allows less than was set: %s = %g", event.name, event.value)
        case RateLimited():
            rate = "no limit of the rate" if event.per_s is None else f"a limit of {event.per_s:g} a second"
            log.info("429s: %s, and a share of %g whatever the rate", rate, event.noise_share or 0.0)
        case ThrottlingBegan():
            log.info("the API began to answer 429")
        case ThrottlingEnded():
            log.info("the API answers 429 no longer: %d answers in %.1f s", event.answers, event.seconds)
        case OutageBegan():
            log.info("the API has not answered for %.1f s", event.seconds)
        case OutageEnded():
            log.info("the API answers again, after %.1f s", event.seconds)
