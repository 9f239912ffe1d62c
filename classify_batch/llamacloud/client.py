"""One HTTP client for all calls: the only import of httpx.

Each lane is a connection of its own: a large pool in httpcore rescans every connection at each request and closes live
ones as "surplus idle" (measured: 177 requests/s at 50 concurrent, against thousands with lanes). Redirects are not
followed, because they would carry the key away; bodies are read up to a limit, after decompression.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from importlib.metadata import version
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import urlencode

import anyio
import httpx
from pydantic import SecretStr

from classify_batch.errors import ApiError, Verdict
from classify_batch.limits import Priority, RequestGate
from classify_batch.llamacloud.connection import KEEPALIVE_S, lanes_to
from classify_batch.llamacloud.failures import (
    CREATE,
    Symptom,
    answered_by_another,
    judge_status,
    judge_symptom,
    named_files,
)
from classify_batch.llamacloud.redaction import Secrets
from classify_batch.ports import Clock
from classify_batch.protocol.json_shape import NotJsonError
from classify_batch.protocol.sanitize import clean, read_detail

Shape = TypeVar("Shape")

BODY_BYTES_MAX = 64 * 1024 * 1024
"""500 answers with long reasonings are about 1 MiB; this is what no honest answer reaches."""

FIRST_ANSWER_S_MAX = 60.0
"""How long an API that never answered is tried: its address may be wrong."""

KEY_CHARACTERS_MIN = 12
"""Shorter keys are words (the sandbox's own is), and no secrets."""

_SHOWN_BYTES_MAX = 16 * 1024
_ERROR_BYTES_MAX = 1024 * 1024

_HINTS = {
    Verdict.KEY_REFUSED: "keys belong to one region and one project: check LLAMA_CLOUD_API_KEY, api.base_url and "
    "api.project_id, then give the same command",
    Verdict.NO_CREDIT: "buy credits or raise the cap, then give the same command; nothing that was paid is lost",
    Verdict.PERSON: "check api.base_url and the [job] settings, then give the same command",
}

_SYMPTOMS: tuple[tuple[type[httpx.HTTPError], Symptom], ...] = (
    (httpx.ConnectError, Symptom.NO_CONNECTION),
    (httpx.ConnectTimeout, Symptom.NO_CONNECTION),
    (httpx.PoolTimeout, Symptom.NO_CONNECTION),
    (httpx.ProxyError, Symptom.NO_CONNECTION),
    (httpx.UnsupportedProtocol, Symptom.NO_CONNECTION),
    (httpx.TimeoutException, Symptom.TIMEOUT),
    (httpx.DecodingError, Symptom.UNREADABLE),
    (httpx.HTTPError, Symptom.NO_ANSWER),
)

_TURNS = {"create": Priority.CREATE, "results": Priority.RESULTS}


class Form(NamedTuple):
    """A multipart body: fields, and a file that is read while it is sent."""

    fields: Mapping[str, str]
    file_name: str
    file: BinaryIO


class _TooLargeError(Exception):
    """A body beyond the limit."""


class ApiClient:
    """Sends requests through the gate and judges what comes back.

    Attributes:
        requests: requests that left since it was made.
        clock_skew_s: how far the server's clock is ahead of ours, from its last `Date` header (which has seconds);
            None before the first.
        secrets: what no words of the server may tell.
    """

    def __init__(
        self,
        base_url: str,
        key: SecretStr,
        gate: RequestGate,
        clock: Clock,
        *,
        timeout_s: float,
        params: Mapping[str, str],
        patience_s: float = 600.0,
        secrets: Iterable[str] = (),
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
    ) -> None:
        self._base_url = base_url
        words = key.get_secret_value()
        self.secrets = Secrets([*secrets, *([words] if len(words) >= KEY_CHARACTERS_MIN else [])])
        self._gate = gate
        self._clock = clock
        self._params = dict(params)
        self._patience_s = patience_s
        self._make_lane = transport or lanes_to(base_url)
        self._make_road = transport or partial(UploadTransport, base_url)
        self._headers = httpx.Headers(
            {
                "Host": httpx.URL(base_url).netloc.decode("ascii"),
                "Authorization": f"Bearer {words}",
                "User-Agent": f"classify-batch/{version('classify-batch')}",
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
            }
        )
        self._extensions = {"timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, 15.0)).as_dict()}
        self._idle: list[httpx.AsyncBaseTransport] = []
        self._lanes: list[httpx.AsyncBaseTransport] = []
        self._road: httpx.AsyncBaseTransport | None = None
        self._date = ""
        self.requests = 0
        self.clock_skew_s: float | None = None

    async def aclose(self) -> None:
        """Closes all connections, also in a cancelled task."""
        with anyio.CancelScope(shield=True):
            for lane in self._lanes:
                await lane.aclose()

    async def call(
        self,
        call: str,
        method: str,
        path: str,
        read: Callable[[bytes], Shape],
        *,
        params: Mapping[str, Any] | None = None,
        body: object = None,
        form: Form | None = None,
        about_to_send: Callable[[], Awaitable[None]] | None = None,
    ) -> Shape:
        """Makes one request, and has `read` make something of the body of a 2xx answer. Raises ApiError.

        `call` names it for the table of failures: "create", "get", "list", "results", "files" or "upload". `read`
        raises ValueError for a body of another shape than the API documents.
        """
        content = None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        async with self._gate.turn(_turn(call)) as left_s:
            with self._lane() if form is None else self._wide_road() as lane:
                if about_to_send is not None:
                    await about_to_send()
                self.requests += 1
                try:
                    status, headers, data = await _send(lane, self._request(method, path, params, content, form))
                except httpx.HTTPError as error:
                    raise self._no_answer(call, error) from error
                except _TooLargeError:
                    raise self._unreadable(call, f"a body of more than {BODY_BYTES_MAX} bytes") from None
        self._learn_skew(headers)
        if not 200 <= status < 300:
            raise self._refusal(call, status, headers, data, left_s)
        try:
            found = read(data)
        except ValueError as error:
            not_json = isinstance(error, NotJsonError)
            words = f"not JSON: {self._beginning(data, 80)!r}" if not_json else self.secrets.hide(str(error))
            raise self._unreadable(call, words) from None
        self._gate.served(_turn(call), left_s)
        return found

    def _request(
        self, method: str, path: str, params: Mapping[str, Any] | None, content: bytes | None, form: Form | None
    ) -> httpx.Request:
        query = urlencode({**self._params, **(params or {})}, doseq=True)
        url = httpx.URL(self._base_url + path + ("?" + query if query else ""))
        if form is not None:
            files = {"file": (form.file_name, form.file)}
            fields = dict(form.fields)
            return httpx.Request(
                method, url, headers=self._headers, data=fields, files=files, extensions=self._extensions
            )
        if content is not None:
            headers = [*self._headers.raw, (b"Content-Type", b"application/json")]
            return httpx.Request(method, url, headers=headers, content=content, extensions=self._extensions)
        stream = httpx.ByteStream(b"")  # makes a request of a seventh of the time
        return httpx.Request(method, url, headers=self._headers, stream=stream, extensions=self._extensions)

    def _beginning(self, data: bytes, most: int) -> str:
        """The first words of a body that is no JSON; cut when nothing is in them that has to be hidden."""
        return clean(self.secrets.hide(data[:_SHOWN_BYTES_MAX].decode("utf-8", "replace")), most)

    @contextmanager
    def _lane(self) -> Iterator[httpx.AsyncBaseTransport]:
        """An idle lane, the one used last first, so that no more connections live than are needed."""
        if self._idle:
            lane = self._idle.pop()
        else:
            lane = self._make_lane()
            self._lanes.append(lane)
        try:
            yield lane
        finally:
            self._idle.append(lane)

    @contextmanager
    def _wide_road(self) -> Iterator[httpx.AsyncBaseTransport]:
        """For bodies of any size. A lane keeps a body in memory until its answer is waited for; this one waits for the
        server to take it, block by block."""
        if self._road is None:
            self._road = self._make_road()
            self._lanes.append(self._road)
        yield self._road

    def _no_answer(self, call: str, error: httpx.HTTPError) -> ApiError:
        symptom = next(symptom for kind, symptom in _SYMPTOMS if isinstance(error, kind))
        words = clean(self.secrets.hide(str(error))) or type(error).__name__
        self._gate.failed()
        return ApiError(
            call,
            self._unless_down(judge_symptom(call, symptom)),
            f"{call}: {symptom} ({words})",
            hint="the API can't be reached now; the same command goes on later",
        )

    def _unreadable(self, call: str, what: str) -> ApiError:
        """An answer, but none of the API's: as good as no answer."""
        error = _unreadable(call, what)
        self._gate.failed()
        return ApiError(call, self._unless_down(error.verdict), str(error), hint=error.hint)

    def repeatable(self, error: ApiError) -> ApiError:
        """The error of a create that may be made again, though it may have been accepted."""
        if error.verdict is not Verdict.DOUBTFUL:
            return error
        return ApiError(
            error.call,
            self._unless_down(Verdict.LATER),
            str(error),
            status=error.status,
            detail=error.detail,
            hint=error.hint,
            ambiguous=True,
        )

    def _unless_down(self, verdict: Verdict) -> Verdict:
        """An API that answers nothing for longer than our patience is down. One that never answered was perhaps never
        there, and is given less time."""
        patience_s = self._patience_s if self._gate.ever_served else min(self._patience_s, FIRST_ANSWER_S_MAX)
        return Verdict.DOWN if verdict is Verdict.LATER and self._gate.failing_s >= patience_s else verdict

    def _refusal(self, call: str, status: int, headers: httpx.Headers, data: bytes, left_s: float) -> ApiError:
        try:
            if len(data) > _ERROR_BYTES_MAX:
                raise ValueError("no error is as long as that")
            detail, places = read_detail(self.secrets.hide_in(json.loads(data)))
        except (ValueError, TypeError, RecursionError):
            detail, places = self._beginning(data, 400), ()
        retry_after_s = self._retry_after(headers)
        verdict = judge_status(call, status, detail, places)
        if status >= 500:
            self._gate.failed()
            verdict = self._unless_down(verdict)
        elif status == 429 and verdict is Verdict.LATER:
            self._gate.too_fast(retry_after_s, left_s, _turn(call))
        else:
            self._gate.served(_turn(call), left_s)
        return ApiError(
            call,
            verdict,
            f"{call}: HTTP {status}" + (f": {detail}" if detail else ""),
            status=status,
            detail=detail,
            file_indexes=named_files(places),
            ambiguous=call == CREATE and answered_by_another(status),
            hint=_HINTS.get(verdict, "the same command goes on later"),
        )

    def _retry_after(self, headers: httpx.Headers) -> float | None:
        """`Retry-After` in seconds, or as a date by the server's own clock."""
        words = headers.get("retry-after", "").strip()
        if words.isascii() and words.isdigit():
            return float(words[:9])
        moment_s = _read_date(words)
        if moment_s is None:
            return None
        return max(0.0, moment_s - self._clock.wall_s() - (self.clock_skew_s or 0.0))

    def _learn_skew(self, headers: httpx.Headers) -> None:
        date = headers.get("date", "")
        if date == self._date:
            return  # reading one takes as long as the rest of an answer's headers
        self._date = date
        server_s = _read_date(date)
        if server_s is not None:
            self.clock_skew_s = server_s + 0.5 - self._clock.wall_s()


def _turn(call: str) -> Priority:
    return _TURNS.get(call, Priority.POLL)


def _read_date(words: str) -> float | None:
    """Seconds since the epoch, or None for what is no HTTP date. One without a zone is in UTC, as all of them are."""
    try:
        moment = parsedate_to_datetime(words)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None


class UploadTransport(httpx.AsyncBaseTransport):
    """httpx's own client, which knows the environment's proxies; a proxy for the world is none for this machine."""

    def __init__(self, base_url: str) -> None:
        limits = httpx.Limits(max_connections=None, keepalive_expiry=KEEPALIVE_S)
        self._client = httpx.AsyncClient(trust_env=not base_url.startswith("http:"), limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._client.send(request, stream=True)

    async def aclose(self) -> None:
        await self._client.aclose()


async def _send(lane: httpx.AsyncBaseTransport, request: httpx.Request) -> tuple[int, httpx.Headers, bytes]:
    response = await lane.handle_async_request(request)
    try:
        body = _Body(response.headers.get("content-encoding", ""))
        async for block in response.aiter_raw():
            body.add(block)
        return response.status_code, response.headers, bytes(body.data)
    finally:
        await response.aclose()


class _Body:
    """A body, unpacked no further than the limit: httpx would unpack a whole block before anybody could look at it."""

    def __init__(self, encoding: str) -> None:
        packed = encoding.strip().lower()
        if packed not in ("", "identity", "gzip"):
            raise httpx.DecodingError(f"an encoding that was not asked for: {clean(encoding)}")
        self._unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if packed == "gzip" else None
        self.data = bytearray()

    def add(self, block: bytes) -> None:
        try:
            room = BODY_BYTES_MAX + 1 - len(self.data)
            self.data += block if self._unpacker is None else self._unpacker.decompress(block, room)
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from None
        if len(self.data) > BODY_BYTES_MAX:
            raise _TooLargeError


def _unreadable(call: str, what: str) -> ApiError:
    return ApiError(
        call,
        judge_symptom(call, Symptom.UNREADABLE),
        f"{call}: {Symptom.UNREADABLE} ({what})",
        hint="something between here and the API answers in its place; the same command goes on later",
    )


def wrong_shape(call: str, error: ValueError) -> ApiError:
    """The error for a 2xx whose JSON is not what the API documents."""
    return _unreadable(call, str(error))
