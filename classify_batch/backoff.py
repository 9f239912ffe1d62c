"""Trying again: the only import of tenacity.

Waits grow exponentially with full jitter (the "full jitter" of the AWS Architecture Blog, 2015) and are counted in
attempts, because tenacity's clock-based stops read the real clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from classify_batch.errors import ApiError, Verdict

TRIES = 50
"""A limit, not a plan: how long an API may be down is `limits.patience_s`, judged where the answers come in."""

WAIT_S_FIRST = 0.5
WAIT_S_MAX = 30.0

Result = TypeVar("Result")


async def patiently(
    call: Callable[[], Awaitable[Result]],
    *,
    again: frozenset[Verdict] = frozenset({Verdict.LATER}),
    tries: int = TRIES,
) -> Result:
    """Makes a call until it brings an answer, or an ApiError whose verdict isn't in `again`, or `tries` are used up.

    A `Retry-After` is not looked at here: the gate lets nobody pass before it.
    """
    try:
        return await call()  # tenacity takes longer than many a call that succeeds at once
    except ApiError as error:
        if error.verdict not in again or tries == 1:
            raise
        failed = [error]

    async def attempt() -> Result:  # tenacity awaits coroutine functions only, and a lambda is none
        if failed:
            raise failed.pop()
        return await call()

    retrying = AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, ApiError) and error.verdict in again),
        stop=stop_after_attempt(tries),
        wait=wait_random_exponential(multiplier=WAIT_S_FIRST, max=WAIT_S_MAX),
        sleep=anyio.sleep,
        reraise=True,
    )
    return await retrying(attempt)
