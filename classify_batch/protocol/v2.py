"""v2 of the classifier's API: one job holds one file, and its answer.

Source: the vendor's SDK 2.19.0 (`client.classify`). This module hides the differences from v1 that would cost money or
make answers wrong. `max_pages` has no limit by default, so it is always sent. `target_pages` is a string that counts
pages from 1, and ours are numbers from 0. The words for a job's status are others, and readers translate them into
those of v1, which all other code uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
from pydantic import Field, field_validator, model_validator

from classify_batch.model import JobView
from classify_batch.protocol.answers import (
    AnswerModel,
    Lenient,
    Page,
    Result,
    RuleAnswer,
    Text,
    answer_from_result,
    parse_time_s,
    rules_of_job,
)
from classify_batch.protocol.job_reader import JobAnswer, JobReader, fold_status
from classify_batch.protocol.json_shape import text_or_none
from classify_batch.protocol.page_limits import max_pages_of
from classify_batch.protocol.quick_readers import QuickPage, QuickResult, answer_from_quick_result
from classify_batch.protocol.requests import RequestModel, WebhookBody, webhook_bodies
from classify_batch.settings.job_spec import (
    DESCRIPTION_SURE_MAX,
    JobSpec,
    Language,
    ParsingConfiguration,
    Rule,
    StrictModel,
)
from classify_batch.vocabulary import ANSWERED_STATUSES, KNOWN_STATUSES, PAGES_MAX_DEFAULT, JobStatus

JOBS_PATH = "/api/v2/classify"

PAGE_SIZE_MAX = 100
"""The most jobs in one page of the list."""

TARGET_PAGE_MAX = 100_000
"""The highest page number that is accepted: "1-999999999" must not fill the memory."""

Status = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"]

# --- Requests -------------------------------------------------------------------------------------------------------


class ParsingLimits(StrictModel):
    """How files are read. `target_pages` counts from 1; `max_pages` null: no limit."""

    lang: Language | None = None
    max_pages: int | None = Field(default=None, ge=1)
    target_pages: str | None = None

    @field_validator("target_pages")
    @classmethod
    def _check_target_pages(cls, pages: str | None) -> str | None:
        # Only checked here: it is parsed again where the numbers are needed.
        if pages is not None:
            parse_target_pages(pages)
        return pages


class ShortRule(Rule):
    """A rule as v2 takes it."""

    description: str = Field(min_length=10, max_length=DESCRIPTION_SURE_MAX)


class Configuration(RequestModel):
    """What a job is asked to do. Modes other than FAST are v1's."""

    rules: list[ShortRule] = Field(min_length=1)
    mode: Literal["FAST"] | None = None
    parsing_configuration: ParsingLimits | None = None


class CreateBody(RequestModel):
    """What a create call must hold."""

    file_input: str = Field(min_length=1)
    configuration: Configuration
    transaction_id: str | None = Field(default=None, min_length=1)
    webhook_configurations: list[WebhookBody] | None = None
    webhook_configuration_ids: list[str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _take_file_id(cls, values: object) -> object:
        """`file_id` is the deprecated name of `file_input`, and either may be null."""
        if not isinstance(values, Mapping) or values.get("file_input") is not None:
            return values
        named = {name: value for name, value in values.items() if name != "file_input"}
        file_id = values.get("file_id")
        return named if file_id is None else named | {"file_input": file_id}


def make_create_body(
    spec: JobSpec, file_id: str, transaction_id: str, max_pages: int = PAGES_MAX_DEFAULT
) -> CreateBody:
    """The body of a create call.

    Args:
        transaction_id: a create with the same one gives the same job back, whatever else the body says.
        max_pages: sent where the job's parsing configuration sets none, and names no more pages than these.

    Raises:
        ValueError: a mode of v1's.
    """
    return CreateBody(
        file_input=file_id,
        configuration=Configuration(
            rules=[ShortRule.model_validate(rule.model_dump()) for rule in spec.rules],
            mode=spec.mode,
            parsing_configuration=parsing_limits(spec.parsing_configuration, max_pages),
        ),
        transaction_id=transaction_id,
        webhook_configurations=webhook_bodies(spec.webhook_configurations),
        webhook_configuration_ids=list(spec.webhook_configuration_ids) or None,
    )


def parsing_limits(parsing: ParsingConfiguration | None, max_pages: int) -> ParsingLimits:
    """A parsing configuration as v2 spells it, with a limit of pages."""
    pages = None if parsing is None or not parsing.target_pages else format_target_pages(parsing.target_pages)
    return ParsingLimits(
        lang=None if parsing is None else parsing.lang,
        max_pages=max_pages_of(parsing, max_pages),
        target_pages=pages,
    )


# --- Page numbers ---------------------------------------------------------------------------------------------------

_PAGES = re.compile(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?")


def format_target_pages(pages: Iterable[int]) -> str:
    """0-based page numbers as v2 spells them: from 1, ascending, each once, neighbours as a range.

    >>> format_target_pages([0, 2, 3, 4])
    '1,3-5'
    """
    ranges: list[tuple[int, int]] = []
    for page in sorted({page + 1 for page in pages}):
        if ranges and ranges[-1][1] == page - 1:
            ranges[-1] = (ranges[-1][0], page)
        else:
            ranges.append((page, page))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def parse_target_pages(target_pages: str) -> tuple[int, ...]:
    """The 0-based page numbers that a string means, ascending, each once.

    Raises:
        ValueError: it is no list of page numbers and ranges from 1 to `TARGET_PAGE_MAX`.

    >>> parse_target_pages("1,3-5")
    (0, 2, 3, 4)
    """
    pages: list[int] = []
    for first, last in sorted(map(parse_page_range, target_pages.split(","))):
        seen = pages[-1] + 1 if pages else 0
        pages.extend(range(max(first - 1, seen), last))
    return tuple(pages)


def parse_page_range(part: str) -> tuple[int, int]:
    found = _PAGES.fullmatch(part)
    if found is None:
        raise ValueError('target_pages lists pages and ranges, counted from 1, as in "1,3-5"')
    first = int(found[1])
    last = first if found[2] is None else int(found[2])
    if not 1 <= first <= last <= TARGET_PAGE_MAX:
        raise ValueError(f"pages count from 1 to {TARGET_PAGE_MAX}, and a range ascends")
    return first, last


# --- Answers, as the server writes them -----------------------------------------------------------------------------


class ParsingBody(TypedDict):
    """How files are read. `target_pages` counts from 1; `max_pages` null: no limit."""

    lang: NotRequired[str | None]
    max_pages: NotRequired[int | None]
    target_pages: NotRequired[str | None]


class RuleBody(TypedDict):
    """A rule, as a job shows it."""

    type: str
    description: str


class ConfigurationBody(TypedDict):
    """What a job was asked to do."""

    rules: list[RuleBody]
    mode: NotRequired[str | None]
    parsing_configuration: NotRequired[ParsingBody | None]


class UsageBody(TypedDict):
    """What was billed; null until that is known."""

    credits: float | None
    parse_credits: float | None


class DeletedBody(TypedDict):
    """Which job was deleted."""

    id: str
    project_id: str | None


# --- Answers, as they are read --------------------------------------------------------------------------------------

_JOB_STATUSES: Mapping[str, JobStatus] = {
    "PENDING": JobStatus.PENDING,
    "RUNNING": JobStatus.PENDING,
    "COMPLETED": JobStatus.SUCCESS,
    "FAILED": JobStatus.ERROR,
    "CANCELLED": JobStatus.CANCELLED,
}


def translate_status(status: str) -> str:
    """v1's word for a status of v2. An unknown one stays as it is, and means that the job is not finished."""
    known = _JOB_STATUSES.get(status) or _JOB_STATUSES.get(fold_status(status))
    if known is not None:
        return known
    # A word of v1 (as "SUCCESS") has no meaning on v2. Unmarked it would pass for v1's, and the job for finished.
    return f"v2 {status}" if fold_status(status) in KNOWN_STATUSES else status


class ConfigurationAnswer(AnswerModel):
    """What a job was asked to do, as the server repeats it."""

    rules: Lenient[list[RuleAnswer]] = None
    mode: Lenient[Text] = None
    parsing_configuration: Lenient[dict[str, object]] = None


class Usage(AnswerModel):
    """What was billed; None until that is known."""

    credits: Lenient[float] = None
    parse_credits: Lenient[float] = None


class Job(JobAnswer):
    """A classify job. It names its file, and carries the answer once it is COMPLETED."""

    configuration: Lenient[ConfigurationAnswer] = None
    configuration_id: Lenient[Text] = None
    document_input_type: Lenient[Text] = None
    file_input: Lenient[Text] = None
    parse_job_id: Lenient[Text] = None
    result: Result | None = None
    transaction_id: Lenient[Text] = None
    usage: Lenient[Usage] = None
    """Only where it was asked for, by `expand=usage`."""

    def summary(self) -> JobView:
        status = translate_status(self.status)
        return JobView(
            job_id=self.id,
            status=status,
            project_id=self.project_id,
            created_at_s=self.created_at_s,
            error_message=self.error_message,
            answer=answer_from_result(self.file_input, self.result) if status in ANSWERED_STATUSES else None,
            credits=None if self.usage is None else bill_or_none(self.usage.credits),
            transaction_id=self.transaction_id,
        )

    def to_view(self) -> JobView:
        configuration = self.configuration or ConfigurationAnswer()
        return self.summary()._replace(
            rules=rules_of_job(configuration.rules),
            mode=configuration.mode,
            parsing_configuration=parsing_configuration_of(configuration.parsing_configuration),
            file_id=self.file_input,
        )


def parsing_configuration_of(body: dict[str, object] | None) -> dict[str, object] | None:
    """A parsing configuration as v1 has it: with page numbers from 0, where they can be read."""
    pages = None if body is None else body.get("target_pages")
    if body is None or not isinstance(pages, str):
        return body
    try:
        return body | {"target_pages": list(parse_target_pages(pages))}
    except ValueError:
        return body


# --- The same, read quickly -----------------------------------------------------------------------------------------


class QuickJob(msgspec.Struct):
    """A job without its configuration, but with its answer, as `Job`."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    status: str
    project_id: Any = None
    error_message: Any = None
    file_input: Any = None
    result: QuickResult | None = None
    usage: Any = None
    transaction_id: Any = None
    created_at: Any = None

    def summary(self) -> JobView:
        status = translate_status(self.status)
        return JobView(
            self.id,
            status,
            text_or_none(self.project_id),
            parse_time_s(self.created_at),
            text_or_none(self.error_message),
            answer=answer_from_quick_result(self.file_input, self.result) if status in ANSWERED_STATUSES else None,
            credits=billed_credits(self.usage),
            transaction_id=text_or_none(self.transaction_id),
        )


BILL_MAX = 1e9
"""Credits. More than any job can cost: whoever says so says nothing about the bill, and neither does a negative one."""


def billed_credits(usage: object) -> float | None:
    """What a job was billed; None where that isn't said, or is no bill."""
    return bill_or_none(usage.get("credits") if isinstance(usage, Mapping) else None)


def bill_or_none(billed: object) -> float | None:
    """Credits that a job can be billed; None for all else. A sum that bounds a run must not be lowered by a bill."""
    if not isinstance(billed, int | float) or isinstance(billed, bool) or not 0 <= billed <= BILL_MAX:
        return None
    return float(billed)


# --- Readers --------------------------------------------------------------------------------------------------------

JOBS = JobReader(JOBS_PATH, Job, Page[Job], QuickJob, QuickPage[QuickJob])

job_path = JOBS.job_path
read_job, read_jobs_page, read_jobs_by_id = JOBS.read_job, JOBS.read_jobs_page, JOBS.read_jobs_by_id
