"""What a request asks for, checked. Each function raises `Refusal` for what the API would refuse."""

from __future__ import annotations

from contextlib import aclosing

from pydantic import ValidationError
from starlette.requests import Request

from classify_batch.sandbox import bodies
from classify_batch.sandbox.answers import invalid, refuse
from classify_batch.wire.v1 import CreateBody

BODY_BYTES_MAX = 10_000_000


async def read_body(request: Request) -> bytes:
    """The body; asked again, the same: a client that is gone meanwhile has sent it all the same."""
    known: bytes | None = getattr(request.state, "body_read", None)
    if known is None:
        known = request.state.body_read = await _receive(request)
    return known


async def _receive(request: Request) -> bytes:
    body = bytearray()
    async with aclosing(request.stream()) as parts:
        async for part in parts:
            body += part
            if len(body) > BODY_BYTES_MAX:
                raise refuse(413, f"Request body is larger than {BODY_BYTES_MAX} bytes")
    return bytes(body)


def checked(body: bytes) -> CreateBody:
    try:
        create = CreateBody.model_validate_json(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise invalid(*((("body", *each["loc"]), each["msg"], each["type"]) for each in faults)) from None
    types = [rule.type for rule in create.rules]
    if len(set(types)) < len(types):
        raise invalid((("body", "rules"), "Value error, rule types must be unique", "value_error"))
    return create


def page_size(request: Request, default: int, most: int, *, clamp: bool = False) -> int:
    text = request.query_params.get("page_size")
    if text is None:
        return default
    where = ("query", "page_size")
    if not (text.isascii() and text.isdigit()):
        raise invalid((where, "Input should be a valid integer", "int_parsing"))
    size = int(text[:10])
    if size < 1:
        raise invalid((where, "Input should be greater than or equal to 1", "greater_than_equal"))
    if size > most and not clamp:
        raise invalid((where, f"Input should be less than or equal to {most}", "less_than_equal"))
    return min(size, most)


def position(request: Request, place: str) -> int | None:
    token = request.query_params.get("page_token")
    if not token:
        return None
    try:
        return bodies.from_token(place, token)
    except ValueError as error:
        raise invalid((("query", "page_token"), str(error), "value_error")) from None
