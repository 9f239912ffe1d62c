"""What each failure of a call means: one table for all of them.

A read may always be repeated, so what is wrong with the network means "later", unless only a person can change it: a
certificate that isn't trusted, or is wanted of us, a proxy that refuses. A create may have been accepted, unless it is
certain that it was not: because no connection was made, or because the API itself refused it. A proxy's 502, 503 or 504
can come after the API accepted the job, so it proves nothing.
"""

from __future__ import annotations

from enum import StrEnum

from classify_batch.errors import Verdict

CREATE = "create"
CANCEL = "cancel"
UPLOAD = "upload"
_NEVER_A_PAGE = frozenset({400, 422})
"""By these the API refuses files for good. A gateway's page with a 400 is about none: it wants a client's certificate,
or forbids something in the request. By its 413 the request is too long, and shorter ones may pass."""
_NOT_THE_FILES = frozenset({"configuration", "mode", "parsing_configuration", "rules", "webhook_configurations"})
_PLAN_WORDS = "already reached the maximum number of"  # the vendor's words, since both kinds of 429 look alike


class Symptom(StrEnum):
    """What was seen where no usable answer came."""

    NO_CONNECTION = "no connection was made"
    UNTRUSTED = "the server's certificate is not trusted"
    TLS_REFUSED = "the server refuses to speak TLS with this client"
    NO_TLS = "what answers there doesn't speak TLS"
    PROXY_REFUSED = "the proxy refuses the connection"
    NO_ANSWER = "the connection broke before the answer was complete"
    TIMEOUT = "no answer in time"
    UNREADABLE = "the answer can't be read"


_CREATE_SYMPTOMS = {
    Symptom.NO_CONNECTION: Verdict.LATER,
    Symptom.UNTRUSTED: Verdict.BLOCKED,
    Symptom.TLS_REFUSED: Verdict.BLOCKED,  # a server that accepts no handshake reads no request
    Symptom.NO_TLS: Verdict.BLOCKED,
    Symptom.PROXY_REFUSED: Verdict.BLOCKED,
    Symptom.NO_ANSWER: Verdict.AMBIGUOUS,
    Symptom.TIMEOUT: Verdict.AMBIGUOUS,
    Symptom.UNREADABLE: Verdict.AMBIGUOUS,  # a 2xx that can't be read may well say which job was made
}

_CREATE_STATUSES = {
    400: Verdict.REFUSED,
    401: Verdict.KEY_REFUSED,
    402: Verdict.NO_CREDIT,
    403: Verdict.KEY_REFUSED,
    # 408 and 409 don't say whether the API had accepted the job by then.
    408: Verdict.AMBIGUOUS,
    409: Verdict.AMBIGUOUS,
    413: Verdict.REFUSED,
    422: Verdict.REFUSED,
    425: Verdict.LATER,  # RFC 8470: refused before it was processed
    429: Verdict.LATER,
}

_READ_STATUSES = {
    400: Verdict.REFUSED,
    401: Verdict.KEY_REFUSED,
    402: Verdict.NO_CREDIT,
    403: Verdict.KEY_REFUSED,
    404: Verdict.MISSING,
    408: Verdict.LATER,
    409: Verdict.LATER,
    413: Verdict.REFUSED,
    422: Verdict.REFUSED,
    425: Verdict.LATER,
    429: Verdict.LATER,
}

_CANCEL_STATUSES = _READ_STATUSES | {409: Verdict.REFUSED}  # a job that has ended can't be cancelled, however often


def judge_symptom(call: str, symptom: Symptom) -> Verdict:
    """What the lack of a usable answer means."""
    verdict = _CREATE_SYMPTOMS[symptom]
    return verdict if call == CREATE or verdict is Verdict.BLOCKED else Verdict.LATER


def judge_status(
    call: str, status: int, detail: str, places: tuple[tuple[object, ...], ...], *, page: bool = False
) -> Verdict:
    """What an HTTP status other than 2xx means. Statuses that no table has: 5xx proves nothing; the rest (redirects,
    405, 410…) shows that this address doesn't speak the API. `page`: the body is one, see `is_page`."""
    # Both kinds of 429 have the same status: only the message shows whether the plan is full or the rate too high.
    if status == 429 and _PLAN_WORDS in detail.lower():
        return Verdict.PLAN_FULL if call == CREATE else Verdict.LATER
    if call in (CREATE, UPLOAD) and is_unlike_the_api(status, page=page):
        return Verdict.PERSON
    if call == CREATE and is_about_the_request(status, places):
        return Verdict.PERSON
    statuses = {CREATE: _CREATE_STATUSES, CANCEL: _CANCEL_STATUSES}.get(call, _READ_STATUSES)
    if status in statuses:
        return statuses[status]
    if status >= 500:
        return Verdict.AMBIGUOUS if call == CREATE else Verdict.LATER
    return Verdict.PERSON


def answered_by_another(status: int, *, page: bool = False) -> bool:
    """Whether the API never answers a create with this status: a redirect, a 404, a 405; or a 400 with a page. A proxy
    before the API gave the answer, and may have passed the create on first. So a person decides whether to try again,
    and it is still unknown whether the create was accepted."""
    return status < 500 and (status not in _CREATE_STATUSES or is_unlike_the_api(status, page=page))


def is_unlike_the_api(status: int, *, page: bool) -> bool:
    """Whether a status comes with a page, with which the API has a reason in JSON."""
    return page and status in _NEVER_A_PAGE


def is_page(body: bytes) -> bool:
    """Whether a body is HTML or XML. The API says in JSON why it refuses."""
    return body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def is_about_the_request(status: int, places: tuple[tuple[object, ...], ...]) -> bool:
    """Whether a 422 names only what is the same in every create of the run."""
    return status == 422 and bool(places) and all(names_the_request(place) for place in places)


def names_the_request(place: tuple[object, ...]) -> bool:
    """Whether a 422 names a part of the body that is the same in every create of the run."""
    return len(place) > 1 and isinstance(place[1], str) and place[1] in _NOT_THE_FILES


def named_file_indexes(places: tuple[tuple[object, ...], ...]) -> tuple[int, ...]:
    """The positions in `file_ids` that a 422 names: `["body", "file_ids", 3]`."""
    return tuple(
        place[2]
        for place in places
        if len(place) > 2 and place[1] == "file_ids" and type(place[2]) is int  # no bool
    )
