"""Parse jobs: what v2 may classify in the place of a file. A run only asks whose one is.

Source: the vendor's SDK 2.19.0 (`client.parsing.get`).
"""

from __future__ import annotations

from typing import TypedDict

from classify_batch.protocol.answers import AnswerModel, AnswerReader, Identity, Lenient, Text
from classify_batch.protocol.url_parts import quote_step

PARSE_JOBS_PATH = "/api/v2/parse"


class ParseJobBody(TypedDict):
    """A parse job, as the server writes it."""

    id: str
    project_id: str
    status: str
    error_message: str | None


class ParsedBody(TypedDict):
    """A parse job, beside which its content would stand where it is asked for."""

    job: ParseJobBody


class ParseJob(AnswerModel):
    """A parse job, as it is read."""

    id: Identity
    project_id: Lenient[Text] = None


class ParsedAnswer(AnswerModel):
    """A parse job, beside which its content would stand where it is asked for."""

    job: ParseJob


_READER = AnswerReader(ParsedAnswer)


def parse_job_path(job_id: str) -> str:
    """The path of a parse job."""
    return f"{PARSE_JOBS_PATH}/{quote_step(job_id)}"


def read_parse_job(data: bytes) -> ParseJob:
    """Raises ValueError for a body of another shape."""
    return _READER.read(data).job
