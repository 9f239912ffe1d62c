"""The table of failures over a real socket: a tiny server misbehaves in every way, and each call has its verdict."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from classify_batch.clock import SystemClock
from classify_batch.errors import ApiError, ExitStatus, Verdict
from classify_batch.limits import RequestGate
from classify_batch.llamacloud import bounded_body
from classify_batch.llamacloud.access import ApiAccess
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.v1.batch_api import ApiV1
from classify_batch.model import Attempt, AttemptKey, JobView, Part
from classify_batch.settings.job_spec import JobSpec, Rule
from tests.support.command_line import PATIENCE_S
from tests.support.networking import connect_patiently

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

KEY = "llx-very-secret-key-0123456789"
SPEC = JobSpec(rules=(Rule(type="invoice", description="has line items and a total"),))
JOB = {"id": "j", "status": "PENDING", "project_id": "p", "rules": [], "user_id": "u"}
Write = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers every request with the same bytes, or whatever else `write` does; keeps what it was sent."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self.requests: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b"0"
            )
            self.requests.append(head + await reader.readexactly(int(length)))
            await self._write(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(write: Write) -> AsyncIterator[Server]:
    server = Server(write)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield server


@asynccontextmanager
async def calling(url: str, timeout_s: float = PATIENCE_S) -> AsyncIterator[tuple[ApiV1, RequestGate]]:
    async with RequestGate(requests_in_flight=4, requests_per_s=1000.0) as gate:
        http = ApiClient(ApiAccess(url, SecretStr(KEY)), gate, SystemClock(), timeout_s=timeout_s)
        try:
            yield ApiV1(http, SPEC), gate
        finally:
            await http.aclose()


async def nothing() -> None: ...


def sending(file_ids: list[str]) -> Attempt:
    return Attempt(AttemptKey(0, 1), Part(0), tuple(file_ids), tuple(range(len(file_ids))))


async def judged(url: str, call: str, timeout_s: float = PATIENCE_S) -> ApiError:
    """What a call ends with. There is no other error than an ApiError."""
    async with calling(url, timeout_s) as (api, _):
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "create": lambda: api.create(sending(["a"]), nothing),
            "get": lambda: api.get("j"),
            "list": lambda: api.list_page(page_size=10),
            "results": lambda: api.results(JobView("j", "SUCCESS"), ["a"]),
        }
        with pytest.raises(ApiError) as caught:
            await calls[call]()
    assert KEY not in f"{caught.value} {caught.value.hint} {caught.value.detail}"
    assert str(caught.value).isprintable()
    assert caught.value.call == call
    assert caught.value.hint
    return caught.value


def raw(data: bytes) -> Write:
    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return write


def answer(status: int, body: object, headers: str = "", *, length: int | None = None) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    size = len(data) if length is None else length
    return f"HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: {size}\r\n\r\n".encode() + data


async def abort(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the client has had enough


async def half_an_answer_then_never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(200, JOB, length=10_000))
    await writer.drain()
    await reader.read()  # until the client has had enough


HTML = b"<html><body>Welcome to the hotel's network</body></html>"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

PERHAPS_ACCEPTED: dict[str, Write] = {
    "reset before the answer": abort,
    "closed before the answer": raw(b""),
    "half a head": raw(b"HTTP/1.1 200 O"),
    "no HTTP at all": raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "a truncated body": raw(answer(200, JOB, length=10_000)),
    "a truncated chunk": raw(CHUNKED + b"ff\r\n" + json.dumps(JOB).encode()),
    "no last chunk": raw(CHUNKED + b"2\r\n{}\r\n"),
    "HTML": raw(answer(200, HTML, "Content-Type: text/html\r\n")),
    "an empty body": raw(answer(200, b"")),
    "no content": raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a body that is no text": raw(answer(200, b"\xff\xfe\x00\x9f")),
    "JSON cut short": raw(answer(200, b'{"id": "j", "status": "PEN')),
    "a list": raw(answer(200, [1, 2])),
    "null": raw(answer(200, None)),
    "an object of other things": raw(answer(200, {"ok": True})),
    "an id that is a number": raw(answer(200, {"id": 5, "status": "PENDING", "items": [5]})),
    "items that are no list": raw(answer(200, {"items": {"a": 1}})),
    "items of another shape": raw(answer(200, {"items": ["x"]})),
    "brackets without end": raw(answer(200, b"[" * 200_000)),
    "a gzip that is none": raw(answer(200, b"nothing zipped", "Content-Encoding: gzip\r\n")),
}


@pytest.mark.parametrize("write", PERHAPS_ACCEPTED.values(), ids=PERHAPS_ACCEPTED.keys())
async def test_a_create_is_ambiguous_where_the_answer_says_nothing(write: Write) -> None:
    """It may have been accepted, and is never simply sent again; whatever only reads is asked again."""
    async with serving(write) as server:
        assert (await judged(server.url, "create")).verdict is Verdict.AMBIGUOUS
        assert len(server.requests) == 1
        for call in ("get", "list", "results"):
            assert (await judged(server.url, call)).verdict is Verdict.LATER


@pytest.mark.parametrize("write", [never, half_an_answer_then_never], ids=["no answer", "half an answer"])
async def test_a_create_is_ambiguous_where_no_answer_comes_in_time(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a server that is silent nor one that stops in the middle holds a call up for ever."""
    connect_patiently(monkeypatch)
    async with serving(write) as server:
        assert (await judged(server.url, "create", timeout_s=1.0)).verdict is Verdict.AMBIGUOUS
        assert (await judged(server.url, "get", timeout_s=1.0)).verdict is Verdict.LATER


async def test_a_refused_connection_is_not_ambiguous() -> None:
    """Nothing left this machine: surely not accepted."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        for call in ("create", "get"):
            assert (await judged(url, call)).verdict is Verdict.LATER


@pytest.mark.parametrize(
    ("status", "create", "read", "exit_status"),
    [
        (400, Verdict.REFUSED, Verdict.REFUSED, ExitStatus.INCOMPLETE),
        (401, Verdict.KEY_REFUSED, Verdict.KEY_REFUSED, ExitStatus.PERSON),
        (402, Verdict.NO_CREDIT, Verdict.NO_CREDIT, ExitStatus.PERSON),
        (403, Verdict.KEY_REFUSED, Verdict.KEY_REFUSED, ExitStatus.PERSON),
        (404, Verdict.PERSON, Verdict.MISSING, None),
        (408, Verdict.AMBIGUOUS, Verdict.LATER, ExitStatus.INCOMPLETE),
        (409, Verdict.AMBIGUOUS, Verdict.LATER, ExitStatus.INCOMPLETE),
        (413, Verdict.REFUSED, Verdict.REFUSED, ExitStatus.INCOMPLETE),
        (422, Verdict.REFUSED, Verdict.REFUSED, ExitStatus.INCOMPLETE),
        (429, Verdict.LATER, Verdict.LATER, ExitStatus.INCOMPLETE),
        (500, Verdict.AMBIGUOUS, Verdict.LATER, ExitStatus.INCOMPLETE),
        (502, Verdict.AMBIGUOUS, Verdict.LATER, ExitStatus.INCOMPLETE),
        (503, Verdict.AMBIGUOUS, Verdict.LATER, ExitStatus.INCOMPLETE),
        (504, Verdict.AMBIGUOUS, Verdict.LATER, ExitStatus.INCOMPLETE),
    ],
)
async def test_each_http_status_has_its_verdict(
    status: int, create: Verdict, read: Verdict, exit_status: ExitStatus | None
) -> None:
    """With the server's own words in the message."""
    async with serving(raw(answer(status, {"detail": "so \u001b[31mit is"}))) as server:
        for call, verdict in (("create", create), ("get", read), ("list", read), ("results", read)):
            error = await judged(server.url, call)
            assert (error.verdict, error.status, error.detail) == (verdict, status, "so [31mit is")
            assert f"HTTP {status}: so [31mit is" in str(error)
            assert exit_status is None or error.exit_status == exit_status


@pytest.mark.parametrize(
    "body",
    [
        HTML,
        b"",
        b"\xff\xfe",
        b"[" * 200_000,
        {"detail": {"deep": 1}},
        {"detail": None},
        {"detail": [{"loc": 5, "msg": "x"}]},
        {"detail": [{"loc": ["body", ["x"]], "msg": 5}]},
        {"detail": [{"loc": [{}], "msg": {}}, 7, None]},
        {"error": "x"},
        ["x"],
    ],
)
@pytest.mark.parametrize("status", [400, 422, 503])
async def test_a_refusal_is_recognized_whatever_its_body(status: int, body: object) -> None:
    """Its status is enough; no shape of its words becomes an error of another kind."""
    async with serving(raw(answer(status, body))) as server:
        assert (await judged(server.url, "create")).status == status


async def test_a_422_names_the_refused_files_and_rules() -> None:
    """By their places, as documented."""
    detail = [{"loc": ["body", "file_ids", 3], "msg": "no such file", "type": "value_error"}]
    async with serving(raw(answer(422, {"detail": detail}))) as server:
        error = await judged(server.url, "create")
        assert (error.verdict, error.file_indexes) == (Verdict.REFUSED, (3,))
        assert error.detail == "body.file_ids.3: no such file"
    detail[0]["loc"] = ["body", "rules", 0]
    async with serving(raw(answer(422, {"detail": detail}))) as server:
        assert (await judged(server.url, "create")).verdict is Verdict.PERSON


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """It would carry the key to whomever it names."""
    async with serving(raw(answer(200, JOB))) as other:
        location = f"Location: {other.url}/api/v1/classifier/jobs\r\n"
        async with serving(raw(answer(status, b"", location))) as server:
            for call in ("create", "get"):
                assert (await judged(server.url, call)).verdict is Verdict.PERSON
            assert len(server.requests) == 2
        assert other.requests == []


async def test_the_key_is_sent_in_a_header_only() -> None:
    """Not into the address, and not into an error, though the server repeats it."""
    async with serving(raw(answer(401, {"detail": f"Invalid API key: {KEY}"}))) as server:
        error = await judged(server.url, "create")
        assert error.detail == "Invalid API key: **********"
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        first, *headers = head.split(b"\r\n")
        assert KEY.encode() not in first + body
        assert [line for line in headers if KEY.encode() in line] == [f"Authorization: Bearer {KEY}".encode()]
    async with serving(raw(answer(200, f"<p>{KEY}</p>".encode()))) as server:
        await judged(server.url, "create")


async def test_ids_from_the_server_are_quoted_in_addresses() -> None:
    """Quoted, whatever they are made of: they can't lead to another path or query."""
    async with serving(raw(answer(404, {"detail": "no"}))) as server:
        for job_id in ("../../../etc", "a/b?c=d#e", "..", "%2e%2e", "a b\r\nX: y", "ü"):
            async with calling(server.url) as (api, _):
                with pytest.raises(ApiError):
                    await api.get(job_id)
            target = server.requests[-1].split(b" ")[1].decode()
            assert target.startswith("/api/v1/classifier/jobs/")
            assert set(target.removeprefix("/api/v1/classifier/jobs/")).isdisjoint("/?#. \r\n")


async def a_body_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(200, b"", length=1 << 40))
    while not writer.is_closing():
        writer.write(b" " * 100_000)
        await writer.drain()


async def a_gzip_bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await raw(answer(200, zipped_spaces(), "Content-Encoding: gzip\r\n"))(reader, writer)


@functools.cache
def zipped_spaces() -> bytes:
    """200 MB of spaces, compressed."""
    return gzip.compress(b" " * 200_000_000, 1)


@pytest.mark.parametrize(
    "write",
    [a_body_without_end, a_gzip_bomb],
    ids=["plain", "gzip bomb"],
)
async def test_a_body_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    """Read up to the limit, which counts what it unpacks to, and no further than a block."""
    monkeypatch.setattr(bounded_body, "BODY_BYTES_MAX", 1_000_000)
    zipped_spaces()  # not while memory is measured
    async with serving(write) as server:
        tracemalloc.start()
        try:
            error = await judged(server.url, "create")
            assert tracemalloc.get_traced_memory()[1] < 100_000_000
        finally:
            tracemalloc.stop()
        assert error.verdict is Verdict.AMBIGUOUS
        assert "1000000 bytes" in str(error)
        assert (await judged(server.url, "results")).verdict is Verdict.LATER


@pytest.mark.parametrize("date", ["", "nonsense", "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT"])
async def test_an_invalid_date_header_is_ignored(date: str) -> None:
    """The server's clock stays unknown."""
    async with serving(raw(answer(200, JOB, f"Date: {date}\r\n"))) as server, calling(server.url) as (api, _):
        assert (await api.get("j")).job_id == "j"
        assert api._client.clock_skew_s is None


async def test_the_date_header_gives_the_servers_clock() -> None:
    """To the second, which is what it has."""
    wall_s = SystemClock().wall_s()
    date = formatdate(wall_s + 3600, usegmt=True)
    async with serving(raw(answer(200, JOB, f"Date: {date}\r\n"))) as server, calling(server.url) as (api, _):
        await api.get("j")
        took_s = SystemClock().wall_s() - wall_s
        assert api._client.clock_skew_s is not None
        assert 3598 - took_s < api._client.clock_skew_s < 3601


async def test_nothing_is_sent_before_the_intent_is_durable() -> None:
    """What is not durable yet has not left; if it can't be made durable, nothing leaves."""

    class FullDiskError(Exception):
        pass

    async with serving(raw(answer(200, JOB))) as server, calling(server.url) as (api, _):

        async def about_to_send() -> None:
            await anyio.lowlevel.checkpoint()
            assert server.requests == []

        async def full() -> None:
            raise FullDiskError

        await api.create(sending(["a"]), about_to_send)
        assert len(server.requests) == 1
        with pytest.raises(FullDiskError):
            await api.create(sending(["b"]), full)
        assert len(server.requests) == 1
