"""What a create is refused for once it is well-formed. Each function raises `Refusal`."""

from __future__ import annotations

from classify_batch.capabilities import CAPABILITIES
from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.sandbox.jobs.create_request import CreateRequest
from classify_batch.sandbox.jobs.job_table import JobTable
from classify_batch.sandbox.jobs.sandbox_job import credits_for
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server.fault_responses import FULL_WORDS, NO_CREDIT_WORDS
from classify_batch.sandbox.server.responses import invalid, refuse, too_many
from classify_batch.sandbox.server.uploads import UploadStore


def admit(
    create_request: CreateRequest,
    project_id: str,
    options: Options,
    upload_store: UploadStore,
    job_table: JobTable,
    now_s: float,
) -> None:
    """Lets a create pass, or raises `Refusal`: its files, the credits, the plan's count, in this order."""
    _check_files(create_request, project_id, options.faults, upload_store)
    _check_credits(create_request, options.faults, job_table)
    most = options.jobs_at_once
    if most is not None and job_table.count_unfinished(now_s) >= most:
        raise too_many(f"{FULL_WORDS} ({most}).", options.faults.retry_after_s)


def _check_files(create_request: CreateRequest, project_id: str, faults: Faults, upload_store: UploadStore) -> None:
    foreign = list(faults.struck("foreign", create_request.file_ids))
    if foreign and faults.foreign_says == "index":
        words = "Value error, no such file in the project"
        raise invalid(*((_place(create_request, position), words, "value_error") for position in foreign))
    named = upload_store.first_unknown_file(create_request.file_ids, project_id) or (
        create_request.file_ids[foreign[0]] if foreign else None
    )
    if named is not None:
        raise refuse(400, f"File ID {named} is not in Project ID {project_id}")
    if any(True for _ in faults.struck("rejected_vaguely", create_request.file_ids)):
        raise refuse(400, "Some of the files can't be classified")


def _place(create_request: CreateRequest, position: int) -> tuple[str | int, ...]:
    several = CAPABILITIES[create_request.config.version].files_per_job_max > 1
    return ("body", "file_ids", position) if several else ("body", "file_input")


def _check_credits(create_request: CreateRequest, faults: Faults, job_table: JobTable) -> None:
    if faults.credits is None:
        return
    if job_table.credits_spent + credits_for(len(set(create_request.file_ids)), create_request.mode) > faults.credits:
        raise refuse(402, NO_CREDIT_WORDS)
