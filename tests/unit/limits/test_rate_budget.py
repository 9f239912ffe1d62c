"""One rate for many processes, in virtual time: a budget behind a wire that takes its time, and gates that die."""

from __future__ import annotations

import pickle
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import anyio
import pytest

from classify_batch.limits import Priority, RequestGate
from classify_batch.limits.leased_gate import LeasedGate
from classify_batch.limits.rate_budget import SILENT_S_MAX, BudgetGoneError, BudgetState, RateBudget, Report, Turn
from classify_batch.limits.request_gate import BREAK_AFTER

pytestmark = pytest.mark.anyio


class Wire:
    """A budget as a process on another machine sees it: what is said is copied, and takes some milliseconds each way.

    Attributes:
        cut: nothing passes, and whoever asks gets an error; silent: nothing passes, and nobody gets an error.
    """

    def __init__(self, budget: RateBudget, seed: int = 1) -> None:
        self.budget, self.random = budget, Random(seed)
        self.cut = self.silent = False
        self._was_cut = anyio.Event()

    def cut_off(self) -> None:
        self.cut = True
        self._was_cut.set()

    async def take_turn(self, holder: str, turn_id: int, priority: Priority) -> Turn | None:
        await self._travel()
        found: Turn | None = None
        async with anyio.create_task_group() as tasks:

            async def end_when_cut() -> None:
                await self._was_cut.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(end_when_cut)
            found = await self.budget.take_turn(holder, turn_id, priority)
            tasks.cancel_scope.cancel()
        await self._travel()
        return found

    async def report(self, holder: str, reports: Sequence[Report]) -> BudgetState:
        await self._travel()
        said: list[Report] = pickle.loads(pickle.dumps(list(reports)))
        state = await self.budget.report(holder, said)
        await self._travel()
        return state

    async def _travel(self) -> None:
        while self.silent:
            await anyio.sleep(0.1)
        await anyio.sleep(self.random.uniform(0.0005, 0.004))
        if self.cut:
            raise BudgetGoneError


class Sender:
    """A process that always has requests to send, of all three kinds; a create takes some time to be made ready."""

    def __init__(self, gate: LeasedGate, seed: int, sent: list[float]) -> None:
        self.gate, self.random, self.sent = gate, Random(seed), sent
        self.own: list[float] = []

    async def work(self, in_flight: int = 8) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(in_flight):
                tasks.start_soon(self._send_again_and_again)

    async def _send_again_and_again(self) -> None:
        while True:
            priority = self.random.choice(list(Priority))
            async with self.gate.turn(priority) as passage:
                if priority is Priority.CREATE:
                    await anyio.sleep(self.random.choice((0.001, 0.001, 0.004, 0.03)))
                sent_s = await passage.wait_and_mark_sent()
                self.sent.append(sent_s)
                self.own.append(sent_s)
                await anyio.sleep(self.random.uniform(0.01, 0.1))
            self.gate.record_answered(priority, sent_s)


def most_in_a_second(times: Sequence[float]) -> int:
    ordered = sorted(times)
    return max(bisect_left(ordered, start + 1.0) - at for at, start in enumerate(ordered))


@asynccontextmanager
async def serving(requests_per_s: float, seed: int = 1) -> AsyncIterator[Wire]:
    """A budget that hands out turns."""
    budget = RateBudget(requests_per_s=requests_per_s, requests_in_flight=128)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(budget.serve_until_cancelled)
        yield Wire(budget, seed)
        tasks.cancel_scope.cancel()


async def leased(wire: Wire, name: str, stack: AsyncExitStack, share: float = 2.25) -> LeasedGate:
    own_share = RequestGate(requests_in_flight=16, requests_per_s=share)
    return await stack.enter_async_context(LeasedGate(wire, name, own_share, share / 18.0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_eight_processes_use_one_rate_and_never_pass_it(seed: int) -> None:
    """18 a second of all together, whoever sends: at least 97 % of it, and never more than 20 in any second."""
    sent: list[float] = []
    async with serving(18.0, seed) as wire, anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        senders = [Sender(await leased(wire, f"p{n}", stack), n, sent) for n in range(8)]
        for sender in senders:
            tasks.start_soon(sender.work)
        await anyio.sleep(120.0)
        tasks.cancel_scope.cancel()
    assert most_in_a_second(sent) <= 20
    assert len(sent) >= 0.97 * 18 * 120
    assert min(len(each.own) for each in senders) > 0.5 * len(sent) / 8  # nobody starves


async def test_what_a_dead_process_asked_for_is_taken_back() -> None:
    """A process that dies with turns and questions open costs a moment of the rate, and no more."""
    sent: list[float] = []
    async with serving(18.0) as wire, anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        lost = Wire(wire.budget, 2)  # its own wire, which falls silent with it
        gate = await leased(lost, "dying", stack)
        async with anyio.create_task_group() as dying:
            dying.start_soon(Sender(gate, 1, []).work, 16)
            await anyio.sleep(2.0)
            lost.silent = True
            dying.cancel_scope.cancel()
        living = Sender(await leased(wire, "living", stack), 2, sent)
        tasks.start_soon(living.work, 16)
        await anyio.sleep(30.0)
        assert list(wire.budget._holders) == ["living"]
        lost.silent = False
        tasks.cancel_scope.cancel()
    assert len(sent) >= 0.93 * 18 * 30


async def test_without_a_budget_each_has_its_share() -> None:
    """Where nobody hands out turns each process sends by its share, and when somebody does again, by the budget."""
    sent: list[float] = []
    async with serving(18.0) as wire, anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        for n in range(4):
            tasks.start_soon(Sender(await leased(wire, f"p{n}", stack, share=1.0), n, sent).work)
        await anyio.sleep(30.0)
        wire.cut_off()
        await anyio.sleep(30.0)
        wire.cut = False
        wire._was_cut = anyio.Event()
        await anyio.sleep(30.0)
        tasks.cancel_scope.cancel()
    start_s = min(sent)
    spans = [sum(start_s + at <= each < start_s + at + 25 for each in sent) / 25 for at in (2, 33, 64)]
    assert spans[0] >= 0.97 * 18
    assert 3.5 <= spans[1] <= 4.1
    assert spans[2] >= 0.95 * 18


async def test_a_turn_that_arrives_late_is_not_used() -> None:
    """Whoever stood still asks again: others have sent since."""
    async with serving(10.0) as wire, AsyncExitStack() as stack:
        gate = await leased(wire, "sleepy", stack)
        async with gate.turn(Priority.POLL) as passage:
            await passage.wait_and_mark_sent()
        before = next(gate._turn_ids)
        wire.silent = True  # the answer is under way when it falls silent
        async with anyio.create_task_group() as tasks:
            passed: list[float] = []

            async def send() -> None:
                async with gate.turn(Priority.POLL):
                    passed.append(anyio.current_time())

            wire.silent = False
            late = wire._travel

            async def slow() -> None:
                await anyio.sleep(1.5)
                wire._travel = late  # type: ignore[method-assign]

            wire._travel = slow  # type: ignore[method-assign]
            tasks.start_soon(send)
        assert passed
        assert next(gate._turn_ids) == before + 3  # asked for twice


async def test_one_who_withdraws_leaves_nothing_behind() -> None:
    """A request that is cancelled while it waits gives its place back at the budget."""
    async with serving(0.5) as wire, AsyncExitStack() as stack:
        gate = await leased(wire, "hasty", stack)
        async with gate.turn(Priority.POLL):
            pass
        for _ in range(20):
            with anyio.move_on_after(0.01):
                async with gate.turn(Priority.CREATE):
                    raise AssertionError
        await anyio.sleep(0.2)
        holder = wire.budget._holders["hasty"]
        assert not holder.waiting
        assert not holder.turns


async def test_what_one_learns_all_obey() -> None:
    """A Retry-After that one process was given holds all of them back; an outage is probed by one of all."""
    async with serving(50.0) as wire, AsyncExitStack() as stack:
        one, other = await leased(wire, "one", stack), await leased(wire, "other", stack)
        async with one.turn(Priority.POLL):
            pass
        one.obey_retry_after(7.0)
        await anyio.sleep(0.1)
        began_s = anyio.current_time()
        async with other.turn(Priority.POLL):
            assert anyio.current_time() - began_s >= 6.5
        for _ in range(BREAK_AFTER):
            one.record_failure()
        await anyio.sleep(1.0)
        assert one.broken
        assert other.broken
        inside = most = 0

        async def probe(gate: LeasedGate) -> None:
            nonlocal inside, most
            async with gate.turn(Priority.POLL):
                inside += 1
                most = max(most, inside)
                await anyio.sleep(3.0)
                inside -= 1
            gate.record_failure()

        with anyio.move_on_after(60.0):
            async with anyio.create_task_group() as tasks:
                for gate in (one, other) * 5:
                    tasks.start_soon(probe, gate)
        assert most == 1


async def test_a_new_limit_and_a_discovery_are_for_all() -> None:
    """What `tune` gives one process holds for all; what an earlier process found counts until answers say more."""
    async with serving(18.0) as wire, AsyncExitStack() as stack:
        one, other = await leased(wire, "one", stack), await leased(wire, "other", stack)
        one.restore(5.0)
        await anyio.sleep(1.0)
        assert other.discovered_per_s == pytest.approx(5.0)
        other.set_limits(4.0)
        await anyio.sleep(1.0)
        assert one.headroom.interval_s >= 0.25
        one.record_answered(Priority.POLL, anyio.current_time())
        await anyio.sleep(1.0)
        other.restore(1.0)
        await anyio.sleep(1.0)
        assert one.headroom.interval_s < 0.5


async def test_creates_of_one_process_are_paused_alone() -> None:
    """To pause a run pauses no other one."""
    async with serving(50.0) as wire, AsyncExitStack() as stack:
        one, other = await leased(wire, "one", stack), await leased(wire, "other", stack)
        one.pause(True)
        with anyio.move_on_after(5.0) as scope:
            async with one.turn(Priority.CREATE):
                pass
        assert scope.cancelled_caught
        with anyio.fail_after(1.0):
            async with other.turn(Priority.CREATE), one.turn(Priority.POLL):
                pass
        one.pause(False)
        with anyio.fail_after(1.0):
            async with one.turn(Priority.CREATE):
                pass


async def test_a_process_that_falls_silent_and_wakes_goes_on() -> None:
    """After a silence its questions are asked anew, and it is known again."""
    async with serving(18.0) as wire, anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        sender = Sender(await leased(wire, "sleeper", stack), 1, [])
        tasks.start_soon(sender.work)
        await anyio.sleep(5.0)
        wire.silent = True
        await anyio.sleep(SILENT_S_MAX + 3.0)
        wire.silent = False
        woke_s = anyio.current_time()
        await anyio.sleep(20.0)
        tasks.cancel_scope.cancel()
    assert sum(each >= woke_s + 2 for each in sender.own) >= 0.9 * 18 * 18


async def test_a_turn_that_is_withdrawn_while_it_is_handed_out_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever withdraws in the very moment in which it is let pass holds no turn for ever."""
    async with serving(50.0) as wire:
        budget, gate = wire.budget, wire.budget._gate
        let_pass = gate.turn

        @asynccontextmanager
        async def withdrawn(priority: Priority) -> AsyncIterator[object]:
            async with let_pass(priority) as passage:
                budget._holders["hasty"].waiting[1].cancel()
                yield passage

        monkeypatch.setattr(gate, "turn", withdrawn)
        assert await budget.take_turn("hasty", 1, Priority.POLL) is None
        assert not budget._holders["hasty"].turns
        assert gate._in_flight == 0


async def test_a_budget_that_is_begun_anew_hears_the_limits_that_were_given() -> None:
    """`tune` while nobody hands out turns: the process's own share follows at once, and the next budget, too."""
    async with serving(18.0) as wire, AsyncExitStack() as stack:
        gate = await leased(wire, "tuned", stack, share=1.0)
        await anyio.sleep(1.0)
        wire.cut_off()
        await anyio.sleep(1.0)
        gate.set_limits(4.5)
        assert gate.headroom.interval_s == pytest.approx(4.0, rel=0.05)  # an eighteenth of 4.5 a second
        await anyio.sleep(2.0)  # what was reported meanwhile is lost
        async with serving(18.0) as anew:
            wire.budget, wire.cut, wire._was_cut = anew.budget, False, anyio.Event()
            await anyio.sleep(2.0)
            assert gate.headroom.interval_s == pytest.approx(1 / 4.5, rel=0.05)


async def test_an_api_that_answered_once_did_so_for_good() -> None:
    """A process knows that the address is right, also when the budget that knew it is gone."""
    async with serving(18.0) as wire, AsyncExitStack() as stack:
        gate = await leased(wire, "one", stack)
        assert not gate.ever_answered
        gate.record_answered(Priority.POLL, anyio.current_time())
        wire.cut_off()
        await anyio.sleep(1.0)
        assert gate.ever_answered


async def test_creates_that_wait_for_their_turn_are_paused_too() -> None:
    """A create that had asked before the pause doesn't leave in it, and gives its turn back."""
    async with serving(0.5) as wire, anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        gate, passed = await leased(wire, "one", stack), list[float]()

        async def create() -> None:
            async with gate.turn(Priority.CREATE):
                passed.append(anyio.current_time())

        for _ in range(3):
            tasks.start_soon(create)
        await anyio.sleep(0.5)
        assert len(passed) == 1
        gate.pause(True)
        await anyio.sleep(20.0)
        assert len(passed) == 1
        assert not wire.budget._holders["one"].turns
        gate.pause(False)
        await anyio.sleep(10.0)
        assert len(passed) == 3


async def test_turns_that_are_always_late_stop_nobody() -> None:
    """Where the way takes longer than a turn lasts, a process sends by its share; once it is short again, by turns."""
    async with serving(50.0) as wire, AsyncExitStack() as stack:
        gate, travel = await leased(wire, "far", stack, share=5.0), wire._travel

        async def slow() -> None:
            await anyio.sleep(0.8)

        wire._travel = slow  # type: ignore[method-assign]
        for _ in range(5):
            with anyio.fail_after(8.0):
                async with gate.turn(Priority.POLL):
                    pass
        wire._travel = travel  # type: ignore[method-assign]
        for _ in range(3):
            with anyio.fail_after(1.0):
                async with gate.turn(Priority.POLL) as passage:
                    assert type(passage).__name__ == "LeasedPassage"
