"""The ledger: accepted jobs on disk. A sandbox that was killed finds them again, and they prove what was billed.

Each line is a job as one JSON object. It is written by one system call before the create is answered, so that no
SIGKILL can lose it. (A power loss can, for there is no fsync: the sandbox is for practising the loss of processes.)

    {"number", "job_id", "project_id", "created_at_s", "duration_s", "status", "error_message",
     "null", "absent", "oddities", "mode", "rules", "parsing_configuration", "file_ids", "version", "transaction_id",
     "error_first_s", "clock_shift_s", "by_other"}

What happens to a v2 job later is appended as a line of its own:

    {"cancelled": job_id, "at_s": wall time}        {"deleted": job_id}

A last line without its end belongs to a create that was never answered: it is cut off when the ledger is opened.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NotRequired, TypedDict, final

from classify_batch.errors import DamagedError, StoreError, UsageError
from classify_batch.sandbox.documents.project import JobConfig, Version
from classify_batch.sandbox.faults.job_endings import JobEnding, Oddity
from classify_batch.sandbox.jobs.job_table import count_billed
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.settings.job_spec import ParsingConfiguration, Rule
from classify_batch.vocabulary import JobStatus


class RuleEntry(TypedDict):
    """A rule of a job."""

    type: str
    description: str


@final
class JobEntry(TypedDict):
    """A job as a line of the ledger. Ledgers of older sandboxes lack what isn't required."""

    number: int
    job_id: str
    project_id: str
    created_at_s: float
    duration_s: float
    status: str
    error_message: str | None
    null: Sequence[int]
    absent: Sequence[int]
    oddities: NotRequired[Sequence[Oddity]]
    error_first_s: NotRequired[float]
    mode: str
    rules: list[RuleEntry]
    parsing_configuration: dict[str, object] | None
    file_ids: Sequence[str]
    version: NotRequired[Version]
    transaction_id: NotRequired[str | None]
    clock_shift_s: NotRequired[float]
    by_other: NotRequired[bool]


@final
class CancelledEntry(TypedDict):
    """That a job was cancelled, and when."""

    cancelled: str
    at_s: float


@final
class DeletedEntry(TypedDict):
    """That a job was deleted."""

    deleted: str


LedgerEntry = JobEntry | CancelledEntry | DeletedEntry


class Ledger:
    """The file of accepted jobs, open for appending.

    Raises:
        UsageError: the file can't be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"the ledger {self.path} can't be opened: {error.strerror}"
            raise UsageError(message, hint="give the path of a file that may be written") from None
        self._cut_torn_line()

    def append_job(self, job: SandboxJob) -> None:
        """Keeps a job. Raises StoreError, and then the create must not be answered as accepted."""
        self._append_line(job_to_entry(job))

    def append_cancellation(self, job: SandboxJob, at_s: float) -> None:
        """Keeps that a job was cancelled. Raises StoreError, as `append_job`."""
        self._append_line({"cancelled": job.job_id, "at_s": at_s})

    def append_deletion(self, job: SandboxJob) -> None:
        """Keeps that a job was deleted. Raises StoreError, as `append_job`."""
        self._append_line({"deleted": job.job_id})

    def close(self) -> None:
        os.close(self._descriptor)

    def _append_line(self, entry: LedgerEntry) -> None:
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise StoreError(f"the ledger {self.path} takes no more: {error.strerror}") from None
        # A full disk takes a part of a line. It must go, or the next job would be appended to it.
        if written < len(line):
            self._cut_torn_line()
            raise StoreError(f"the ledger {self.path} takes no more: no space left")

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        tail = 0
        while tail < size and os.pread(self._descriptor, 1, size - tail - 1) != b"\n":
            tail += 1
        os.ftruncate(self._descriptor, size - tail)


def read_jobs(path: str | os.PathLike[str]) -> Iterator[SandboxJob]:
    """The jobs of a ledger as they are at its end, in the order in which they were accepted; also while it is being
    written. A deleted job is among them, for it was paid.

    Raises:
        DamagedError: a whole line is not a job.
    """
    configs: dict[str, JobConfig] = {}
    jobs: dict[str, SandboxJob] = {}
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            # A line that is being written, or was torn: nobody got the answer that its job was accepted.
            if not line.endswith(b"\n"):
                break
            try:
                job = apply_entry(json.loads(line), jobs, configs)
            except (ValueError, KeyError, TypeError):
                hint = "move the file away to begin with no jobs"
                raise DamagedError(f"{path}, line {number}: not a job", hint=hint) from None
            jobs[job.job_id] = job
    yield from jobs.values()


def read_billed(path: str | os.PathLike[str]) -> Counter[str]:
    """How often each file ID was billed to the client: more than once means that it was paid twice."""
    return count_billed(read_jobs(path))


def job_to_entry(job: SandboxJob) -> JobEntry:
    parsing = job.config.parsing_configuration
    return {
        "number": job.number,
        "job_id": job.job_id,
        "project_id": job.project_id,
        "created_at_s": job.created_at_s,
        "duration_s": job.duration_s,
        "status": job.ending.status,
        "error_message": job.ending.error_message,
        "null": job.ending.null,
        "absent": job.ending.absent,
        "oddities": job.ending.oddities,
        "error_first_s": job.ending.error_first_s,
        "mode": job.mode,
        "rules": [{"type": rule.type, "description": rule.description} for rule in job.config.rules],
        "parsing_configuration": None if parsing is None else parsing.model_dump(exclude_none=True),
        "file_ids": job.file_ids,
        "version": job.version,
        "transaction_id": job.transaction_id,
        "clock_shift_s": job.clock_shift_s,
        "by_other": job.by_other,
    }


def apply_entry(entry: LedgerEntry, jobs: Mapping[str, SandboxJob], configs: dict[str, JobConfig]) -> SandboxJob:
    if "cancelled" in entry:
        return jobs[entry["cancelled"]].cancelled_at(entry["at_s"])
    if "deleted" in entry:
        return replace(jobs[entry["deleted"]], deleted=True)
    return job_from_entry(entry, configs)


def job_from_entry(entry: JobEntry, configs: dict[str, JobConfig]) -> SandboxJob:
    # Ledgers of older sandboxes lack the later keys: their jobs are of v1, and nothing is odd about them.
    version: Version = "v2" if entry.get("version", "v1") == "v2" else "v1"
    key = json.dumps([entry["rules"], entry["parsing_configuration"], version])
    if (config := configs.get(key)) is None:
        parsing = entry["parsing_configuration"]
        config = configs[key] = JobConfig(
            tuple(Rule.model_validate(rule) for rule in entry["rules"]),
            None if parsing is None else ParsingConfiguration.model_validate(parsing),
            version,
        )
    return SandboxJob(
        number=entry["number"],
        job_id=entry["job_id"],
        project_id=entry["project_id"],
        created_at_s=entry["created_at_s"],
        duration_s=entry["duration_s"],
        ending=JobEnding(
            JobStatus(entry["status"]),
            entry["error_message"],
            tuple(entry["null"]),
            tuple(entry["absent"]),
            tuple(entry.get("oddities", ())),
            entry.get("error_first_s", 0.0),
        ),
        file_ids=tuple(entry["file_ids"]),
        config=config,
        mode=entry["mode"],
        transaction_id=entry.get("transaction_id"),
        clock_shift_s=entry.get("clock_shift_s", 0.0),
        by_other=entry.get("by_other", False),
    )
