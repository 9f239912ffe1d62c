"""v1 of the classifier's API: one job holds many files.

Source: the vendor's API reference (`classifier:jobs create | list | get | get-results`) and its SDK 1.6.0. Readers are
lenient in what a server may leave out or add, and strict in what everything rests on: an id and a status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict
from urllib.parse import quote

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from classify_batch.clock import from_iso
from classify_batch.model import Answer, JobView
from classify_batch.protocol.job_reader import JobReader, Page
from classify_batch.protocol.json_shape import Shape, text_or_none
from classify_batch.settings.job_spec import JobSpec, Mode, ParsingConfiguration, Rule, WebhookConfiguration
from classify_batch.vocabulary import FILES_PER_JOB_MAX

JOBS_PATH = "/api/v1/classifier/jobs"


def job_path(job_id: str) -> str:
    """The path of a job. Its ID comes from outside and is quoted, dots too, so that it can't lead to another path."""
    return f"{JOBS_PATH}/{quote(job_id, safe='').replace('.', '%2E')}"


SECRET_CHARACTERS_MIN = 6
"""Shorter header values are common words ("eu", "json"), and hiding them would garble what the server says."""


class JobBody(TypedDict):
    """A ClassifyJob. It names no file ids, no counts and no metadata."""

    id: str
    project_id: str
    rules: list[dict[str, str]]
    status: str
    user_id: str
    created_at: NotRequired[str | None]
    effective_at: NotRequired[str | None]
    updated_at: NotRequired[str | None]
    error_message: NotRequired[str | None]
    job_record_id: NotRequired[str | None]
    mode: NotRequired[str | None]
    parsing_configuration: NotRequired[dict[str, Any] | None]


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


class PageBody(TypedDict):
    """A page of jobs or of results."""

    items: list[Any]
    next_page_token: str | None
    total_size: int | None


class WebhookBody(BaseModel):
    webhook_url: str | None = None
    webhook_events: list[str] | None = None
    webhook_headers: dict[str, Any] | None = None


class CreateBody(BaseModel):
    """What a create call must hold: the documented limits, as a server checks them."""

    model_config = ConfigDict(extra="ignore")

    file_ids: list[str] = Field(min_length=1, max_length=FILES_PER_JOB_MAX)
    rules: list[Rule] = Field(min_length=1)
    mode: Mode | None = None
    parsing_configuration: ParsingConfiguration | None = None
    webhook_configurations: list[WebhookBody] | None = None


def make_create_body(spec: JobSpec, file_ids: Sequence[str]) -> dict[str, Any]:
    """The body of a create call. Unset optional fields are left out, so that the server's own defaults apply."""
    # `mode` is always sent, since it decides the price.
    body: dict[str, Any] = {
        "file_ids": list(file_ids),
        "rules": [{"type": rule.type, "description": rule.description} for rule in spec.rules],
        "mode": spec.mode,
    }
    if spec.parsing_configuration is not None:
        body["parsing_configuration"] = spec.parsing_configuration.model_dump(mode="json", exclude_none=True)
    if spec.webhook_configurations:
        body["webhook_configurations"] = webhook_bodies(spec.webhook_configurations)
    return body


def webhook_bodies(webhooks: Sequence[WebhookConfiguration]) -> list[dict[str, Any]]:
    """The webhooks of a create call, the same on both versions: the only place that reads the secret header values."""
    return [
        {
            "webhook_url": webhook.webhook_url,
            **({"webhook_events": list(webhook.webhook_events)} if webhook.webhook_events is not None else {}),
            **(
                {"webhook_headers": {k: v.get_secret_value() for k, v in webhook.webhook_headers.items()}}
                if webhook.webhook_headers is not None
                else {}
            ),
        }
        for webhook in webhooks
    ]


def webhook_secrets(webhooks: Sequence[WebhookConfiguration]) -> frozenset[str]:
    """The header values that are hidden wherever a server repeats them."""
    values = (value.get_secret_value() for webhook in webhooks for value in (webhook.webhook_headers or {}).values())
    return frozenset(value for value in values if len(value) >= SECRET_CHARACTERS_MIN)


class _JobSummary(msgspec.Struct):
    """A job without its configuration: what is polled again and again, so only a few fields are decoded."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    status: str
    project_id: Any = None
    error_message: Any = None
    created_at: Any = None

    def to_view(self) -> JobView:
        return JobView(
            self.id,
            self.status,
            text_or_none(self.project_id),
            parse_time_s(self.created_at),
            text_or_none(self.error_message),
        )


class _JobWithConfig(_JobSummary):
    """A job with its configuration, by which a job whose create answer was lost is recognised."""

    rules: Any = None
    mode: Any = None
    parsing_configuration: Any = None

    def to_view(self) -> JobView:
        parsing = self.parsing_configuration
        return JobView(
            job_id=self.id,
            status=self.status,
            project_id=text_or_none(self.project_id),
            created_at_s=parse_time_s(self.created_at),
            error_message=text_or_none(self.error_message),
            rules=rules_from_body(self.rules),
            mode=text_or_none(self.mode),
            parsing_configuration=parsing if isinstance(parsing, dict) else None,
        )


class Result(msgspec.Struct):
    """What a job answers about a file, as the server sent it."""

    type: str | None = None
    confidence: int | float | None = None
    reasoning: Any = None


class ResultItem(msgspec.Struct):
    """One file of a job's results, as the server sent it."""

    id: Any = None
    file_id: Any = None
    result: Result | None = None

    @property
    def identity(self) -> object:
        """What tells it from another: its id, or all of it where the server gives none."""
        return (self.id, self.file_id) if self.id and isinstance(self.id, str) else repr(self)

    def answer(self) -> Answer:
        return answer_from_result(self.file_id, self.result)


class ResultPage(NamedTuple):
    items: list[ResultItem]
    next_page_token: str | None
    total_size: int | None


_JOBS = JobReader(Shape(_JobSummary), Shape(Page[_JobSummary]), Shape(Page[_JobWithConfig]))
_RESULTS = Shape(Page[ResultItem])

read_job, read_jobs_page, read_jobs_by_id = _JOBS.read_job, _JOBS.read_jobs_page, _JOBS.read_jobs_by_id


def read_result_page(data: bytes) -> ResultPage:
    """A page of a job's results. Raises ValueError for a body of another shape."""
    page = _RESULTS.read(data)
    return ResultPage(page.items, page.next_token, page.total_size if isinstance(page.total_size, int) else None)


def parse_time_s(moment: object) -> float | None:
    """Seconds since the epoch from a time of the server; None for what is no time."""
    words = text_or_none(moment)
    return from_iso(words) if words else None


def answer_from_result(file_id: object, result: Result | None) -> Answer:
    """The answer about a file. A null result means that the file was not classified."""
    if result is None:
        return Answer(text_or_none(file_id), answered=False)
    return Answer(text_or_none(file_id), True, result.type, result.confidence, text_or_none(result.reasoning))


def rules_from_body(body: object) -> frozenset[tuple[str, str]] | None:
    """The rules that a job was created with, as the server repeats them."""
    if not isinstance(body, list):
        return None
    return frozenset((str(r.get("type")), str(r.get("description"))) for r in body if isinstance(r, Mapping))
