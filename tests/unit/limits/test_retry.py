"""Patience, in virtual time: what is tried again, how often, and how long it waits."""

from __future__ import annotations

from random import Random

import anyio
import pytest

from classify_batch.errors import ApiError, Verdict
from classify_batch.limits.retry import CALLS_MAX, JITTER, WAIT_S_FIRST, WAIT_S_MAX, Backoff, retry_transient

pytestmark = pytest.mark.anyio


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, failures: int, verdict: Verdict = Verdict.LATER) -> None:
        self.left = failures
        self.verdict = verdict
        self.times: list[float] = []

    async def call(self) -> str:
        self.times.append(anyio.current_time())
        if self.left:
            self.left -= 1
            raise ApiError("get", self.verdict, "no")
        return "yes"


async def test_what_works_is_not_repeated() -> None:
    """One call, no time."""
    flaky = Flaky(0)
    assert await retry_transient(flaky.call) == "yes"
    assert flaky.times == [0.0]


async def test_it_is_tried_until_it_works() -> None:
    """Waits grow exponentially, with jitter, and never beyond the longest."""
    flaky = Flaky(CALLS_MAX - 1)
    assert await retry_transient(flaky.call) == "yes"
    waits_s = [after - before for before, after in zip(flaky.times, flaky.times[1:], strict=False)]
    assert all(wait_s <= min(WAIT_S_MAX, WAIT_S_FIRST * 2.0**at) for at, wait_s in enumerate(waits_s))
    assert len(set(waits_s)) > 0.8 * len(waits_s)
    assert max(waits_s) > WAIT_S_MAX / 4


async def test_attempts_are_limited_and_the_last_error_is_raised() -> None:
    """After the last attempt its error is raised as it is."""
    flaky = Flaky(100)
    with pytest.raises(ApiError, match="no") as caught:
        await retry_transient(flaky.call, calls_max=4)
    assert caught.value.verdict is Verdict.LATER
    assert len(flaky.times) == 4


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.LATER])
async def test_only_later_is_tried_again(verdict: Verdict) -> None:
    """A doubtful create above all: what may have been accepted is never simply sent again."""
    flaky = Flaky(1, verdict)
    with pytest.raises(ApiError):
        await retry_transient(flaky.call)
    assert flaky.times == [0.0]


async def test_what_else_is_tried_again_is_said() -> None:
    """A 404 to a job that is just being made is one of these."""
    flaky = Flaky(3, Verdict.MISSING)
    assert await retry_transient(flaky.call, retry_on=frozenset({Verdict.LATER, Verdict.MISSING})) == "yes"
    assert len(flaky.times) == 4


async def test_a_fault_of_ours_comes_through_at_once() -> None:
    """Only what the API answered is worth another try."""
    calls = 0

    async def broken() -> None:
        nonlocal calls
        calls += 1
        raise KeyError("ours")

    with pytest.raises(KeyError):
        await retry_transient(broken)
    assert calls == 1


def test_a_backoff_doubles_up_to_a_bound() -> None:
    """And is a little longer by chance, by the same chance where the seed is the same."""
    backoff, same = Backoff(0.5, 30.0, Random(7)), Backoff(0.5, 30.0, Random(7))
    waits = [backoff.wait_s(attempt) for attempt in range(1, 2000)]
    assert waits == [same.wait_s(attempt) for attempt in range(1, 2000)]
    for number, wait_s in enumerate(waits):
        least_s = min(30.0, 0.5 * 2.0 ** min(number, 100))
        assert least_s <= wait_s <= (1 + JITTER) * least_s
    assert len({round(wait_s, 6) for wait_s in waits[10:]}) > 1000
