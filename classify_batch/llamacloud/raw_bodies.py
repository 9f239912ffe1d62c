"""JSON bodies as the server sent them, without secrets.

A person who asks for one job wants all that the server said, and not only what a run needs. So these readers give the
whole JSON object once its shape is checked, and hide what nobody may see.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import isfinite
from typing import Any

from classify_batch.llamacloud.redaction import MASK, Secrets
from classify_batch.protocol import v1, v2

Body = dict[str, Any]

_NEVER_HIDDEN = frozenset(
    name
    for body in (v1.JobBody, v1.ItemBody, v1.ResultBody, v1.PageBody, v2.JobBody, v2.ConfigurationBody, v2.ParsingBody)
    for name in body.__annotations__
    if name != "error_message"
) | {"description", "name", "external_file_id", "file_type"}
"""Fields by which a program decides, or which are the answer. They stay as they came, since the value of a webhook's
header may be the same word."""


def make_body_reader(check: Callable[[bytes], object], secrets: Secrets) -> Callable[[bytes], Body]:
    """A reader that gives the whole body, if `check` raises no ValueError for it."""

    def check_and_read(data: bytes) -> Body:
        check(data)
        return read_raw_body(data, secrets)

    return check_and_read


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
    """A value without secrets, and without webhook headers: a server may show those of any job, and not only ours."""
    if name == "webhook_headers" and value is not None:
        return dict.fromkeys(value, MASK) if isinstance(value, dict) else MASK
    if isinstance(value, str):
        return value if name in _NEVER_HIDDEN else secrets.hide(value)
    if isinstance(value, dict):
        return {key: hide_secrets(key, each, secrets) for key, each in value.items()}
    return [hide_secrets(name, each, secrets) for each in value] if isinstance(value, list) else value
