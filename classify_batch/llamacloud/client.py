"""One HTTP client for all calls.

The client keeps its connections itself, without httpcore's pool: a large pool rescans every connection at each request
and closes live ones as "surplus idle" (measured: 177 requests/s at 50 concurrent, against thousands without it).
Redirects are not followed, because they would carry the key away. Bodies are read up to a limit, which holds after
decompression.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import lru_cache
from importlib.metadata import version
from typing import BinaryIO, NamedTuple, TypeVar, cast

import anyio
import httpx

from classify_batch.errors import ApiError, Verdict
from classify_batch.limits import Gate, Priority
from classify_batch.llamacloud.access import ApiAccess
from classify_batch.llamacloud.bounded_body import BodyTooLargeError, BoundedBody
from classify_batch.llamacloud.connection import Route, close_quietly
from classify_batch.llamacloud.failures import (
    CREATE,
    Symptom,
    answered_by_another,
    is_page,
    judge_status,
    judge_symptom,
    named_file_indexes,
)
from classify_batch.llamacloud.http_time import parse_http_date, parse_retry_after_s
from classify_batch.llamacloud.redaction import Secrets
from classify_batch.llamacloud.symptoms import UNREADABLE_HINT, find_symptom
from classify_batch.ports import Clock, Lease
from classify_batch.protocol.json_shape import NotJsonError
from classify_batch.protocol.requests import QueryParams, RequestModel
from classify_batch.protocol.sanitize import parse_error_detail, printable_line
from classify_batch.protocol.url_parts import encode_query

Shape = TypeVar("Shape")

FIRST_ANSWER_S_MAX = 60.0
"""How long to try an API that never answered: its address may be wrong."""

_SHOWN_BYTES_MAX = 16 * 1024
_ERROR_BYTES_MAX = 1024 * 1024

_HINTS = {
    Verdict.KEY_REFUSED: "keys belong to one region and one project: check LLAMA_CLOUD_API_KEY, api.base_url and "
    "api.project_id, then give the same command (with another address or project a run needs a new directory)",
    Verdict.NO_CREDIT: "buy credits or raise the cap, then give the same command; nothing that was paid is lost",
    Verdict.PERSON: "check api.base_url and the [job] settings, then give the same command (with other ones a run "
    "needs a new directory)",
}

_PAGE_HINT = (
    "something between here and the API answers in its place, with a page: check api.base_url and HTTPS_PROXY, or ask "
    "who runs it; then give the same command"
)

_PATH_OF_OURS = re.compile(r"/(?:api(?:/v[0-9]+)?|v[0-9]+)(?:/.*)?$")
"""What a base URL may end in that the paths of the calls begin with."""

_TURNS = {"create": Priority.CREATE, "results": Priority.RESULTS}


class MultipartForm(NamedTuple):
    """A multipart body: fields, and a file that is read while it is sent."""

    fields: Mapping[str, str]
    file_name: str
    file: BinaryIO


class ApiClient:
    """Sends requests through the request gate, and decides what each response means.

    Attributes:
        requests: requests that left since it was made.
        clock_skew_s: how far the server's clock is ahead of ours, from its last `Date` header (which has seconds);
            None before the first.
        secrets: hides the key and the webhooks' headers in what the server says.
    """

    def __init__(
        self,
        access: ApiAccess,
        gate: Gate,
        clock: Clock,
        *,
        timeout_s: float,
        patience_s: float = 600.0,
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
        lease: Lease | None = None,
    ) -> None:
        """`lease`: without it nothing leaves; None: none is needed."""
        base_url = self._base_url = access.base_url
        self.secrets = Secrets(access.secrets)
        self._gate = gate
        self._clock = clock
        self._params = dict(access.params)
        self._patience_s = patience_s
        if transport is None:
            route = Route(base_url, lease=lease)
            self._make_connection: Callable[[], httpx.AsyncBaseTransport] = route.make_connection
            self._make_upload_transport: Callable[[], httpx.AsyncBaseTransport] = route.make_upload_transport
        else:
            self._make_connection = self._make_upload_transport = transport
        self._headers = httpx.Headers(
            {
                "Host": httpx.URL(base_url).netloc.decode("ascii"),
                "Authorization": f"Bearer {access.key.get_secret_value()}",
                "User-Agent": f"classify-batch/{version('classify-batch')}",
                "Accept": "application/json",
                "Cache-Control": "no-cache",  # a list from before a create would prove that it made no job
                "Accept-Encoding": "gzip",  # the one encoding that `BoundedBody` unpacks within a bound
            }
        )
        self._extensions = {"timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, 15.0)).as_dict()}
        self._idle_connections: list[httpx.AsyncBaseTransport] = []
        self._transports: list[httpx.AsyncBaseTransport] = []
        self._upload_transport: httpx.AsyncBaseTransport | None = None
        self._date = ""
        self._ever_answered = False
        self.requests = 0
        self.clock_skew_s: float | None = None

    async def aclose(self) -> None:
        """Closes all connections, also in a cancelled task, and also where one of them can't be closed in an orderly
        way: what it was asked has been answered, or never will be."""
        with anyio.CancelScope(shield=True):
            async with AsyncExitStack() as stack:  # closes all of them, whatever one of them raises
                for transport in self._transports:
                    stack.push_async_callback(close_quietly, transport)

    async def send_request(
        self,
        call: str,
        method: str,
        path: str,
        read: Callable[[bytes], Shape],
        *,
        params: QueryParams | None = None,
        body: RequestModel | None = None,
        form: MultipartForm | None = None,
        about_to_send: Callable[[], Awaitable[None]] | None = None,
        got_headers: Callable[[Mapping[str, str]], object] | None = None,
    ) -> Shape:
        """Sends one request, and gives what `read` makes of the body of a 2xx response.

        Args:
            call: names the request for the table of failures: "create", "get", "list", "results", "files" or "upload".
            read: raises ValueError for a body of another shape than the API documents.
            about_to_send: is awaited after the gate lets the request pass, before its first byte leaves.
            got_headers: gets the headers of a response that could be read.

        Raises:
            ApiError: there was no 2xx response that can be read.
        """
        content = None if body is None else body.to_json()
        priority = _priority_of(call)
        async with self._gate.turn(priority) as passage:
            with self._borrow_connection() if form is None else self._borrow_upload_transport() as connection:
                if about_to_send is not None:
                    await about_to_send()
                sent_s = await passage.wait_and_mark_sent()
                self.requests += 1
                try:
                    status, headers, data = await send_and_read_body(
                        connection, self._build_request(method, path, params, content, form)
                    )
                except httpx.HTTPError as error:
                    raise self._no_answer_error(call, error) from error
                except httpx.InvalidURL as error:  # too long: its parts come from the server
                    raise self._unreadable(call, f"it named what no URL can hold: {error}") from error
                except BodyTooLargeError as error:
                    raise self._unreadable(call, str(error)) from None
        self._learn_clock_skew(headers)
        if not 200 <= status < 300:
            raise self._refusal_error(call, status, headers, data, sent_s)
        try:
            found = read(data)
        except ValueError as error:
            not_json = isinstance(error, NotJsonError)
            words = f"not JSON: {self._body_excerpt(data, 80)!r}" if not_json else self.secrets.hide(str(error))
            raise self._unreadable(call, words) from None
        # Only once it was read: a page that a proxy answers in the API's place is no sign of the API.
        self._gate.record_answered(priority, sent_s)
        self._ever_answered = True
        if got_headers is not None:
            got_headers(headers)
        return found

    def _build_request(
        self,
        method: str,
        path: str,
        params: QueryParams | None,
        content: bytes | None,
        form: MultipartForm | None,
    ) -> httpx.Request:
        query = encode_query({**self._params, **(params or {})})
        url = _parse_url(self._base_url + path + ("?" + query if query else ""))
        if form is not None:
            files = {"file": (form.file_name, form.file)}
            fields = dict(form.fields)
            return httpx.Request(
                method, url, headers=self._headers, data=fields, files=files, extensions=self._extensions
            )
        if content is not None:
            length = b"%d" % len(content)
            headers = [*self._headers.raw, (b"Content-Length", length), (b"Content-Type", b"application/json")]
        else:
            headers = self._headers.raw
        # With a stream given, httpx builds a request in a seventh of the time.
        stream = httpx.ByteStream(content or b"")
        return httpx.Request(method, url, headers=headers, stream=stream, extensions=self._extensions)

    def _body_excerpt(self, data: bytes, characters_max: int) -> str:
        """The first words of a body that is not JSON. It is cut last: half a secret would not be found and hidden."""
        return printable_line(self.secrets.hide(data[:_SHOWN_BYTES_MAX].decode("utf-8", "replace")), characters_max)

    @contextmanager
    def _borrow_connection(self) -> Iterator[httpx.AsyncBaseTransport]:
        """An idle connection, or a new one. The last used comes first, so that no more stay open than are needed."""
        if self._idle_connections:
            connection = self._idle_connections.pop()
        else:
            connection = self._make_connection()
            self._transports.append(connection)
        try:
            yield connection
        finally:
            self._idle_connections.append(connection)

    @contextmanager
    def _borrow_upload_transport(self) -> Iterator[httpx.AsyncBaseTransport]:
        """The transport for bodies of any size: it sends a body block by block, as fast as the server takes it. A
        `Connection` keeps a whole body in memory until its response is awaited."""
        if self._upload_transport is None:
            self._upload_transport = self._make_upload_transport()
            self._transports.append(self._upload_transport)
        yield self._upload_transport

    def _no_answer_error(self, call: str, error: httpx.HTTPError) -> ApiError:
        symptom, hint = find_symptom(error)
        words = printable_line(self.secrets.hide(str(error))) or type(error).__name__
        self._gate.record_failure()
        return ApiError(
            call,
            self._down_if_failing_long(judge_symptom(call, symptom)),
            f"{call}: {symptom} ({words})",
            hint=hint,
        )

    def _unreadable(self, call: str, what: str) -> ApiError:
        """The error for a response that is not the API's: it proves as little as no response."""
        error = unreadable_error(call, what)
        self._gate.record_failure()
        return ApiError(call, self._down_if_failing_long(error.verdict), str(error), hint=error.hint)

    def as_repeatable(self, error: ApiError) -> ApiError:
        """The error of a create that may be sent again, though it is unknown whether it was accepted."""
        if error.verdict is not Verdict.AMBIGUOUS:
            return error
        return ApiError(
            error.call,
            self._down_if_failing_long(Verdict.LATER),
            str(error),
            status=error.status,
            detail=error.detail,
            hint=error.hint,
            ambiguous=True,
        )

    def _down_if_failing_long(self, verdict: Verdict) -> Verdict:
        """LATER becomes DOWN when the API has been failing for longer than `patience_s`. An API that never answered is
        given less time, since its address may be wrong."""
        patience_s = self._patience_s if self._gate.ever_answered else min(self._patience_s, FIRST_ANSWER_S_MAX)
        return Verdict.DOWN if verdict is Verdict.LATER and self._gate.failing_s >= patience_s else verdict

    def _refusal_error(self, call: str, status: int, headers: httpx.Headers, data: bytes, sent_s: float) -> ApiError:
        try:
            if len(data) > _ERROR_BYTES_MAX:
                raise ValueError("longer than any error of the API")
            # Hidden before it is cleaned and cut: half a secret would be found no more.
            detail, places = parse_error_detail(self.secrets.hide_in_json(json.loads(data)))
        except (ValueError, TypeError, RecursionError):
            detail, places = self._body_excerpt(data, 400), ()
        retry_after_s = self._read_retry_after_s(headers)
        page = is_page(data)
        verdict = judge_status(call, status, detail, places, page=page)
        hint = _HINTS.get(verdict, "the same command goes on later")
        if page and verdict is Verdict.PERSON:
            hint = _PAGE_HINT
        if verdict is Verdict.KEY_REFUSED and self._base_url.startswith("http://"):  # this machine, so hardly the API
            hint = "`classify-batch sandbox` takes the key `sandbox`, unless it was given another by --api-key; " + hint
        if doubled := self._find_doubled_path(status):
            verdict = Verdict.PERSON
            hint = f"leave {doubled} out of api.base_url: it is added to it; then give the same command (a run needs a "
            hint += "new directory)"
        if status >= 500:
            self._gate.record_failure()
            verdict = self._down_if_failing_long(verdict)
        elif status == 429 and verdict is Verdict.LATER:
            self._gate.record_rate_limited(retry_after_s, sent_s, _priority_of(call))
        else:
            self._gate.record_answered(_priority_of(call), sent_s)
        if retry_after_s is not None:  # of whatever status: RFC 9110 names 503 first
            self._gate.obey_retry_after(retry_after_s, creates_only=verdict is Verdict.PLAN_FULL)
        return ApiError(
            call,
            verdict,
            f"{call}: HTTP {status}" + (f": {detail}" if detail else ""),
            status=status,
            detail=detail,
            file_indexes=named_file_indexes(places),
            ambiguous=call == CREATE and answered_by_another(status, page=page),
            hint=hint,
        )

    def _find_doubled_path(self, status: int) -> str:
        """What a base URL ends in that the paths of the calls begin with, if that may be why this address never gave
        anything but errors; else empty."""
        end = None if self._ever_answered or status not in (404, 405) else _PATH_OF_OURS.search(self._base_url)
        return "" if end is None else end[0]

    def _read_retry_after_s(self, headers: httpx.Headers) -> float | None:
        server_s = self._clock.wall_s() + (self.clock_skew_s or 0.0)
        return parse_retry_after_s(headers.get("retry-after", ""), server_s)

    def _learn_clock_skew(self, headers: httpx.Headers) -> None:
        date = headers.get("date", "")
        if date == self._date:
            return  # parsing a date takes as long as reading all other headers of a response
        self._date = date  # also of a date that can't be read: once is enough
        server_s = parse_http_date(date)
        if server_s is not None:
            # `Date` is cut to whole seconds: on average half a second is missing.
            self.clock_skew_s = server_s + 0.5 - self._clock.wall_s()


@lru_cache(64)
def _parse_url(url: str) -> httpx.URL:
    """Most calls of a run go to a handful of URLs, and parsing one takes longer than building the request around it."""
    return httpx.URL(url)


def _priority_of(call: str) -> Priority:
    return _TURNS.get(call, Priority.POLL)


async def send_and_read_body(
    connection: httpx.AsyncBaseTransport, request: httpx.Request
) -> tuple[int, httpx.Headers, bytes]:
    response = await connection.handle_async_request(request)
    try:
        body = BoundedBody(response.headers.get("content-encoding", ""))
        stream = cast("httpx.AsyncByteStream", response.stream)
        async for block in stream:  # not `aiter_raw`, which cuts it into blocks anew
            body.add_block(block)
        return response.status_code, response.headers, bytes(body.data)
    finally:
        await response.aclose()


def unreadable_error(call: str, what: str) -> ApiError:
    return ApiError(
        call,
        judge_symptom(call, Symptom.UNREADABLE),
        f"{call}: {Symptom.UNREADABLE} ({what})",
        hint=UNREADABLE_HINT,
    )


def wrong_shape_error(call: str, error: ValueError) -> ApiError:
    """The error for a 2xx response whose JSON has not the documented shape."""
    return unreadable_error(call, str(error))
