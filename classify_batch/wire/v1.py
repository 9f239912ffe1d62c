"""v1 of the classifier's API: one job holds many files.

Source: the vendor's API reference (`classifier:jobs create | list | get | get-results`) and its SDK 1.6.0. Readers are
lenient in what a server may leave out or add, and strict in what everything rests on: an id and a status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from classify_batch.clock import from_iso
from classify_batch.records import (
    FILES_PER_JOB_MAX,
    Answer,
    JobPage,
    JobSpec,
    JobView,
    Mode,
    ParsingConfiguration,
    Rule,
)

JOBS_PATH = "/api/v1/classifier/jobs"


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


def create_body(spec: JobSpec, file_ids: Sequence[str]) -> dict[str, Any]:
    """The body of a create call. Unset optional fields are left out, so that the server's own defaults apply."""
    body: dict[str, Any] = {
        "file_ids": list(file_ids),
        "rules": [{"type": rule.type, "description": rule.description} for rule in spec.rules],
        "mode": spec.mode,
    }
    if spec.parsing_configuration is not None:
        body["parsing_configuration"] = spec.parsing_configuration.model_dump(mode="json", exclude_none=True)
    if spec.webhook_configurations:
        body["webhook_configurations"] = [
            {
                "webhook_url": webhook.webhook_url,
                **({"webhook_events": list(webhook.webhook_events)} if webhook.webhook_events is not None else {}),
                **(
                    {"webhook_headers": {k: v.get_secret_value() for k, v in webhook.webhook_headers.items()}}
                    if webhook.webhook_headers is not None
                    else {}
                ),
            }
            for webhook in spec.webhook_configurations
        ]
    return body


def read_job(body: object) -> JobView:
    """A ClassifyJob as we keep it. Raises ValueError for JSON of another shape."""
    if not isinstance(body, Mapping):
        raise ValueError("a job is an object")
    job_id, status = body.get("id"), body.get("status")
    if not isinstance(job_id, str) or not job_id or not isinstance(status, str):
        raise ValueError("a job has an id and a status")
    parsing = body.get("parsing_configuration")
    return JobView(
        job_id=job_id,
        status=status,
        project_id=_text(body.get("project_id")),
        created_at_s=from_iso(created) if (created := _text(body.get("created_at"))) else None,
        error_message=_text(body.get("error_message")),
        rules=_rules(body.get("rules")),
        mode=_text(body.get("mode")),
        parsing_configuration=dict(parsing) if isinstance(parsing, Mapping) else None,
    )


def read_job_page(body: object) -> JobPage:
    """A page of jobs. Raises ValueError for JSON of another shape."""
    items, token = read_page(body)
    return JobPage(tuple(read_job(item) for item in items), token)


def read_page(body: object) -> tuple[list[object], str | None]:
    """The items of a page and the token of the next. Raises ValueError for JSON of another shape."""
    if not isinstance(body, Mapping) or not isinstance(items := body.get("items"), list):
        raise ValueError("a page has a list of items")
    return items, _text(body.get("next_page_token")) or None


def read_answer(item: object) -> Answer:
    """One file's answer. Raises ValueError for JSON of another shape."""
    if not isinstance(item, Mapping):
        raise ValueError("an answer is an object")
    file_id, result = _text(item.get("file_id")), item.get("result")
    if result is None:
        return Answer(file_id, answered=False)
    if not isinstance(result, Mapping):
        raise ValueError("a result is an object or null")
    confidence = result.get("confidence")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float | None):
        raise ValueError("a confidence is a number")
    kind = result.get("type")
    if kind is not None and not isinstance(kind, str):
        raise ValueError("a type is a text or null")
    return Answer(file_id, True, kind, confidence, _text(result.get("reasoning")))


def _rules(body: object) -> frozenset[tuple[str, str]] | None:
    if not isinstance(body, list):
        return None
    return frozenset((str(r.get("type")), str(r.get("description"))) for r in body if isinstance(r, Mapping))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
