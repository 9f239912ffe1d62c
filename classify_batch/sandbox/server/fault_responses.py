"""What a client sees of each misfortune: one function per word of `misfortunes.WHATS`, and one for the statuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

from starlette.responses import HTMLResponse, Response

from classify_batch.sandbox.faults.request_faults import Call
from classify_batch.sandbox.server.responses import Answer, Broken, invalid, refuse, too_many

RATE_WORDS = "Rate limit exceeded. Try again later."
KEY_WORDS = "Invalid API key. Please check your API key and try again."
PROJECT_WORDS = "Your API key has no access to this project."
NO_JOB_WORDS = "Classify job not found"
NO_CREDIT_WORDS = "You have run out of credits. Please upgrade your plan or add credits."
FULL_WORDS = "You have already reached the maximum number of classify jobs at once"

_WORDS = {401: KEY_WORDS, 402: NO_CREDIT_WORDS, 404: NO_JOB_WORDS, 429: RATE_WORDS}
_PROXY_STATUSES = frozenset({502, 504})
"""Statuses that come from what stands before the API: in HTML."""

_STOCK = Answer('{"items":[],"next_page_token":null,"total_size":0}')
"""What half is sent of where no work was done."""

_PORTAL = "<!doctype html><html><head><title>Welcome</title></head><body>Accept our terms to go online.</body></html>"

_SEEN: Mapping[str, Callable[[Response], Response]] = {
    "hang": lambda _: Broken("hang"),
    "close": lambda _: Broken("close"),
    "reset": lambda _: Broken("reset"),
    "cut": lambda whole: Broken("close", whole),
    "reset_midway": lambda whole: Broken("reset", whole),
    "html": lambda _: HTMLResponse(_PORTAL),
    "garbage": lambda _: Answer(b"\x1f\x00\xff\xfe{\x80" * 20),
    "other_shape": lambda _: Answer('{"data":[{"status":7}],"ok":true}'),
}


def suffer(
    what: str, call: Call, whole: Response | None, retry_after_s: float | None, files_field: str = "file_ids"
) -> Response:
    """What the client gets when `what` strikes.

    Args:
        whole: the answer that it would have got; None if no work was done.
        files_field: what holds the files in a create's body: the place that a 422 names.
    """
    if what in _SEEN:
        return _SEEN[what](whole or _STOCK)
    if what == "plan_full":
        return too_many(f"{FULL_WORDS}.", retry_after_s).response
    return _status(int(what), call, retry_after_s, files_field)


def _status(status: int, call: Call, retry_after_s: float | None, files_field: str) -> Response:
    words = _WORDS.get(status) or _phrase(status)
    if status in _PROXY_STATUSES:
        return HTMLResponse(f"<html><body><center><h1>{status} {words}</h1></center></body></html>", status)
    if status == 422:
        where = ("body", files_field) if call == "create" else ("query",)
        return invalid((where, "Value error, not valid", "value_error")).response
    if status == 429:
        return too_many(words, retry_after_s).response
    return refuse(status, words).response


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
