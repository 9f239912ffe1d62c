"""Reads what a request asks for, and checks it. Each function raises `Refusal` for what the API would refuse."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from classify_batch.clock import from_iso
from classify_batch.protocol import v1, v2
from classify_batch.sandbox.server import bodies_v1 as bodies
from classify_batch.sandbox.server.fault_responses import PROJECT_WORDS
from classify_batch.sandbox.server.responses import make_422_refusal, make_refusal
from classify_batch.settings.job_spec import Rule

BODY_BYTES_MAX = 10_000_000
PAGE_SIZE_DEFAULT = 50

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request) -> bytes:
    """The request's body. It is kept, so that it can be read again after the client has hung up."""
    known: bytes | None = getattr(request.state, "body_read", None)
    if known is None:
        known = request.state.body_read = await receive_body(request)
    return known


async def receive_body(request: Request) -> bytes:
    body = bytearray()
    async with aclosing(request.stream()) as parts:
        async for part in parts:
            body += part
            if len(body) > BODY_BYTES_MAX:
                raise make_refusal(413, f"Request body is larger than {BODY_BYTES_MAX} bytes")
    return bytes(body)


def parse_create_v1(body: bytes) -> v1.CreateBody:
    """The body of a v1 create."""
    create = parse_body(v1.CreateBody, body)
    check_rule_types_unique(create.rules, ("body", "rules"))
    return create


def parse_create_v2(body: bytes) -> v2.CreateBody:
    """The body of a v2 create."""
    create = parse_body(v2.CreateBody, body)
    check_rule_types_unique(create.configuration.rules, ("body", "configuration", "rules"))
    return create


def parse_body(kind: type[Body], body: bytes) -> Body:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise make_422_refusal(*((("body", *each["loc"]), each["msg"], each["type"]) for each in faults)) from None


def check_rule_types_unique(rules: Sequence[Rule], where: Sequence[str]) -> None:
    types = [rule.type for rule in rules]
    if len(set(types)) < len(types):
        raise make_422_refusal((where, "Value error, rule types must be unique", "value_error"))


def read_project_id(request: Request, default: str) -> str:
    """The project that a request is about: the only one that its key sees, or else the one that it names."""
    own: str | None = getattr(request.state, "own_project", None)
    named = request.query_params.get("project_id")
    if own is not None and named and named != own:
        raise make_refusal(403, PROJECT_WORDS)
    return own or named or default


def read_page_size(request: Request, default: int, size_max: int, *, clamp: bool = False) -> int:
    text = request.query_params.get("page_size")
    if text is None:
        return default
    where = ("query", "page_size")
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        raise make_422_refusal((where, "Input should be a valid integer", "int_parsing"))
    size = int(text[:10])
    if size < 1:
        raise make_422_refusal((where, "Input should be greater than or equal to 1", "greater_than_equal"))
    if size > size_max and not clamp:
        raise make_422_refusal((where, f"Input should be less than or equal to {size_max}", "less_than_equal"))
    return min(size, size_max)


def read_page_position(request: Request, list_name: str) -> int | None:
    token = request.query_params.get("page_token")
    if not token:
        return None
    try:
        return bodies.decode_page_token(list_name, token)
    except ValueError as error:
        raise make_422_refusal((("query", "page_token"), str(error), "value_error")) from None


def read_status_filter(request: Request) -> str | None:
    """The status by which a list of v2 jobs is filtered; None: jobs of any status."""
    word = request.query_params.get("status")
    words = get_args(v2.Status)
    if word is not None and word not in words:
        raise make_422_refusal((("query", "status"), f"Input should be one of {', '.join(words)}", "enum"))
    return word


def read_time_filter_ms(request: Request, name: str) -> float | None:
    """A time in the query, in milliseconds, since the times that jobs show are no finer."""
    text = request.query_params.get(name)
    if text is None:
        return None
    moment_s = from_iso(text)
    if moment_s is None:
        raise make_422_refusal((("query", name), "Input should be a valid datetime", "datetime_parsing"))
    return round(moment_s * 1000, 3)
