"""Trying again: the only import of tenacity.

Waits grow exponentially with full jitter (the "full jitter" of the AWS Architecture Blog, 2015) and are counted in
attempts, because tenacity's clock-based stops read the real clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import anyio
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random_exponential,
)

from classify_batch.errors import ApiError, Verdict

CALLS_MAX = 50
"""A limit, not a plan: how long an API may be down is `limits.patience_s`, judged where the answers come in."""

WAIT_S_FIRST = 0.5
WAIT_S_MAX = 30.0

JITTER = 0.25
"""By this share a wait is longer at most, so that those who were refused together don't come back together."""

Result = TypeVar("Result")


class Backoff:
    """Waits that double, without a clock: whoever waits counts the calls.

    Args:
        first_s: the wait after the first failed call; max_s: the longest, before jitter.
        random: where the jitter comes from.
        jitter: by this share a wait is longer at most; 0 where the waits must end at a known time.
    """

    def __init__(self, first_s: float, max_s: float, random: Random | None = None, *, jitter: float = JITTER) -> None:
        self._wait = wait_exponential(multiplier=first_s, max=max_s)
        # All that tenacity's waits read of it is the call's number.
        self._state = RetryCallState(AsyncRetrying(), None, (), {})
        self._random = random or Random()  # noqa: S311 - no secret
        self._jitter = jitter

    def wait_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row, counted from 1."""
        self._state.attempt_number = failures
        return self._wait(self._state) * (1 + self._jitter * self._random.random())


async def retry_transient(
    call: Callable[[], Awaitable[Result]],
    *,
    retry_on: frozenset[Verdict] = frozenset({Verdict.LATER}),
    calls_max: int = CALLS_MAX,
) -> Result:
    """Makes a call, and makes it again while it raises an ApiError whose verdict is in `retry_on`.

    A `Retry-After` is not handled here: the request gate lets nobody pass before it.

    Raises:
        ApiError: with another verdict, or the last of `calls_max`.
    """
    try:
        return await call()  # tenacity takes longer than many a call that succeeds at once
    except ApiError as error:
        if error.verdict not in retry_on or calls_max == 1:
            raise
        failed = [error]

    async def call_again() -> Result:  # tenacity awaits coroutine functions only, and a lambda is none
        if failed:
            raise failed.pop()
        return await call()

    retrying = AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, ApiError) and error.verdict in retry_on),
        stop=stop_after_attempt(calls_max),
        wait=wait_random_exponential(multiplier=WAIT_S_FIRST, max=WAIT_S_MAX),
        sleep=anyio.sleep,
        reraise=True,
    )
    return await retrying(call_again)
