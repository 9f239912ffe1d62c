"""JSON bodies as the server sent them, without secrets.

A person who asks for one job wants all that the server said, and not only what a run needs. So these readers give the
whole JSON object once its shape is checked, and hide what nobody may see.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import isfinite
from typing import Any, Generic, NamedTuple, TypeVar

from classify_batch.llamacloud.redaction import MASK, Secrets
from classify_batch.protocol import v1, v2
from classify_batch.protocol.answers import AnswerModel, Page, Result, RuleAnswer
from classify_batch.protocol.file_bodies import StoredFile

Body = dict[str, Any]
Answer = TypeVar("Answer")

_MODELS: tuple[type[AnswerModel], ...] = (
    v1.Job,
    v1.ResultItem,
    Result,
    RuleAnswer,
    Page,
    v2.Job,
    v2.ConfigurationAnswer,
    StoredFile,
)
_NEVER_HIDDEN = (
    frozenset(name for model in _MODELS for name in model.model_fields)
    | frozenset(v2.ParsingBody.__annotations__)
    | {"file_type"}
) - {"error_message"}
"""Fields by which a program decides, or which are the answer. They stay as they came, since the value of a webhook's
header may be the same word."""


class RawAnswer(NamedTuple, Generic[Answer]):
    """A body, and what was read from it."""

    answer: Answer
    body: Body


def make_body_reader(read: Callable[[bytes], Answer], secrets: Secrets) -> Callable[[bytes], RawAnswer[Answer]]:
    """A reader that gives the whole body, too. `read` raises ValueError for a body of another shape."""

    def read_both(data: bytes) -> RawAnswer[Answer]:
        return RawAnswer(read(data), read_raw_body(data, secrets))

    return read_both


def read_raw_body(data: bytes, secrets: Secrets) -> Body:
    """A JSON object as it came, fit to be written as JSON again, and without secrets. Raises ValueError."""
    try:
        body: Body = json.loads(data, parse_constant=_constant_to_null, parse_float=_finite_or_null)
        return {name: hide_secrets(name, value, secrets) for name, value in body.items()}
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _constant_to_null(_name: str) -> None:
    """NaN and the infinities are no JSON: a program that reads our output would stop at them."""


def _finite_or_null(text: str) -> float | None:
    number = float(text)
    return number if isfinite(number) else None


def hide_secrets(name: str, value: Any, secrets: Secrets) -> Any:
    """A value without secrets, and without those of webhooks: a server may show those of any job, and not only ours."""
    if name == "webhook_headers" and value is not None:
        return dict.fromkeys(value, MASK) if isinstance(value, dict) else MASK
    if name == "webhook_signing_secret" and value is not None:
        return MASK
    if isinstance(value, str):
        return value if name in _NEVER_HIDDEN else secrets.hide(value)
    if isinstance(value, dict):
        return {key: hide_secrets(key, each, secrets) for key, each in value.items()}
    return [hide_secrets(name, each, secrets) for each in value] if isinstance(value, list) else value
