"""`Retry-After` over a real socket: whoever is asked to wait does, whatever the status."""

from __future__ import annotations

import asyncio
from email.utils import formatdate

import anyio
import pytest

from classify_batch.clock import SystemClock
from classify_batch.errors import ApiError, Verdict
from classify_batch.limits.request_gate import RETRY_AFTER_S_MAX
from tests.command.test_failure_rows import JOB, answer, calling, nothing, raw, sending, serving

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("99999999999999", RETRY_AFTER_S_MAX),
        (formatdate(2_000_000_000, usegmt=True), RETRY_AFTER_S_MAX),
        (formatdate(0, usegmt=True), 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("1.5", 1.5),
        (".5", 0.0),
        ("1.5s", 0.0),
        ("\u00b2", 0.0),
        ("Mon, 99999999999999999999 Jan 2020 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 0001 00:00:00 -0000", 0.0),
        ("", 0.0),
    ],
)
async def test_retry_after_is_obeyed_up_to_a_limit(retry_after: str, wait_s: float) -> None:
    """In seconds or as a date; what is neither silences nobody."""
    data = b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\nRetry-After: " + retry_after.encode("latin-1") + b"\r\n\r\n"
    async with serving(raw(data)) as server, calling(server.url) as (api, gate):
        began_s = anyio.current_time()
        with pytest.raises(ApiError) as caught:
            await api.get("j")
        left_s = gate.waiting_s
        assert caught.value.verdict is Verdict.LATER
        assert wait_s - (anyio.current_time() - began_s) <= left_s <= wait_s


@pytest.mark.parametrize("status", [503, 500, 408, 404, 429])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_obeyed_whatever_the_status(status: int, form: str) -> None:
    """A second request leaves only when the time is over, as the server sees it arrive."""
    arrived_s: list[float] = []

    async def busy_at_first(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived_s.append(anyio.current_time())
        if len(arrived_s) > 1:
            writer.write(answer(200, JOB))
            return
        date_s = SystemClock().wall_s() + 3  # a date has whole seconds: two are left at least
        later = "2" if form == "seconds" else formatdate(date_s, usegmt=True)
        writer.write(answer(status, {"detail": "Busy"}, f"Retry-After: {later}\r\n"))

    async with serving(busy_at_first) as server, calling(server.url) as (api, _):
        with pytest.raises(ApiError):
            await api.get("j")
        with anyio.fail_after(60):  # on a busy machine it may take long, but neither minutes nor for ever
            assert (await api.get("j")).job_id == "j"
    assert arrived_s[1] - arrived_s[0] > 1.95


FULL = "You have already reached the maximum number of classify jobs at once (5)."


async def test_a_full_plan_with_retry_after_holds_back_creates() -> None:
    """The next create waits as long as it says."""
    arrived_s: list[float] = []

    async def full_at_first(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived_s.append(anyio.current_time())
        full = len(arrived_s) == 1
        writer.write(answer(429, {"detail": FULL}, "Retry-After: 2\r\n") if full else answer(200, JOB))

    async with serving(full_at_first) as server, calling(server.url) as (api, _):
        with pytest.raises(ApiError):
            await api.create(sending(["a"]), nothing)
        with anyio.fail_after(60):
            await api.create(sending(["a"]), nothing)
    assert arrived_s[1] - arrived_s[0] > 1.95


async def test_a_full_plan_with_retry_after_holds_back_no_read() -> None:
    """Reads free the plan: they pass while the next create waits."""

    async def full_for_creates(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        full = server.requests[-1].startswith(b"POST")
        writer.write(answer(429, {"detail": FULL}, "Retry-After: 600\r\n") if full else answer(200, JOB))

    async with serving(full_for_creates) as server, calling(server.url) as (api, gate):
        with pytest.raises(ApiError):
            await api.create(sending(["a"]), nothing)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(api.create, sending(["a"]), nothing)
            with anyio.fail_after(60):
                for _ in range(8):
                    assert (await api.get("j")).job_id == "j"
            assert gate.waiting_s == 0
            tasks.cancel_scope.cancel()
    assert [request[:4] for request in server.requests] == [b"POST", *[b"GET "] * 8]


async def test_a_429_of_a_full_plan_delays_no_other_call() -> None:
    """This 429 counts jobs: whoever looks and collects need not wait."""
    async with serving(raw(answer(429, {"detail": FULL}))) as server, calling(server.url) as (api, gate):
        with pytest.raises(ApiError) as caught:
            await api.create(sending(["a"]), nothing)
        assert caught.value.verdict is Verdict.PLAN_FULL
        assert gate.waiting_s == 0
