"""Jobs that somebody else makes in the project, about files of the client under test: pure."""

from __future__ import annotations

from random import Random
from uuid import NAMESPACE_URL, uuid5

from classify_batch.capabilities import CAPABILITIES
from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.sandbox.jobs.create_request import CreateRequest
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob

PARTIAL_SHARE_MIN = 0.5
"""At least so many of the others' jobs end PARTIAL_SUCCESS: their answers cover the client's files with gaps."""


def overlapping_create_request(job: SandboxJob, mode: str | None, random: Random) -> CreateRequest:
    """What somebody else creates by the rules of a job: half of its files, rounded up, and as many other files. For a
    job of one file: the same file.

    Args:
        mode: on v1. None: the job's.
    """
    if CAPABILITIES[job.version].files_per_job_max == 1:
        return CreateRequest(job.file_ids, job.config, job.mode)
    shared = random.sample(job.file_ids, (len(job.file_ids) + 1) // 2)
    other_file_ids = [str(uuid5(NAMESPACE_URL, f"other/{job.job_id}/{number}")) for number in range(len(shared))]
    return CreateRequest(
        tuple(random.sample([*shared, *other_file_ids], 2 * len(shared))), job.config, mode or job.mode
    )


def faults_of_foreign_jobs(faults: Faults) -> Faults:
    """The faults by which foreign jobs end: they get gaps more often."""
    return faults.model_copy(update={"partial": max(faults.partial, PARTIAL_SHARE_MIN)})
