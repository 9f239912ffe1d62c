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
    order: CreateRequest, project_id: str, options: Options, shelf: UploadStore, world: JobTable, now_s: float
) -> None:
    """Lets a create pass, or raises `Refusal`: its files, the credits, the plan's count, in this order."""
    _check_files(order, project_id, options.faults, shelf)
    _check_credits(order, options.faults, world)
    most = options.jobs_at_once
    if most is not None and world.count_unfinished(now_s) >= most:
        raise too_many(f"{FULL_WORDS} ({most}).", options.faults.retry_after_s)


def _check_files(order: CreateRequest, project_id: str, faults: Faults, shelf: UploadStore) -> None:
    foreign = list(faults.struck("foreign", order.file_ids))
    if foreign and faults.foreign_says == "index":
        words = "Value error, no such file in the project"
        raise invalid(*((_place(order, position), words, "value_error") for position in foreign))
    named = shelf.first_unknown_file(order.file_ids, project_id) or (order.file_ids[foreign[0]] if foreign else None)
    if named is not None:
        raise refuse(400, f"File ID {named} is not in Project ID {project_id}")
    if any(True for _ in faults.struck("rejected_vaguely", order.file_ids)):
        raise refuse(400, "Some of the files can't be classified")


def _place(order: CreateRequest, position: int) -> tuple[str | int, ...]:
    several = CAPABILITIES[order.brief.version].files_per_job_max > 1
    return ("body", "file_ids", position) if several else ("body", "file_input")


def _check_credits(order: CreateRequest, faults: Faults, world: JobTable) -> None:
    if faults.credits is None:
        return
    if world.credits_spent + credits_for(len(set(order.file_ids)), order.mode) > faults.credits:
        raise refuse(402, NO_CREDIT_WORDS)
