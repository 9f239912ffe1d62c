"""One rate for many processes: hands out turns to their gates (see `leased_gate`), and learns from all their answers.

It is a request gate whose turns are leased. A process asks for one, is answered when it may send, and reports when its
request was sent, what came of it, and that the turn is free. A turn that is not given back is taken back after a while,
and who falls silent gets none. No clock is compared with another process's: a report says how long ago something
happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

import anyio

from classify_batch.limits.gate import Headroom, Priority
from classify_batch.limits.request_gate import GatePassage, RequestGate

SILENT_S_MAX = 5.0
"""Who has reported nothing for so long gets no turns, until it reports again."""

TURN_S_MAX = 120.0
"""After so long a turn is taken back, though its request may still be in flight: few requests take longer, and a turn
whose end is never reported must not be lost for good."""

RECLAIMS_EVERY_S = 1.0


class BudgetGoneError(Exception):
    """Nobody hands out turns at present."""


# --- What a process reports -------------------------------------------------------------------------------------------


class Sent(NamedTuple):
    """A request was sent so long ago."""

    turn_id: int
    ago_s: float


class Done(NamedTuple):
    """A request is in flight no more, or the turn is not wanted any more."""

    turn_id: int


class Answered(NamedTuple):
    """The API answered a request that was sent so long ago, and not with a 429."""

    priority: Priority
    sent_ago_s: float | None


class RateLimited(NamedTuple):
    """A 429 to a request that was sent so long ago; `retry_after_s`: what it asked for, if it did."""

    priority: Priority
    sent_ago_s: float
    retry_after_s: float | None


class Failed(NamedTuple):
    """No answer, or one that says that the API is in trouble."""


class RetryAfter(NamedTuple):
    """An answer that is no 429 of the rate asked for a wait."""

    wait_s: float
    creates_only: bool


class Discovered(NamedTuple):
    """What an earlier process found to be allowed. It counts for a budget that has seen no answer yet."""

    per_s: float | None
    creates_per_s: float | None


class Limits(NamedTuple):
    """Other rates were given."""

    per_s: float | None
    creates_per_s: float | None


Report: TypeAlias = Sent | Done | Answered | RateLimited | Failed | RetryAfter | Discovered | Limits


# --- What it is answered ----------------------------------------------------------------------------------------------


class BudgetState(NamedTuple):
    """How a budget stands: `Gate` says the meaning of each.

    Attributes:
        holds_back: whether creates wait for the rate.
    """

    waiting_s: float
    headroom: Headroom
    discovered_per_s: float | None
    discovered_creates_per_s: float | None
    noise_share: float | None
    broken: bool
    failing_s: float
    ever_answered: bool
    holds_back: bool


def state_of_gate(gate: RequestGate) -> BudgetState:
    """How a gate stands now."""
    return BudgetState(
        gate.waiting_s,
        gate.headroom,
        gate.discovered_per_s,
        gate.discovered_creates_per_s,
        gate.noise_share,
        gate.broken,
        gate.failing_s,
        gate.ever_answered,
        gate.creates_held_back,
    )


class Turn(NamedTuple):
    """A request may be sent, now.

    Attributes:
        waited_s: since the turn was asked for: so whoever gets this can tell how late it arrives.
    """

    waited_s: float
    state: BudgetState


class Budget(Protocol):
    """Hands out turns, in this process or from another. Every method raises BudgetGoneError."""

    async def take_turn(self, holder: str, turn_id: int, priority: Priority) -> Turn | None:
        """Returns when the holder may send a request. None: it fell silent, or withdrew; it may ask again.

        Args:
            holder: names a process, also among all that were before it.
            turn_id: the holder's own number for the turn.
        """

    async def report(self, holder: str, reports: Sequence[Report]) -> BudgetState:
        """Takes what the holder has to say, in order. To be called every second or so, also with nothing to say."""


# --- The budget -------------------------------------------------------------------------------------------------------


@dataclass
class _Holder:
    heard_s: float
    waiting: dict[int, anyio.CancelScope] = field(default_factory=dict)
    turns: dict[int, _TurnInUse] = field(default_factory=dict)


class _TurnInUse(NamedTuple):
    since_s: float
    turn: AbstractAsyncContextManager[GatePassage]
    passage: GatePassage


class RateBudget:
    """The budget itself, in one event loop. It hands out turns while `serve_until_cancelled` runs.

    Args:
        requests_per_s, requests_in_flight: of all processes together.
        creates_per_s: of all their creates, where these have a rate of their own.
    """

    def __init__(self, *, requests_per_s: float, requests_in_flight: int, creates_per_s: float | None = None) -> None:
        self._gate = RequestGate(
            requests_in_flight=requests_in_flight, requests_per_s=requests_per_s, creates_per_s=creates_per_s
        )
        self._holders: dict[str, _Holder] = {}

    async def serve_until_cancelled(self) -> None:
        """Hands out turns until it is cancelled."""
        async with self._gate:
            try:
                while True:
                    await anyio.sleep(RECLAIMS_EVERY_S)
                    await self._reclaim_turns()
            finally:
                for known in self._holders.values():
                    for turn_id in list(known.turns):
                        await self._end_turn(known, turn_id)

    async def take_turn(self, holder: str, turn_id: int, priority: Priority) -> Turn | None:
        """See `Budget`."""
        asked_s = anyio.current_time()
        known = self._note_sign_of_life(holder)
        turn = self._gate.turn(priority)
        passage: GatePassage | None = None
        with anyio.CancelScope() as scope:
            known.waiting[turn_id] = scope
            try:
                passage = await turn.__aenter__()
            finally:
                del known.waiting[turn_id]
        if passage is None:
            return None
        if scope.cancel_called:  # withdrawn in the very turn of the loop in which it was let pass
            await turn.__aexit__(None, None, None)
            return None
        now_s = anyio.current_time()
        known.turns[turn_id] = _TurnInUse(now_s, turn, passage)
        return Turn(now_s - asked_s, state_of_gate(self._gate))

    async def report(self, holder: str, reports: Sequence[Report]) -> BudgetState:
        """See `Budget`."""
        known = self._note_sign_of_life(holder)
        for report in reports:
            self._apply_report(known, report)
        # Only once all was learned: a turn that is free may let the next probe pass, which this one's answer decides.
        for report in reports:
            if isinstance(report, Done):
                await self._end_turn(known, report.turn_id)
        return state_of_gate(self._gate)

    def _note_sign_of_life(self, holder: str) -> _Holder:
        known = self._holders.setdefault(holder, _Holder(0.0))
        known.heard_s = anyio.current_time()
        return known

    def _apply_report(self, known: _Holder, report: Report) -> None:
        gate, now_s = self._gate, anyio.current_time()
        match report:
            case Sent(turn_id, ago_s):
                if (in_use := known.turns.get(turn_id)) is not None:
                    in_use.passage.mark_sent_at(now_s - ago_s)
            case Answered(priority, sent_ago_s):
                gate.record_answered(priority, None if sent_ago_s is None else now_s - sent_ago_s)
            case RateLimited(priority, sent_ago_s, retry_after_s):
                gate.record_rate_limited(retry_after_s, now_s - sent_ago_s, priority)
            case Failed():
                gate.record_failure()
            case RetryAfter(wait_s, creates_only):
                gate.obey_retry_after(wait_s, creates_only=creates_only)
            case Discovered(per_s, creates_per_s):
                if not gate.ever_answered:
                    gate.restore(per_s, creates_per_s)
            case Limits(per_s, creates_per_s):
                gate.set_limits(per_s, creates_per_s)

    async def _end_turn(self, known: _Holder, turn_id: int) -> None:
        if (scope := known.waiting.get(turn_id)) is not None:
            scope.cancel()
        if (in_use := known.turns.pop(turn_id, None)) is not None:
            await in_use.turn.__aexit__(None, None, None)

    async def _reclaim_turns(self) -> None:
        """Takes turns back from whoever fell silent, and those that were not given back in time."""
        now_s = anyio.current_time()
        for name, known in list(self._holders.items()):
            silent = now_s - known.heard_s > SILENT_S_MAX
            for turn_id, in_use in list(known.turns.items()):
                if silent or now_s - in_use.since_s > TURN_S_MAX:
                    await self._end_turn(known, turn_id)
            if silent:
                for scope in known.waiting.values():
                    scope.cancel()
                del self._holders[name]
