"""`Retry-After` over a real socket: whoever is asked to wait does, whatever the status."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from email.utils import formatdate

import anyio
import pytest

from classify_batch.clock import SystemClock
from classify_batch.errors import ApiError, Verdict
from classify_batch.limits.request_gate import RETRY_AFTER_S_MAX
from tests.command.test_failure_rows import JOB, answer, calling, nothing, raw, sending, serving

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


@pytest.mark.parametrize(
    ("retry_after", "low_s", "high_s"),
    [
        ("7", 6.5, 7.0),
        ("0", 0.0, 0.0),
        ("99999999999999", RETRY_AFTER_S_MAX - 1, RETRY_AFTER_S_MAX),
        (formatdate(2_000_000_000, usegmt=True), RETRY_AFTER_S_MAX - 1, RETRY_AFTER_S_MAX),
        (formatdate(0, usegmt=True), 0.0, 0.0),
        ("soon", 0.0, 0.0),
        ("-5", 0.0, 0.0),
        ("1.5", 1.0, 1.5),
        (".5", 0.0, 0.0),
        ("1.5s", 0.0, 0.0),
        ("\u00b2", 0.0, 0.0),
        ("Mon, 99999999999999999999 Jan 2020 00:00:00 GMT", 0.0, 0.0),
        ("Mon, 01 Jan 0001 00:00:00 -0000", 0.0, 1.0),
        ("", 0.0, 0.0),
    ],
)
async def test_retry_after_is_obeyed_up_to_a_limit(retry_after: str, low_s: float, high_s: float) -> None:
    """In seconds or as a date; what is neither silences nobody."""
    data = b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\nRetry-After: " + retry_after.encode("latin-1") + b"\r\n\r\n"
    async with serving(raw(data)) as server, calling(server.url) as (api, gate):
        with pytest.raises(ApiError) as caught:
            await api.get("j")
        assert caught.value.verdict is Verdict.LATER
        assert low_s <= gate.waiting_s <= high_s


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

    async with serving(busy_at_first) as server, calling(server.url) as (api, gate):
        with pytest.raises(ApiError):
            await api.get("j")
        assert gate.waiting_s > 1
        assert (await api.get("j")).job_id == "j"
    assert 1.95 < arrived_s[1] - arrived_s[0] < 4


async def test_a_full_plan_with_retry_after_holds_back_creates_alone() -> None:
    """They wait as long as it says; reads, which free the plan, don't."""
    words = "You have already reached the maximum number of classify jobs at once (5)."

    async def full_for_creates(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = sum(request.startswith(b"POST") for request in server.requests) == 1
        full = first and server.requests[-1].startswith(b"POST")
        later = "Retry-After: 2\r\n" if full else ""
        writer.write(answer(429, {"detail": words}, later) if full else answer(200, JOB))

    async with serving(full_for_creates) as server, calling(server.url) as (api, gate):
        with pytest.raises(ApiError):
            await api.create(sending(["a"]), nothing)
        began_s, ended_s = anyio.current_time(), dict[str, float]()

        async def call(name: str, made: Awaitable[object]) -> None:
            await made
            ended_s[name] = anyio.current_time() - began_s

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, "create", api.create(sending(["a"]), nothing))
            for number in range(8):
                tasks.start_soon(call, f"get {number}", api.get("j"))
        assert gate.waiting_s == 0
        assert ended_s.pop("create") >= 1.95
        assert max(ended_s.values()) < 1


async def test_a_429_of_a_full_plan_delays_no_other_call() -> None:
    """This 429 counts jobs: whoever looks and collects need not wait."""
    words = "You have already reached the maximum number of classify jobs at once (5)."
    async with serving(raw(answer(429, {"detail": words}))) as server, calling(server.url) as (api, gate):
        with pytest.raises(ApiError) as caught:
            await api.create(sending(["a"]), nothing)
        assert caught.value.verdict is Verdict.PLAN_FULL
        assert gate.waiting_s == 0
