"""The words that the run directory, the journal and the API are written in: each stands here once.

The standard library only, so that `status` and `--help` read them without loading what a run needs. Other programs read
most of these words on disk: a new one needs a new `format`, and none is ever given another meaning.
"""

from __future__ import annotations

from enum import StrEnum

SANDBOX = "sandbox"
"""As `api.base_url`: an embedded server that lives as long as the run. Also its folder in the run directory."""

# --- The files of a run directory -----------------------------------------------------------------------------------

RUN_JSON = "run.json"
PLAN_JSONL = "plan.jsonl"
PATHS_JSONL = "paths.jsonl"
"""The paths of a folder's contents that are more than what one file may carry."""
FURTHER_PATHS = "further_paths"
"""The key of the last object that such a content carries: how many more paths there are."""
MANIFEST_JSON = "manifest.json"
TUNE_JSON = "tune.json"
"""`tune` writes new limits into this file; the running process applies them and removes it."""
SHARDS_FOLDER = "shards"
"""In the directory of a run with shards: a run directory for each of them."""
SANDBOX_FOLDER = "sandbox"
SANDBOX_LEDGER = f"{SANDBOX_FOLDER}/jobs.jsonl"
"""Where the embedded sandbox keeps its jobs."""
CANCEL_JSON = "cancel.json"
"""`cancel` puts this file there; the running process journals that the run is cancelled, and removes it."""
REQUESTS = {TUNE_JSON: "tune.claimed.json", CANCEL_JSON: "cancel.claimed.json"}
"""Each of these two, and its name from when the running process has begun to carry it out."""

EVENTS_JSONL = "events.jsonl"
"""What happened in the run, for people: nothing else is read from it."""
EARLIER_EVENTS_JSONL = "events.1.jsonl"
"""What stood in `events.jsonl` before it grew too large."""


class Log(StrEnum):
    """The append-only files of a run directory."""

    JOURNAL = "journal.jsonl"
    RESULTS = "results.jsonl"
    FAILURES = "failures.jsonl"
    PROVISIONAL = "provisional.jsonl"
    """First answers that wait for a second look."""
    UPLOADS = "uploads.jsonl"
    """Every file ID that a document of a folder ever had in the project."""


DATA_LOGS = tuple(log for log in Log if log is not Log.JOURNAL)
"""What the journal speaks of: durable before it."""


def earlier_failures_name(generation: int) -> str:
    """The file of the failures that the `generation`-th `--retry-failed` put aside."""
    return f"failures.{generation}.jsonl"


def retry_name(generation: int) -> str:
    """The file of what the `generation`-th `--retry-failed` has still to take up."""
    return f"retry.{generation}.jsonl"


# --- Outcomes -------------------------------------------------------------------------------------------------------


class OutcomeKind(StrEnum):
    CLASSIFIED = "classified"
    UNMATCHED = "unmatched"
    FAILED = "failed"


class FailureCode(StrEnum):
    """Why a file has no answer."""

    REJECTED = "rejected"
    """The API refused this file."""
    JOB_ERROR = "job_error"
    JOB_CANCELLED = "job_cancelled"
    NOT_ANSWERED = "not_answered"
    """Missing or null in the results of every job that it was in."""
    OVERDUE = "overdue"
    """Its job took longer than `limits.job_timeout_s`."""
    NOT_UPLOADABLE = "not_uploadable"
    """A document that can't be brought to the project."""
    UNRESOLVED = "unresolved"
    """Perhaps paid, and it could not be proven."""
    STOPPED = "stopped"


class RunState(StrEnum):
    RUNNING = "running"
    INCOMPLETE = "incomplete"
    COMPLETE = "complete"


class WaitReason(StrEnum):
    """Why something waits that could be sent: `reason` in `events.jsonl`."""

    COOL_DOWN = "cool_down"
    """The API asked for it, by a 429 or `Retry-After`."""
    CREDITS = "credits"
    """Jobs in flight may give back what the next job needs."""
    PAUSED = "paused"
    """Somebody asked for no new jobs."""


class CancelState(StrEnum):
    """How far the cancelling of a run is, until the run goes on."""

    ASKED = "asked"
    """No more jobs are created. Whether the last process reached the end of it isn't written down."""
    DONE = "done"
    """What could be cancelled was. The next start goes on with the run."""


# --- The journal ----------------------------------------------------------------------------------------------------


class State(StrEnum):
    """Where an attempt stands."""

    PLANNED = "planned"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    FINISHED = "finished"
    COLLECTED = "collected"
    SPLIT = "split"
    REJECTED = "rejected"


class Kind(StrEnum):
    """The facts of a journal."""

    OPENED = "opened"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    REJECTED = "rejected"
    ADOPTED = "adopted"
    FINISHED = "finished"
    SPLIT = "split"
    COLLECTED = "collected"
    REOPENED = "reopened"
    RETRIED = "retried"
    TUNED = "tuned"
    CLOSED = "closed"


# What is summed up beside the outcomes, under `sums`.
ACCEPTED = "accepted"
"""Files that need no second pair of eyes."""
SECOND_LOOKS = "second_looks"
"""Files that went out for a second look."""
CREDITS = "credits"
"""Credits: what was billed, and the most that a job can have cost whose bill isn't known."""
BILLED = "billed"
"""Credits that the API said were billed."""
PARSE_JOBS_BILLED = "parse_jobs_billed"
"""Of these, what was billed for classifying parse jobs, which should be free."""
UNBILLED = "unbilled"
"""Jobs that may have been billed, and the API didn't say so."""
NOISE_SHARE = "noise_share"
"""Beside discovered limits: of the requests, those that are answered 429 whatever our rate."""

# --- The API --------------------------------------------------------------------------------------------------------

FILES_PER_JOB_MAX = 500
"""The most file IDs in one v1 create call."""

FILE_ID_CHARACTERS_MAX = 200

PARSE_JOB_PREFIX = "pjb-"
"""With which the ID of a parse job begins: v2 classifies what that job has parsed, in the place of a file."""


class JobStatus(StrEnum):
    """The states of a v1 job. Any other word means: not finished."""

    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    PARTIAL_SUCCESS = "PARTIAL_SUCCESS"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"


KNOWN_STATUSES = frozenset(JobStatus)

FINISHED_STATUSES = frozenset({JobStatus.SUCCESS, JobStatus.PARTIAL_SUCCESS, JobStatus.ERROR, JobStatus.CANCELLED})

ANSWERED_STATUSES = frozenset({JobStatus.SUCCESS, JobStatus.PARTIAL_SUCCESS})
"""Finished statuses that have results to collect (and to pay)."""

PAGES_MAX_DEFAULT = 5
"""The pages of a file that v1 reads where nothing is set. v2 by itself reads every page."""
