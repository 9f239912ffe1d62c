"""v1 of the classifier's API: one job holds many files.

Source: the vendor's API reference (`classifier:jobs create | list | get | get-results`) and its SDK 1.6.0.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Annotated, Any, TypedDict

import msgspec
from pydantic import Field

from classify_batch.file_keys import same_id
from classify_batch.model import Answer, JobView
from classify_batch.protocol.answers import (
    AnswerModel,
    AnswerReader,
    Lenient,
    Page,
    Result,
    ResultsPage,
    RuleAnswer,
    Text,
    answer_from_result,
    parse_time_s,
    rules_of_job,
)
from classify_batch.protocol.job_reader import JobAnswer, JobReader, fold_status
from classify_batch.protocol.json_shape import text_or_none
from classify_batch.protocol.quick_readers import QuickPage, QuickReader, QuickResult, answer_from_quick_result
from classify_batch.protocol.requests import RequestModel, WebhookBody, webhook_bodies
from classify_batch.settings.job_spec import JobSpec, Mode, ParsingConfiguration, Rule, WebhookConfiguration
from classify_batch.vocabulary import FILES_PER_JOB_MAX, KNOWN_STATUSES

JOBS_PATH = "/api/v1/classifier/jobs"

SECRET_CHARACTERS_MIN = 6
"""Shorter header values are common words ("eu", "json"), and hiding them would garble what the server says."""

# --- Requests -------------------------------------------------------------------------------------------------------


class CreateBody(RequestModel):
    """What a create call must hold."""

    file_ids: list[str] = Field(min_length=1, max_length=FILES_PER_JOB_MAX)
    rules: list[Rule] = Field(min_length=1)
    mode: Mode | None = None
    parsing_configuration: ParsingConfiguration | None = None
    webhook_configurations: list[WebhookBody] | None = None


def make_create_body(spec: JobSpec, file_ids: Sequence[str]) -> CreateBody:
    """The body of a create call."""
    return CreateBody(
        file_ids=list(file_ids),
        rules=list(spec.rules),
        mode=spec.mode,  # always sent, since it decides the price
        parsing_configuration=spec.parsing_configuration,
        webhook_configurations=webhook_bodies(spec.webhook_configurations),
    )


def webhook_secrets(webhooks: Sequence[WebhookConfiguration]) -> frozenset[str]:
    """The values that are hidden wherever a server repeats them."""
    values = (value for webhook in webhooks for value in webhook.secret_values)
    return frozenset(value for value in values if len(value) >= SECRET_CHARACTERS_MIN)


# --- Answers, as the server writes them -----------------------------------------------------------------------------


class ResultBody(TypedDict):
    """The answer on one file; `type` null: no rule matched."""

    type: str | None
    confidence: float
    reasoning: str


class ItemBody(TypedDict):
    """One file in a job's results; `file_id` and `result` may be null."""

    id: str
    classify_job_id: str
    created_at: str | None
    updated_at: str | None
    file_id: str | None
    result: ResultBody | None


# --- Answers, as they are read --------------------------------------------------------------------------------------


def known_status(status: str) -> str:
    """A status in its one spelling. An unknown one stays as it is, and means that the job is not finished."""
    if status in KNOWN_STATUSES:
        return status
    folded = fold_status(status)
    return folded if folded in KNOWN_STATUSES else status


class Job(JobAnswer):
    """A ClassifyJob. It names no file ids, no counts and no metadata."""

    rules: Lenient[list[RuleAnswer]] = None
    effective_at: Lenient[Text] = None
    job_record_id: Lenient[Text] = None
    mode: Lenient[Text] = None
    parsing_configuration: Lenient[dict[str, object]] = None

    def summary(self) -> JobView:
        return JobView(self.id, known_status(self.status), self.project_id, self.created_at_s, self.error_message)

    def to_view(self) -> JobView:
        return self.summary()._replace(
            rules=rules_of_job(self.rules),
            mode=self.mode,
            parsing_configuration=self.parsing_configuration,
        )


class ResultItem(AnswerModel):
    """One file of a job's results."""

    id: Lenient[Text] = None
    classify_job_id: Lenient[Text] = None
    created_at: Lenient[Text] = None
    updated_at: Lenient[Text] = None
    file_id: Lenient[Text] = None
    result: Result | None = None

    @property
    def identity(self) -> Hashable:
        """What identifies it: its id, or its answer where the server gives none."""
        return (self.id, self.file_id) if self.id else repr(self.answer())

    def answer(self) -> Answer:
        return answer_from_result(self.file_id, self.result)


# --- The same, read quickly -----------------------------------------------------------------------------------------


class QuickJob(msgspec.Struct, gc=False):
    """A job without its configuration, as `Job`."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    status: str
    project_id: Any = None
    error_message: Any = None
    created_at: Any = None

    def summary(self) -> JobView:
        return JobView(
            self.id,
            known_status(self.status),
            text_or_none(self.project_id),
            parse_time_s(self.created_at),
            text_or_none(self.error_message),
        )


class QuickItem(msgspec.Struct, gc=False):
    """A file in a job's results, as `ResultItem`, without what a run doesn't need."""

    id: Any = None
    classify_job_id: Any = None
    file_id: Any = None
    result: QuickResult | None = None

    @property
    def identity(self) -> Hashable:
        item_id = text_or_none(self.id)
        return (item_id, text_or_none(self.file_id)) if item_id else repr(self.answer())

    def answer(self) -> Answer:
        return answer_from_quick_result(self.file_id, self.result)


# --- Readers --------------------------------------------------------------------------------------------------------

JOBS = JobReader(JOBS_PATH, Job, Page[Job], QuickJob, QuickPage[QuickJob])
RESULTS = AnswerReader(Page[ResultItem])
"""Reads a page of a job's results with all their fields."""

job_path = JOBS.job_path
read_job, read_jobs_page, read_jobs_by_id = JOBS.read_job, JOBS.read_jobs_page, JOBS.read_jobs_by_id

AnyItem = ResultItem | QuickItem
"""One file of a job's results, however it was read."""


def answers_of(items: Sequence[AnyItem]) -> list[Answer]:
    """The answer of each item."""
    return [
        answer_from_quick_result(item.file_id, item.result) if type(item) is QuickItem else item.answer()
        for item in items
    ]


_QUICK_RESULTS = QuickReader(QuickPage[QuickItem], RESULTS)


def names_own_job(items: Sequence[AnyItem], job_id: str) -> bool | None:
    """Whether results name the job that was asked about. False: only another one; None: none, or one for each file,
    which are no jobs of many files."""
    if items and items[0].classify_job_id == job_id:  # nearly always
        return True
    named = {each for item in items if (each := text_or_none(item.classify_job_id))}
    if any(same_id(each.strip(), job_id) for each in named):
        return True
    return False if len(named) == 1 else None


def read_result_page(data: bytes) -> ResultsPage[AnyItem]:
    """A page of a job's results. Raises ValueError for a body of another shape."""
    page = _QUICK_RESULTS.read(data)
    return ResultsPage(page.items, page.next_token, page.total)
