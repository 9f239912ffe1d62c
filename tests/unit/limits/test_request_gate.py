"""The gate and the slots, in virtual time: how fast, how many at once, who goes first, and what a 429 does."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from random import Random

import anyio
import pytest

from classify_batch.limits import JobSlots, Priority, RequestGate
from classify_batch.limits.job_slots import PATIENCE_MAX
from classify_batch.limits.rate_constants import REFUSED_RUN
from classify_batch.limits.request_gate import (
    BREAK_AFTER,
    COOL_DOWN_S_MAX,
    COOL_DOWN_S_MIN,
    OTHERS_MAX,
    PROBE_WAIT_S_MAX,
    RETRY_AFTER_S_MAX,
)
from classify_batch.limits.retry import JITTER

pytestmark = pytest.mark.anyio


class Passing:
    """Notes when requests pass, and how many are inside."""

    def __init__(self, gate: RequestGate) -> None:
        self.gate = gate
        self.times: list[float] = []
        self.order: list[Priority] = []
        self.inside = self.inside_max = 0

    async def once(self, turn: Priority = Priority.POLL, hold_s: float = 0.0) -> None:
        async with self.gate.turn(turn):
            self.times.append(anyio.current_time())
            self.order.append(turn)
            self.inside += 1
            self.inside_max = max(self.inside, self.inside_max)
            try:
                await anyio.sleep(hold_s)
            finally:
                self.inside -= 1

    def most_in(self, window_s: float) -> int:
        return max(bisect_left(self.times, start + window_s) - at for at, start in enumerate(self.times))


class Leaving(Passing):
    """Requests that are made ready after they passed, for now a millisecond and now fifty."""

    def __init__(self, gate: RequestGate, seed: int, longest_s: float = 0.05) -> None:
        super().__init__(gate)
        self.random = Random(seed)
        self.longest_s = longest_s

    async def once(self, turn: Priority = Priority.CREATE, hold_s: float = 0.0) -> None:
        async with self.gate.turn(turn) as passage:
            await anyio.sleep(self.random.choice((0.001, 0.001, 0.001, 0.004, self.longest_s)))
            self.times.append(await passage.wait_and_mark_sent())


@pytest.mark.parametrize(("longest_s", "used"), [(0.05, 0.98), (0.3, 0.9)])
@pytest.mark.parametrize("seed", range(5))
async def test_what_is_made_ready_late_leaves_evenly(seed: int, longest_s: float, used: float) -> None:
    """A create is written down before it leaves: in no second more leave than the rate says, and not much fewer. It
    was 42 of 40, and up to 48 where it took longer than others wait for."""
    async with RequestGate(requests_in_flight=60, requests_per_s=1000.0, creates_per_s=40.0) as gate:
        leaving = Leaving(gate, seed, longest_s)
        async with anyio.create_task_group() as tasks:
            for _ in range(1200):
                tasks.start_soon(leaving.once)
    leaving.times = sorted(leaving.times)[1:]  # the first one passed before anything was known
    assert leaving.most_in(1.0) <= 40
    assert len(leaving.times) / (leaving.times[-1] - leaving.times[0]) >= used * 40


@pytest.mark.parametrize("longest_s", [0.004, 0.05, 0.1])
async def test_reads_that_are_ready_at_once_leave_evenly_with_creates_that_are_not(longest_s: float) -> None:
    """They have one rate: no second has more than it says, and not much fewer. It was 19 and 20 of 18."""
    async with RequestGate(requests_in_flight=60, requests_per_s=18.0) as gate:
        leaving, random = Leaving(gate, 1, longest_s), Random(1)

        async def send_repeatedly() -> None:
            while anyio.current_time() < 60.0:
                priority = random.choice(list(Priority))
                if priority is Priority.CREATE:
                    await leaving.once()
                    continue
                async with gate.turn(priority) as passage:
                    leaving.times.append(await passage.wait_and_mark_sent())
                    await anyio.sleep(random.uniform(0.01, 0.1))

        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(send_repeatedly)
    leaving.times = sorted(leaving.times)[1:]  # the first one passed before anything was known
    assert leaving.most_in(1.0) <= 18
    assert len(leaving.times) / (leaving.times[-1] - leaving.times[0]) >= 0.97 * 18


async def test_nothing_waits_to_leave_evenly_where_no_rate_holds_it_back() -> None:
    """A run whose jobs hold it back loses no time."""
    async with RequestGate(requests_in_flight=60, requests_per_s=1000.0) as gate:
        leaving = Leaving(gate, 1)
        for _ in range(100):
            await anyio.sleep(1.0)
            ready_s = anyio.current_time() + 0.05
            await leaving.once()
            assert leaving.times[-1] <= ready_s + 1e-9


@pytest.mark.parametrize("rate", [0.5, 4.0, 50.0])
@pytest.mark.parametrize("in_flight", [1, 30])
async def test_the_rate_is_smooth(rate: float, in_flight: int) -> None:
    """Over an hour (minutes, where it is fast): in any second no more than the rate, and not much less."""
    span_s = 3600.0 if rate < 1 else 600.0 / rate * 4
    random = Random(1)
    async with RequestGate(requests_in_flight=in_flight, requests_per_s=rate) as gate:
        passing = Passing(gate)
        with anyio.move_on_after(span_s):
            async with anyio.create_task_group() as tasks:

                async def ask() -> None:
                    while True:
                        await passing.once(random.choice(list(Priority)), random.random() * min(in_flight, 20) / rate)

                for _ in range(2 * in_flight + 2):
                    tasks.start_soon(ask)
        assert passing.most_in(1.0) <= max(rate, 1)
        assert passing.inside_max <= in_flight
        assert len(passing.times) > (0.5 if in_flight == 1 else 0.95) * rate * span_s


async def test_a_rest_is_no_reason_for_a_burst() -> None:
    """What was not used is lost: after an hour of silence requests pass one by one."""
    async with RequestGate(requests_in_flight=100, requests_per_s=10.0) as gate:
        passing = Passing(gate)
        await passing.once()
        await anyio.sleep(3600)
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(passing.once)
        assert passing.most_in(1.0) <= 10
        assert passing.times[-1] - passing.times[1] == pytest.approx(4.9, abs=0.15)


async def test_results_go_before_looks_before_creates() -> None:
    """Of those that wait, whoever frees a slot goes first, and among equals whoever came first."""
    async with RequestGate(requests_in_flight=1, requests_per_s=10.0) as gate:
        passing = Passing(gate)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(passing.once, Priority.CREATE, 1.0)
            await anyio.sleep(0.5)
            for turn in (Priority.CREATE, Priority.POLL, Priority.RESULTS, Priority.POLL, Priority.RESULTS):
                tasks.start_soon(passing.once, turn)
                await anyio.sleep(0.01)
        assert passing.order[1:4] == [Priority.RESULTS, Priority.RESULTS, Priority.POLL]


async def test_creates_always_keep_a_share() -> None:
    """However much there is to collect, one request of four is a poll and one a create, if they wait."""
    async with RequestGate(requests_in_flight=1, requests_per_s=10.0) as gate:
        passing = Passing(gate)
        async with anyio.create_task_group() as tasks:
            for turn in (Priority.RESULTS, Priority.POLL, Priority.CREATE):
                for _ in range(100):
                    tasks.start_soon(passing.once, turn)
        busy = passing.order[4:]
        for turn in (Priority.POLL, Priority.CREATE):
            shares = [busy[at : at + OTHERS_MAX + 1].count(turn) for at in range(180)]
            assert min(shares) >= 1, turn
        assert busy[:180].count(Priority.RESULTS) >= 80


async def test_creates_may_have_a_rate_of_their_own() -> None:
    """They keep to it, however many wait, and the others pass between them; what waits is known."""
    async with RequestGate(requests_in_flight=100, requests_per_s=100.0, creates_per_s=10.0) as gate:
        passing = Passing(gate)
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(passing.once, Priority.CREATE)
            await anyio.sleep(1)
            assert gate.headroom.interval_s == pytest.approx(0.1, rel=0.02)
            assert gate.headroom.backlog_s == pytest.approx(9.0, abs=0.3)
            began_s, before = anyio.current_time(), len(passing.times)
            for _ in range(50):
                await passing.once(Priority.POLL)
            assert anyio.current_time() - began_s < 0.7
            assert 50 <= len(passing.times) - before <= 58
        passing.times = [at for at, turn in zip(passing.times, passing.order, strict=True) if turn is Priority.CREATE]
        assert passing.most_in(1.0) == 10
        assert passing.times[-1] - passing.times[0] == pytest.approx(9.9, abs=0.3)


async def test_what_is_limited_apart_is_held_back_apart() -> None:
    """Creates that may go don't wait for reads that may not yet, nor for what a 429 to a read has taught."""
    async with RequestGate(requests_in_flight=100, requests_per_s=100.0, creates_per_s=10.0) as gate:
        gate.restore(1.0)
        passing = Passing(gate)
        with anyio.move_on_after(10):
            async with anyio.create_task_group() as tasks:
                for turn in (Priority.RESULTS, Priority.CREATE):
                    for _ in range(200):
                        tasks.start_soon(passing.once, turn)
        assert passing.order.count(Priority.CREATE) >= 95
        assert passing.order.count(Priority.RESULTS) <= 12
        assert (gate.discovered_per_s, gate.discovered_creates_per_s) == (1.0, None)


@pytest.mark.parametrize("waiting", [0, 5, 50])
async def test_the_room_that_is_left_is_known(waiting: int) -> None:
    """How long those that wait will take; nothing waits where the rate is not used up."""
    async with RequestGate(requests_in_flight=100, requests_per_s=10.0) as gate:
        passing = Passing(gate)
        async with anyio.create_task_group() as tasks:
            await passing.once()
            for _ in range(waiting):
                tasks.start_soon(passing.once)
            await anyio.sleep(0.01)
            assert gate.headroom.interval_s == pytest.approx(0.1, rel=0.02)
            assert gate.headroom.backlog_s == pytest.approx(0.1 * waiting, rel=0.05, abs=0.11 if waiting else 0)


async def test_requests_in_flight_are_never_too_many_and_slots_never_lost() -> None:
    """Requests that are cancelled at any moment, waiting or inside, give back what they had."""
    random = Random(7)
    async with RequestGate(requests_in_flight=3, requests_per_s=100.0) as gate:
        passing = Passing(gate)
        async with anyio.create_task_group() as tasks:

            async def impatient(wait_s: float) -> None:
                with anyio.move_on_after(wait_s):
                    await passing.once(random.choice(list(Priority)), 0.3 * random.random())

            for _ in range(600):
                tasks.start_soon(impatient, random.random())
                await anyio.sleep(0.01 * random.random())
        assert passing.inside_max == 3
        assert passing.inside == 0
        passing.inside_max = 0
        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(passing.once, Priority.POLL, 1.0)
        assert passing.inside_max == 3


async def test_one_cancelled_before_its_turn_holds_nobody_up() -> None:
    """A waiting request that left is passed over, though it was the first in the row."""
    async with RequestGate(requests_in_flight=1, requests_per_s=1.0) as gate:
        passing = Passing(gate)
        await passing.once()
        with anyio.move_on_after(0.5):
            await passing.once(Priority.RESULTS)
        with anyio.fail_after(0.6):
            await passing.once(Priority.CREATE)
        assert passing.order == [Priority.POLL, Priority.CREATE]


async def test_a_retry_after_holds_every_request_back() -> None:
    """Nobody passes until `Retry-After` is over: those that waited before, and those that come later."""
    async with RequestGate(requests_in_flight=10, requests_per_s=100.0) as gate:
        passing = Passing(gate)
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(passing.once, Priority.RESULTS, 1.0)
            await anyio.sleep(0.5)
            gate.record_rate_limited(30.0, 0.5)
            before, until_s = len(passing.times), anyio.current_time() + 30
            assert gate.waiting_s == 30
            for turn in Priority:
                tasks.start_soon(passing.once, turn)
        assert min(passing.times[before:]) >= until_s
        assert gate.waiting_s == 0


@pytest.mark.parametrize(("asked_s", "waited_s"), [(0.0, 0.0), (2.5, 2.5), (1e9, RETRY_AFTER_S_MAX)])
async def test_a_wait_that_the_server_asks_for_is_capped(asked_s: float, waited_s: float) -> None:
    """`Retry-After` is obeyed as it is, and a server that asks for a year is asked again after five minutes."""
    async with RequestGate(requests_in_flight=1, requests_per_s=100.0) as gate:
        gate.record_rate_limited(asked_s, 0.0)
        assert gate.waiting_s == waited_s


async def test_waits_grow_while_nothing_is_accepted() -> None:
    """Each doubles the last, up to a bound; refusals of what left before teach nothing; one success ends it."""
    async with RequestGate(requests_in_flight=1, requests_per_s=100.0, random=Random(1)) as gate:
        waits: list[float] = []
        for _ in range(9):
            sent_s = anyio.current_time()
            for _ in range(REFUSED_RUN):
                assert gate.waiting_s == 0
                gate.record_rate_limited(None, sent_s)
            waits.append(gate.waiting_s)
            gate.record_rate_limited(None, sent_s)
            assert gate.waiting_s == waits[-1]
            await anyio.sleep(gate.waiting_s)
        for number, wait_s in enumerate(waits):
            least_s = min(COOL_DOWN_S_MAX, COOL_DOWN_S_MIN * 2**number)
            assert least_s <= wait_s <= (1 + JITTER) * least_s
        gate.record_answered(Priority.POLL, anyio.current_time())
        for _ in range(10 * REFUSED_RUN):
            gate.record_rate_limited(None, anyio.current_time())
        assert gate.waiting_s == 0


async def test_a_single_429_stops_no_other_request() -> None:
    """It may have nothing to do with the rate: what waits goes on, one request after the other."""
    async with RequestGate(requests_in_flight=10, requests_per_s=100.0) as gate:
        passing = Passing(gate)
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(passing.once)
            await anyio.sleep(0.2)
            gate.record_rate_limited(None, anyio.current_time())
        assert max(later - sooner for sooner, later in pairwise(passing.times)) < 0.02


async def test_a_later_shorter_wait_does_not_shorten_a_longer_one() -> None:
    """The longest `Retry-After` that any answer had counts."""
    async with RequestGate(requests_in_flight=1, requests_per_s=100.0) as gate:
        gate.record_rate_limited(20.0, 1.0)
        gate.record_rate_limited(1.0, 2.0)
        assert gate.waiting_s == 20


async def test_an_api_that_is_down_is_probed_by_one_at_a_time() -> None:
    """After some failures in a row a single request goes, after waits that grow to a limit; one success opens all."""
    async with RequestGate(requests_in_flight=10, requests_per_s=100.0) as gate:
        passing = Passing(gate)
        healthy_from_s = 600.0

        async def ask() -> None:
            while anyio.current_time() < healthy_from_s + 60:
                await passing.once(hold_s=0.1)
                (gate.record_answered if anyio.current_time() > healthy_from_s else gate.record_failure)()

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(ask)
            await anyio.sleep(300)
            assert gate.broken
            assert gate.failing_s == pytest.approx(300, abs=1)
            passing.inside_max = 0
            at_300 = len(passing.times)
            await anyio.sleep(299)
            assert passing.inside_max == 1
            assert len(passing.times) - at_300 <= 299 / PROBE_WAIT_S_MAX + 2
        assert not gate.broken
        assert passing.inside_max == 10


async def test_a_single_failure_is_an_accident() -> None:
    """Fewer failures than `BREAK_AFTER` in a row delay nobody."""
    async with RequestGate(requests_in_flight=10, requests_per_s=100.0) as gate:
        for _ in range(20):
            for _ in range(BREAK_AFTER - 1):
                gate.record_failure()
            assert (gate.broken, gate.waiting_s) == (False, 0.0)
            gate.record_answered()
            assert gate.failing_s == 0


async def test_an_api_that_counts_requests_is_not_down() -> None:
    """A 429 among failures begins the time anew after which the API counts as down."""
    async with RequestGate(requests_in_flight=10, requests_per_s=100.0) as gate:
        gate.record_failure()
        await anyio.sleep(300)
        assert gate.failing_s == pytest.approx(300)
        gate.record_rate_limited(None, anyio.current_time())
        await anyio.sleep(10)
        assert gate.failing_s == pytest.approx(10)


# --- JobSlots -------------------------------------------------------------------------------------------------------


async def test_slots_are_a_number_of_jobs() -> None:
    """No more are out than are allowed, and whoever waits gets the next one that is free."""
    slots = JobSlots(2)
    got = 0

    async def acquire() -> None:
        nonlocal got
        await slots.acquire()
        got += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(acquire)
        for expected in (2, 3, 4, 5):
            await anyio.sleep(1)
            assert (got, slots.taken) == (expected, 2)
            slots.release()
        slots.release()
    assert slots.taken == 0


async def test_jobs_that_are_out_already_count() -> None:
    """A run that goes on with more jobs than it may now have waits until enough of them have ended."""
    slots = JobSlots(2)
    for _ in range(4):
        slots.take_unconditionally()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slots.acquire)
        for left in (3, 2):
            slots.release()
            await anyio.sleep(1)
            assert slots.taken == left
        slots.release()
        await anyio.sleep(1)
        assert slots.taken == 2


def test_a_full_plan_lowers_the_slots_and_time_raises_them() -> None:
    """Down to what is out beside the one that was refused, and one more is tried when that many have ended."""
    slots = JobSlots(10)
    for _ in range(6):
        slots.take_unconditionally()
    slots.record_plan_full()
    assert slots.total == 5
    totals: list[int] = []
    for _ in range(200):
        slots.release()
        slots.take_unconditionally()
        totals.append(slots.total)
    assert totals.index(6) == 4
    assert totals == sorted(totals)
    assert totals[-1] == 10


def test_a_plan_that_stays_full_is_asked_ever_less() -> None:
    """Where the limit doesn't move, one more job is tried ever more seldom; where it does, at once as often again."""
    slots = JobSlots(10)
    for _ in range(5):
        slots.take_unconditionally()
    allowed, tries = 4, 0

    def turn_over() -> None:
        nonlocal tries
        slots.release()
        slots.take_unconditionally()
        if slots.total > allowed:
            slots.take_unconditionally()
            slots.record_plan_full()
            slots.taken -= 1
            tries += 1

    slots.record_plan_full()
    for _ in range(4 * 2 * PATIENCE_MAX):
        turn_over()
    assert tries <= 8
    allowed = 10
    for _ in range(5 * PATIENCE_MAX + 60):
        turn_over()
    assert slots.total == 10
    assert slots.discovered is None


def test_found_slots_are_remembered() -> None:
    """A later process begins with what an earlier one found, within its own settings."""
    for found, total, known in ((4, 4, 4), (40, 10, None), (0, 1, 1)):
        slots = JobSlots(10)
        assert slots.discovered is None
        slots.restore(found)
        assert slots.total == total
        assert slots.discovered == known


def test_a_changed_number_of_slots_is_taken_over() -> None:
    """What the plan was found to allow holds where it is less."""
    slots = JobSlots(10)
    slots.set_limit(30)
    assert (slots.total, slots.discovered) == (30, None)
    slots.restore(4)
    slots.set_limit(50)
    assert (slots.total, slots.discovered) == (4, 4)
    slots.set_limit(3)
    assert (slots.total, slots.discovered) == (3, None)


async def test_creates_wait_while_the_gate_is_paused() -> None:
    """Only they: polls and results pass, also those that come behind a create that waits."""
    passed: list[tuple[str, float]] = []

    async def go(name: str, turn: Priority) -> None:
        async with gate.turn(turn):
            passed.append((name, anyio.current_time()))

    async with RequestGate(requests_in_flight=4, requests_per_s=100.0) as gate, anyio.create_task_group() as tasks:
        began = anyio.current_time()
        gate.pause(True)
        assert gate.paused
        with anyio.move_on_after(10) as waited:
            await go("create", Priority.CREATE)
        assert waited.cancelled_caught
        for number in range(6):
            tasks.start_soon(go, "create", Priority.CREATE)
            tasks.start_soon(go, "look", Priority.POLL)
            tasks.start_soon(go, f"results {number}", Priority.RESULTS)
        await anyio.sleep(100)
        assert sorted({name.split()[0] for name, _ in passed}) == ["look", "results"]
        assert len(passed) == 12
        gate.pause(False)
        await anyio.sleep(1)
        assert len(passed) == 18
        assert min(at for name, at in passed if name == "create") >= began + 100


def test_slots_never_go_to_zero() -> None:
    """However often the plan refuses, one job is tried."""
    slots = JobSlots(3)
    slots.take_unconditionally()
    for _ in range(5):
        slots.record_plan_full()
    assert slots.total == 1


async def test_an_end_wakes_whoever_waits_for_room() -> None:
    """`wait_for_change` returns at the next end, and not for one in the past."""
    slots = JobSlots(2)
    slots.take_unconditionally()
    slots.take_unconditionally()
    slots.release()
    with anyio.move_on_after(5) as waited:
        await slots.wait_for_change()
    assert waited.cancelled_caught
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slots.wait_for_change)
        await anyio.sleep(1)
        slots.release()


@pytest.mark.parametrize("turn", [Priority.POLL, Priority.CREATE])
async def test_a_higher_rate_is_not_waited_for(turn: Priority) -> None:
    """What waits for its moment by a very low rate goes by the one that is set meanwhile."""
    slow = (0.01, None) if turn is Priority.POLL else (100.0, 0.01)
    async with RequestGate(requests_in_flight=2, requests_per_s=slow[0], creates_per_s=slow[1]) as gate:
        passing = Passing(gate)
        await passing.once(turn)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(passing.once, turn)
            await anyio.sleep(1.0)
            assert len(passing.times) == 1
            gate.set_limits(requests_per_s=100.0, creates_per_s=100.0)
        assert passing.times[1] - passing.times[0] < 1.5
