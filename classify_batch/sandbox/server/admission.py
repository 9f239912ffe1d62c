"""What a create is refused for once it is well-formed. Each function raises `Refusal`."""

from __future__ import annotations

from classify_batch.capabilities import CAPABILITIES
from classify_batch.file_keys import is_parse_job
from classify_batch.sandbox.documents.project import parsed_file
from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.sandbox.jobs.create_request import CreateRequest
from classify_batch.sandbox.jobs.job_table import JobTable
from classify_batch.sandbox.jobs.sandbox_job import credits_for_pages
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server.fault_responses import FULL_WORDS, NO_CREDIT_WORDS
from classify_batch.sandbox.server.responses import make_422_refusal, make_429_refusal, make_refusal
from classify_batch.sandbox.server.uploads import UploadStore


def admit_create(
    create_request: CreateRequest,
    project_id: str,
    options: Options,
    upload_store: UploadStore,
    job_table: JobTable,
    now_s: float,
) -> None:
    """Lets a create pass or raises `Refusal`. Checks its files, then the credits, then the plan's job limit."""
    upload_store.expire_at_create(create_request.file_ids)
    check_files(create_request, project_id, options.faults, upload_store)
    check_credits(create_request, options.faults, job_table)
    jobs_max = options.jobs_at_once
    if jobs_max is not None and job_table.count_unfinished(now_s) >= jobs_max:
        raise make_429_refusal(f"{FULL_WORDS} ({jobs_max}).", options.faults.retry_after_s)


def check_files(create_request: CreateRequest, project_id: str, faults: Faults, upload_store: UploadStore) -> None:
    file_ids = create_request.file_ids
    foreign = list(faults.indexes_with_fault("foreign", file_ids))
    if foreign and faults.foreign_says == "index":
        message = "Value error, no such file in the project"
        raise make_422_refusal(*((file_location(create_request, index), message, "value_error") for index in foreign))
    # A 400 names one file, however many are wrong.
    named = first_unknown_input(create_request, project_id, upload_store)
    named = named or (file_ids[foreign[0]] if foreign else None)
    if named is not None:
        raise make_refusal(400, f"File ID {named} is not in Project ID {project_id}")
    if any(True for _ in faults.indexes_with_fault("rejected_vaguely", file_ids)):
        raise make_refusal(400, "Some of the files can't be classified")


def first_unknown_input(create_request: CreateRequest, project_id: str, upload_store: UploadStore) -> str | None:
    """The first ID that the version doesn't take or the project doesn't have: of a file, and on v2 of a parse job."""
    file_ids = create_request.file_ids
    if not CAPABILITIES[create_request.config.version].takes_parse_jobs:
        parse_jobs = filter(is_parse_job, file_ids)
        return next(parse_jobs, None) or upload_store.first_unknown_file(file_ids, project_id)
    unknown = upload_store.first_unknown_file([*map(parsed_file, file_ids)], project_id)
    return next((each for each in file_ids if parsed_file(each) == unknown), None)


def file_location(create_request: CreateRequest, index: int) -> tuple[str | int, ...]:
    """Where a 422 says that a file is: v2 has one file and a field for it."""
    takes_many = CAPABILITIES[create_request.config.version].files_per_job_max > 1
    return ("body", "file_ids", index) if takes_many else ("body", "file_input")


def check_credits(create_request: CreateRequest, faults: Faults, job_table: JobTable) -> None:
    if faults.credits is None:
        return
    billed = [each for each in set(create_request.file_ids) if faults.parse_jobs_billed or not is_parse_job(each)]
    credits_needed = credits_for_pages(len(billed), create_request.mode)
    if job_table.credits_spent + credits_needed > faults.credits:
        raise make_refusal(402, NO_CREDIT_WORDS)
