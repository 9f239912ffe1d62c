"""What a client sees of each fault: one response for each word of `request_faults.WHATS`, and one for each status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

from starlette.responses import HTMLResponse, Response

from classify_batch.sandbox.faults.request_faults import Call
from classify_batch.sandbox.server.responses import (
    BrokenResponse,
    JsonResponse,
    make_422_refusal,
    make_429_refusal,
    make_refusal,
)

RATE_WORDS = "Rate limit exceeded. Try again later."
KEY_WORDS = "Invalid API key. Please check your API key and try again."
PROJECT_WORDS = "Your API key has no access to this project."
NO_JOB_WORDS = "Classify job not found"
NO_CREDIT_WORDS = "You have run out of credits. Please upgrade your plan or add credits."
FULL_WORDS = "You have already reached the maximum number of classify jobs at once"

_WORDS = {401: KEY_WORDS, 402: NO_CREDIT_WORDS, 404: NO_JOB_WORDS, 429: RATE_WORDS}
_PROXY_STATUSES = frozenset({502, 504})
"""Statuses that come from what stands before the API: in HTML."""

_STOCK = JsonResponse('{"items":[],"next_page_token":null,"total_size":0}')
"""What half is sent of where no work was done."""

_PORTAL = "<!doctype html><html><head><title>Welcome</title></head><body>Accept our terms to go online.</body></html>"

_RESPONSES: Mapping[str, Callable[[Response], Response]] = {
    "hang": lambda _: BrokenResponse("hang"),
    "close": lambda _: BrokenResponse("close"),
    "reset": lambda _: BrokenResponse("reset"),
    "cut": lambda whole: BrokenResponse("close", whole),
    "reset_midway": lambda whole: BrokenResponse("reset", whole),
    "html": lambda _: HTMLResponse(_PORTAL),
    "garbage": lambda _: JsonResponse(b"\x1f\x00\xff\xfe{\x80" * 20),
    "other_shape": lambda _: JsonResponse('{"data":[{"status":7}],"ok":true}'),
}


def make_fault_response(
    what: str, call: Call, whole: Response | None, retry_after_s: float | None, files_field: str = "file_ids"
) -> Response:
    """The response that the client gets when `what` happens.

    Args:
        whole: the answer that it would have got; None if no work was done.
        files_field: what holds the files in a create's body: the place that a 422 names.
    """
    if what in _RESPONSES:
        return _RESPONSES[what](whole or _STOCK)
    if what == "plan_full":
        return make_429_refusal(f"{FULL_WORDS}.", retry_after_s).response
    return status_response(int(what), call, retry_after_s, files_field)


def status_response(status: int, call: Call, retry_after_s: float | None, files_field: str) -> Response:
    words = _WORDS.get(status) or standard_phrase(status)
    if status in _PROXY_STATUSES:
        return HTMLResponse(f"<html><body><center><h1>{status} {words}</h1></center></body></html>", status)
    if status == 422:
        where = ("body", files_field) if call == "create" else ("query",)
        return make_422_refusal((where, "Value error, not valid", "value_error")).response
    if status == 429:
        return make_429_refusal(words, retry_after_s).response
    return make_refusal(status, words).response


def standard_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
