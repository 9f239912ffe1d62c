"""Connections over real sockets, encrypted ones too: made once, kept, never more than needed, and honest in how they
fail. What breaks after something was sent is never reported as a connection that was not made."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import anyio
import httpx
import pytest
import trustme
from pydantic import SecretStr

from classify_batch.clock import SystemClock
from classify_batch.errors import ApiError, LeaseLostError, SettingsError, Verdict
from classify_batch.limits import RequestGate
from classify_batch.llamacloud import exchange
from classify_batch.llamacloud.access import ApiAccess
from classify_batch.llamacloud.client import ApiClient, MultipartForm
from classify_batch.llamacloud.connection import KEEPALIVE_S, Route
from classify_batch.llamacloud.failures import Symptom
from classify_batch.llamacloud.v1.batch_api import ApiV1
from classify_batch.model import Attempt, AttemptKey, JobView, Part
from classify_batch.ports import Lease
from classify_batch.settings.job_spec import JobSpec, Rule
from tests.support.command_line import PATIENCE_S
from tests.support.leases import LeaseUntil
from tests.support.networking import connect_patiently

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops that programs run this under: uvicorn[standard] brings uvloop."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


SPEC = JobSpec(rules=(Rule(type="invoice", description="has line items and a total"),))
JOB = {"id": "j", "status": "PENDING", "project_id": "p", "rules": [], "user_id": "u"}
CERTIFICATES = trustme.CA()


@pytest.fixture
def patient_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that wait for an answer for a moment only."""
    connect_patiently(monkeypatch)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority that signed the servers' certificates is one of this machine's."""
    CERTIFICATES.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def certified(host: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CERTIFICATES.issue_cert(host).configure_cert(context)
    return context


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Answers requests on as many connections as come; `hang_up_after`: closes each after so many answers."""

    body: bytes = json.dumps(JOB).encode()
    hang_up_after: int | None = None
    delay_s: float = 0.0
    url: str = ""
    connections: int = 0
    open: int = 0
    open_max: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.open_max = max(self.open, self.open_max)
        answered = 0
        try:
            while self.hang_up_after is None or answered < self.hang_up_after:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
                self.requests.append(head + await reader.readexactly(length))
                await asyncio.sleep(self.delay_s)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.body) + self.body)
                await writer.drain()
                answered += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def serving(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    listener = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context, limit=1 << 20)
    port = listener.sockets[0].getsockname()[1]
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{port}"
    finally:
        listener.close()


async def both_ends_go_on() -> None:
    """Until the client has heard what the server did after its answer: both are tasks of this loop, which one sleep
    would give a single turn on a busy machine."""
    for _ in range(20):
        await asyncio.sleep(0.001)


@asynccontextmanager
async def calling(
    url: str, timeout_s: float = PATIENCE_S, lanes: int = 4, lease: Lease | None = None
) -> AsyncIterator[ApiV1]:
    async with RequestGate(requests_in_flight=lanes, requests_per_s=10_000.0) as gate:
        http = ApiClient(ApiAccess(url, SecretStr("sandbox")), gate, SystemClock(), timeout_s=timeout_s, lease=lease)
        try:
            yield ApiV1(http, SPEC)
        finally:
            await http.aclose()


async def nothing() -> None: ...


def sending(file_ids: list[str]) -> Attempt:
    return Attempt(AttemptKey(0, 1), Part(0), tuple(file_ids), tuple(range(len(file_ids))))


async def refused(call: Awaitable[object]) -> Verdict:
    with pytest.raises(ApiError) as caught:
        await call
    return caught.value.verdict


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("encrypted", [False, True])
async def test_no_create_is_written_without_a_lease(encrypted: bool) -> None:
    """The lease ends when all is made ready for the create, its connection too: not a byte of it arrives, nor of any
    later call."""
    server, checks = Server(), iter([True, True])
    lease = LeaseUntil(lambda: next(checks, False))
    async with (
        serving(server.talk, certified() if encrypted else None) as url,
        calling(url, lanes=1, lease=lease) as api,
    ):
        for name in ("a", "b"):
            await api.create(sending([name]), nothing)
        with pytest.raises(LeaseLostError):
            await api.create(sending(["c"]), nothing)
        with pytest.raises(LeaseLostError):
            await api.create(sending(["d"]), nothing)
        with pytest.raises(LeaseLostError):
            await api.get("j")
    assert [request.split(b" ", 1)[0] for request in server.requests] == [b"POST", b"POST"]


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("encrypted", [False, True])
async def test_one_connection_is_reused_call_after_call(encrypted: bool) -> None:
    """Made once and kept; of many connections only as many are used as are needed."""
    server = Server()
    async with serving(server.talk, certified() if encrypted else None) as url, calling(url, lanes=16) as api:
        for _ in range(50):
            assert (await api.get("j")).status == "PENDING"
        assert (server.connections, len(server.requests)) == (1, 50)
        server.delay_s = 0.05
        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(api.get, "j")
        assert server.open_max == 16


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_closed_connection_is_not_reused(encrypted: bool) -> None:
    """A server that closes after each answer without a word costs a connection each, and nothing is ambiguous."""
    server = Server(hang_up_after=1)
    async with serving(server.talk, certified() if encrypted else None) as url, calling(url) as api:
        for _ in range(20):
            await api.create(sending(["a"]), nothing)
            await both_ends_go_on()
    assert (server.connections, len(server.requests)) == (20, 20)


RAW_BODY = json.dumps(JOB).encode()
WHOLE = b"Content-Length: %d\r\n\r\n%s" % (len(RAW_BODY), RAW_BODY)


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n" + WHOLE, 1),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(RAW_BODY), RAW_BODY), 1),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + WHOLE, 3),
        (b"HTTP/1.1 200 OK\r\n" + WHOLE + b"HTTP/1.1 200 OK\r\n" + WHOLE, 3),
        (b"HTTP/1.1 200 OK\r\n" + WHOLE, 1),
        (b"HTTP/1.1 200 OK\nContent-Length: %d\n\n%s" % (len(RAW_BODY), RAW_BODY), 1),
        (b"HTTP/1.0 200 OK\r\n" + WHOLE, 3),
    ],
    ids=["interim-answers", "chunked", "close", "twice", "usual", "bare-newlines", "http-1.0"],
)
async def test_an_answer_decides_whether_its_connection_is_used_again(answer: bytes, connections: int) -> None:
    """Interim answers are passed over; what nobody asked for reaches no later call."""
    made = 0

    async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
        writer.close()

    async with serving(answer_all) as url, calling(url) as api:
        for _ in range(3):
            assert (await api.get("j")).job_id == "j"
            await both_ends_go_on()
    assert made == connections


async def test_an_answer_may_come_in_pieces() -> None:
    """Cut at every byte: head and body are put together, and the connection goes on."""
    answer, made = b"HTTP/1.1 200 OK\r\n" + WHOLE, 0

    async def answer_in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            for cut in range(1, len(answer)):
                await reader.readuntil(b"\r\n\r\n")
                for piece in (answer[:cut], answer[cut:]):
                    writer.write(piece)
                    await asyncio.sleep(0.002)
        writer.close()

    async with serving(answer_in_pieces) as url, calling(url) as api:
        for _ in range(1, len(answer)):
            assert (await api.get("j")).job_id == "j"
        await asyncio.sleep(0.05)  # the server's part ends, too
    assert made == 1


@pytest.mark.usefixtures("patient_connecting")
@pytest.mark.parametrize("quick_ones", [[0.5], [0.0, 0.5, 0.0, 0.5]], ids=["after one", "after four"])
async def test_each_wait_for_an_answer_has_its_own_time(quick_ones: list[float]) -> None:
    """Though one timer serves many: a slow answer after quick ones isn't cut short, and one that never comes is."""

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            for delay_s in quick_ones:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(delay_s)
                writer.write(b"HTTP/1.1 200 OK\r\n" + WHOLE)
            await reader.read()
        writer.close()

    async def count_answers(api: ApiV1) -> int:
        """Asks on one connection until an answer didn't come in its time."""
        for count in range(len(quick_ones) + 1):
            began_s = asyncio.get_running_loop().time()
            with suppress(ApiError):
                await api.get("j")
                continue
            assert asyncio.get_running_loop().time() - began_s > 0.7
            return count
        raise AssertionError("nobody answered the last one")

    async with serving(answer_late) as url, calling(url, timeout_s=0.8) as api:
        with anyio.fail_after(PATIENCE_S):
            while await count_answers(api) < len(quick_ones):
                pass  # on a busy machine an answer may really be late, and all begins anew by a new connection


@pytest.mark.parametrize(
    ("answer", "symptom"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf", Symptom.NO_ANSWER),
        (b"", Symptom.NO_ANSWER),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Symptom.UNREADABLE),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Symptom.UNREADABLE),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", Symptom.UNREADABLE),
    ],
    ids=["cut-off", "none", "two-lengths", "switched", "no-http"],
)
async def test_a_create_is_ambiguous_where_the_answer_is_broken(answer: bytes, symptom: Symptom) -> None:
    """It may have been accepted. No error says that the server can't be reached: who looks for the network's fault
    looks in vain, where something answers and speaks no HTTP. The next call goes out by a new connection."""
    answers = [answer, answer, b"HTTP/1.1 200 OK\r\n" + WHOLE]

    async def answer_badly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        await writer.drain()
        writer.close()

    async with serving(answer_badly) as url, calling(url) as api:
        assert await refused(api.create(sending(["a"]), nothing)) is Verdict.AMBIGUOUS
        with pytest.raises(ApiError, match=f"get: {symptom}") as caught:
            await api.get("j")
        assert ("something between" in caught.value.hint) == (symptom is Symptom.UNREADABLE)
        assert (await api.get("j")).job_id == "j"


@pytest.mark.usefixtures("patient_connecting")
@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 500\r\n\r\n", gzip.compress(b"")),
    ],
    ids=["interim", "head", "body", "gzip"],
)
async def test_a_response_that_drips_is_not_waited_for_for_ever(begin: bytes, drop: bytes) -> None:
    """`api.timeout_s` is the time of all of an answer, and not of each of its bytes."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, RuntimeError):  # uvloop's word for a closed one
            await reader.readuntil(b"\r\n\r\n")
            writer.write(begin)
            while not reader.at_eof():
                writer.write(drop)
                await writer.drain()
                await asyncio.sleep(0.1)
        writer.close()

    async with serving(drip) as url, calling(url, timeout_s=0.8) as api:
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(ApiError, match=r"no answer in time \(no whole response within 0\.8 s\)"):
            await api.create(sending(["a"]), nothing)
        assert 0.7 < asyncio.get_running_loop().time() - began_s < PATIENCE_S
        await asyncio.sleep(0.3)  # the server's part ends, too


@asynccontextmanager
async def uploading(url: str, timeout_s: float) -> AsyncIterator[Callable[[bytes], Awaitable[bytes]]]:
    """Uploads a content, and gives what the server answers."""
    async with RequestGate(requests_in_flight=1, requests_per_s=10_000.0) as gate:
        client = ApiClient(ApiAccess(url, SecretStr("sandbox")), gate, SystemClock(), timeout_s=timeout_s)

        async def upload(content: bytes) -> bytes:
            form = MultipartForm({}, "document.txt", BytesIO(content))
            return await client.send_request("upload", "POST", "/files", bytes, form=form)

        try:
            yield upload
        finally:
            await client.aclose()


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n", b" "),
    ],
    ids=["interim", "head", "body"],
)
@pytest.mark.usefixtures("trusted")
async def test_an_uploads_answer_that_drips_is_not_waited_for_for_ever(
    encrypted: bool, begin: bytes, drop: bytes
) -> None:
    """`api.timeout_s` is the time of all of it, as of any answer; the connection is closed."""
    closed = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, RuntimeError):  # uvloop's word for a closed one
            await reader.readuntil(b"--\r\n")
            writer.write(begin)
            while not reader.at_eof():
                writer.write(drop)
                await writer.drain()
                await asyncio.sleep(0.1)
        writer.close()
        closed.set()

    async with serving(drip, certified() if encrypted else None) as url, uploading(url, timeout_s=0.8) as upload:
        with anyio.fail_after(60):
            with pytest.raises(ApiError, match=r"no answer in time \(no whole response within 0\.8 s\)") as caught:
                await upload(b"an invoice")
            assert caught.value.verdict is Verdict.LATER
            await closed.wait()


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.usefixtures("trusted")
async def test_an_upload_may_take_longer_to_send_than_its_answer(encrypted: bool) -> None:
    """The answer's time begins when all was sent."""
    content, cut = bytes(32 << 20), 1 << 20
    pauses_s = [0.5] * 8  # all at the beginning: what is sent last is taken at once

    async def take_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(len(content) // cut):
            await reader.readexactly(cut)
            await asyncio.sleep(pauses_s.pop() if pauses_s else 0)
        await reader.readuntil(b"--\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await reader.read()
        writer.close()

    async with serving(take_slowly, certified() if encrypted else None) as url, uploading(url, timeout_s=3.0) as upload:
        assert await upload(content) == b"{}"


@pytest.mark.parametrize("words", ["j\ud800", "\udfff/../x\n", "j" * 70_000])
async def test_ids_that_no_url_can_hold_are_asked_for_all_the_same(words: str) -> None:
    """The server made them, and its answers were paid: it is asked in bytes, or can't be asked; and nothing breaks."""
    server = Server(body=json.dumps(JOB | {"id": words}).encode())
    async with serving(server.talk) as url, calling(url) as api:
        made = await api.create(sending(["a"]), nothing)
        assert made.job_id == words
        if len(words) < 100:
            assert (await api.get(words)).job_id == words
        else:
            assert await refused(api.get(words)) is Verdict.LATER
        for ask in (api.list_page(page_size=9, page_token=words), api.results(made, ["a"])):
            assert await refused(ask) is Verdict.LATER  # this server says something else
    steps = [urllib.parse.unquote(head.split(b" ")[1].decode(), errors="surrogatepass") for head in server.requests]
    assert all(words in step for step in steps[1:])
    assert len(steps) == (4 if len(words) < 100 else 1)


async def test_an_idle_connection_is_closed_before_the_server_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers close idle connections after five seconds, and a create in that moment would be ambiguous."""
    now_s = 0.0
    monkeypatch.setattr(exchange, "time", SimpleNamespace(monotonic=lambda: now_s))
    server = Server()
    async with serving(server.talk) as url, calling(url) as api:
        for pause_s, connections in ((0.0, 1), (KEEPALIVE_S - 0.5, 1), (KEEPALIVE_S - 0.5, 1), (4.9, 2), (0.0, 2)):
            now_s += pause_s
            await api.get("j")
            assert server.connections == connections


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("encrypted", [False, True])
async def test_large_bodies_pass_in_both_directions(encrypted: bool) -> None:
    """Five hundred long IDs out, some megabytes back."""
    items = [{"file_id": f"f{number}", "result": {"type": None, "reasoning": "x" * 5000}} for number in range(1000)]
    server = Server(body=json.dumps({**JOB, "items": items}).encode())
    file_ids = [f"{number:0200d}" for number in range(500)]
    async with serving(server.talk, certified() if encrypted else None) as url, calling(url) as api:
        await api.create(sending(file_ids), nothing)
        answers = await api.results(JobView("j", "SUCCESS"), ())
    assert json.loads(server.requests[0].split(b"\r\n\r\n", 1)[1])["file_ids"] == file_ids
    assert len(answers.items) == 1000


@pytest.mark.usefixtures("trusted", "patient_connecting")
@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_create_is_ambiguous_where_the_server_hangs_up(encrypted: bool) -> None:
    """Read and closed, or reset: the create may have been accepted; a look is simply made again."""

    async def listen_and_leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def listen_and_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    for talk, timeout_s in ((listen_and_leave, PATIENCE_S), (listen_and_reset, PATIENCE_S), (be_silent, 0.3)):
        async with serving(talk, certified() if encrypted else None) as url, calling(url, timeout_s=timeout_s) as api:
            assert await refused(api.create(sending(["a"]), nothing)) is Verdict.AMBIGUOUS
            assert await refused(api.get("j")) is Verdict.LATER


@pytest.mark.parametrize("talk", ["nobody we trust", "another host", "no TLS", "nothing", "hangs up"])
async def test_a_tls_failure_sends_nothing_and_is_not_ambiguous(
    talk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of nobody we trust, or of another host; a server that speaks no TLS, or nothing: no connection was
    made, and not a byte of the request left."""
    authority = trustme.CA() if talk == "nobody we trust" else CERTIFICATES
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    heard: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(4096))
        if talk == "no TLS":
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        if talk == "nothing":
            await reader.read()
        writer.close()

    untrusted = talk in ("nobody we trust", "another host")
    context = certified("elsewhere.test" if talk == "another host" else "127.0.0.1") if untrusted else None
    timeout_s = 0.5 if talk == "nothing" else PATIENCE_S
    async with serving(speak, context) as url, calling(url.replace("http:", "https:"), timeout_s=timeout_s) as api:
        verdict = await refused(api.create(sending(["a"]), nothing))
    assert verdict is (Verdict.BLOCKED if untrusted or talk == "no TLS" else Verdict.LATER)
    assert not any(b"Bearer" in each or b"POST" in each for each in heard)


async def test_a_refused_port_is_not_ambiguous() -> None:
    """No connection, no job."""
    async with serving(Server().talk) as url:
        pass
    async with calling(url) as api:
        assert await refused(api.create(sending(["a"]), nothing)) is Verdict.LATER


@pytest.mark.usefixtures("trusted")
async def test_the_answer_to_a_cancelled_call_reaches_no_other_call() -> None:
    """The answer to a request that was given up is never taken for another's."""
    server = Server(delay_s=0.1)
    async with serving(server.talk, certified()) as url, calling(url, lanes=1) as api:
        for wait_s in (0.05, 0.01, 0.09):
            with anyio.move_on_after(wait_s):
                await api.get("j")
            assert (await api.get("j")).job_id == "j"


async def test_https_goes_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS goes through the proxy that HTTPS_PROXY names, except to hosts that NO_PROXY does."""
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(4096))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with serving(proxy) as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with calling("https://classify.test", timeout_s=PATIENCE_S) as api:
            assert await refused(api.create(sending(["a"]), nothing)) is Verdict.BLOCKED
        assert asked[0].startswith(b"CONNECT classify.test:443")
        assert b"Bearer" not in b"".join(asked)
        asked.clear()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with calling(url.replace("http:", "https:"), timeout_s=0.5) as api:
            await refused(api.create(sending(["a"]), nothing))
        assert not any(each.startswith(b"CONNECT") for each in asked)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(SettingsError, match="HTTPS_PROXY"):
        Route("https://classify.test")


@pytest.mark.parametrize("proxy_over_tls", [False, True])
async def test_a_tunnel_that_does_not_come_about_is_not_ambiguous(
    proxy_over_tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that hangs up, is silent, speaks no HTTP, or answers 502: no connection was made."""
    CERTIFICATES.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("NO_PROXY", "")

    for answer in (b"", None, b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"x" * 70_000):

        async def proxy(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes | None = answer
        ) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
            writer.close()

        async with serving(proxy, certified() if proxy_over_tls else None) as url:
            monkeypatch.setenv("HTTPS_PROXY", url)
            async with calling("https://classify.test", timeout_s=0.5) as api:
                with pytest.raises(ApiError, match=url.rpartition("/")[2]) as caught:
                    await api.create(sending(["a"]), nothing)
            assert caught.value.verdict is Verdict.LATER, answer


async def test_a_host_that_no_resolver_takes_is_not_ambiguous() -> None:
    """Names are checked in the settings; where one gets by, it is a connection that was not made."""
    async with calling("http://ex..ample.test", timeout_s=0.5) as api:
        assert await refused(api.create(sending(["a"]), nothing)) is Verdict.LATER


PAGE = b'{"items":[],"next_page_token":null,"total_size":0}'


class Stubborn(httpx.AsyncBaseTransport):
    """A connection that can't be closed."""

    def __init__(self, error: Exception | None, closed: list[Exception | None]) -> None:
        self._error, self._closed = error, closed

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await anyio.sleep(0.01)  # so that each call has a connection of its own
        return httpx.Response(200, stream=httpx.ByteStream(PAGE), request=request)

    async def aclose(self) -> None:
        self._closed.append(self._error)
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("unexpected", [None, ValueError("a bug")])
async def test_all_connections_are_closed_whatever_one_of_them_raises(unexpected: Exception | None) -> None:
    """A broken one is no error of the run: what it was asked has been answered. A bug is still reported, at the end."""
    errors = [None, anyio.BrokenResourceError(), unexpected, httpx.ReadError("reset"), OSError("gone"), None]
    waiting, closed = iter(errors), list[Exception | None]()
    async with RequestGate(requests_in_flight=len(errors), requests_per_s=1000.0) as gate:
        client = ApiClient(
            ApiAccess("https://api.example", SecretStr("sk-0123456789")),
            gate,
            SystemClock(),
            timeout_s=5.0,
            transport=lambda: Stubborn(next(waiting), closed),
        )
        api = ApiV1(client, SPEC)
        async with anyio.create_task_group() as tasks:
            for _ in errors:
                tasks.start_soon(lambda: api.list_page(page_size=10))
        with nullcontext() if unexpected is None else pytest.raises(ValueError, match="a bug"):
            await client.aclose()
    assert len(closed) == len(errors)
    assert set(closed) == set(errors)


class Recording(httpx.AsyncBaseTransport):
    """A connection that keeps what it was asked."""

    def __init__(self, requests: list[httpx.Request]) -> None:
        self._requests = requests

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._requests.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(PAGE), request=request)


async def test_no_cache_may_answer_in_the_place_of_the_api() -> None:
    """A job list from before a create proves that it made no job. RFC 9111, 5.2.1.4: caches ask the server again."""
    requests: list[httpx.Request] = []
    async with RequestGate(requests_in_flight=1, requests_per_s=1000.0) as gate:
        access = ApiAccess("https://api.example", SecretStr("sk-0123456789"))
        client = ApiClient(access, gate, SystemClock(), timeout_s=5.0, transport=lambda: Recording(requests))
        await ApiV1(client, SPEC).list_page(page_size=10)
        await client.aclose()
    assert [request.headers["Cache-Control"] for request in requests] == ["no-cache"]
