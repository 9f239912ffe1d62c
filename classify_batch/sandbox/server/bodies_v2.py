"""Bodies of v2 as the server speaks them: put together as text, for the same reason as those of v1."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from classify_batch.protocol.v1 import ResultBody
from classify_batch.protocol.v2 import (
    ConfigurationBody,
    DeletedBody,
    ParsingBody,
    RuleBody,
    Status,
    UsageBody,
    format_target_pages,
)
from classify_batch.sandbox.documents.project import Classifier, JobConfig, parsed_file
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server.bodies_v1 import (
    USER_ID,
    created_at_json,
    encode_json,
    error_message_json,
    shown_file_id,
    shown_job_times,
)
from classify_batch.vocabulary import JobStatus

_WORDS: Mapping[JobStatus, Status] = {
    JobStatus.SUCCESS: "COMPLETED",
    JobStatus.PARTIAL_SUCCESS: "COMPLETED",
    JobStatus.ERROR: "FAILED",
    JobStatus.CANCELLED: "CANCELLED",
}
"""v2's words for how a job ends: an answered job whose file has no answer is COMPLETED, with `result: null`."""


def status_word_of(job: SandboxJob, now_s: float) -> Status:
    """v2's word for a job's status; a job is RUNNING in the second half of its life."""
    if job.is_finished(now_s):
        return _WORDS[job.status(now_s)]
    return "PENDING" if now_s < job.half_done_at_s else "RUNNING"


def job_json(
    job: SandboxJob, now_s: float, classifier: Classifier | None, options: Options, *, usage: bool = False
) -> str:
    """A classify job as it is now, without the fields that the options leave out.

    Args:
        classifier: answers its file; None: no answer is shown.
        usage: whether what was billed is asked for.
    """
    finished = job.is_finished(now_s)
    shown = job.shown_status(now_s) if not finished and "unknown_status" in job.ending.oddities else None
    status = shown or status_word_of(job, now_s)
    expanded = f',"usage":{encode_json(usage_body(job, now_s, options))}' if usage else ""
    created_at, updated_at = shown_job_times(job, now_s)
    file_id = shown_file_id(job.file_ids[0], options)
    mode = None if options.silent_mode else job.mode
    return (
        f'{{"id":"{job.job_id}","configuration":{configuration_json(job.config, mode)},"configuration_id":null,'
        f'"document_input_type":"{"parse_job_id" if job.is_of_parse_job else "file_id"}",'
        f'"file_input":{encode_json(file_id)},"parse_job_id":{encode_json(file_id if job.is_of_parse_job else None)},'
        f'"project_id":{encode_json(job.project_id)},"status":"{status}","user_id":"{USER_ID}",'
        f'{created_at_json(created_at, options)}"updated_at":"{updated_at}",'
        f'"error_message":{error_message_json(job, now_s)},"result":{encode_json(answer_of_job(job, classifier))},'
        f'"transaction_id":{encode_json(job.transaction_id)}{expanded}}}'
    )


def deleted_json(job: SandboxJob) -> str:
    """The body of the response to a delete."""
    body: DeletedBody = {"id": job.job_id, "project_id": job.project_id}
    return encode_json(body)


@lru_cache(maxsize=64)
def configuration_json(config: JobConfig, mode: str | None) -> str:
    parsing = config.parsing_configuration
    parsing_body: ParsingBody | None = None
    if parsing is not None:
        pages = parsing.target_pages
        parsing_body = {
            "lang": parsing.lang,
            "max_pages": parsing.max_pages,
            "target_pages": None if pages is None else format_target_pages(pages),
        }
    rules: list[RuleBody] = [{"type": rule.type, "description": rule.description} for rule in config.rules]
    body: ConfigurationBody = {"rules": rules, "parsing_configuration": parsing_body}
    if mode is not None:
        body["mode"] = mode
    return encode_json(body)


def answer_of_job(job: SandboxJob, classifier: Classifier | None) -> ResultBody | None:
    if classifier is None:
        return None
    return next(
        (classifier(parsed_file(file_id)) for _, file_id, has_result in job.answered_files() if has_result), None
    )


def usage_body(job: SandboxJob, now_s: float, options: Options) -> UsageBody:
    """What was billed: nothing while a job shows ERROR, though it is answered later."""
    billed = None
    if job.is_finished(now_s):
        paid = job.credits_billed(parse_jobs=options.faults.parse_jobs_billed)
        billed = float(paid) if job.is_answered(now_s) else 0.0
    return {"credits": billed, "parse_credits": None if job.is_of_parse_job else billed}
