"""What is done to the runs: each suite a stream of strikes against cases of one shape, on one kind of sandbox."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from crash_suite.accounts_case import WEST_OPTIONS, AccountsCase, with_changing_keys
from crash_suite.case import PROCESSES_MAX, Case, Score, Shape
from crash_suite.forks import Forks
from crash_suite.sandbox import DURATION, Lab

Strike = Callable[[Case, random.Random], Awaitable[None]]

LAG_S = 0.5
SLOW_S = 1.2
"""A slow create is accepted so late; the client waits for 2 s."""

STARTUP_S = 0.7
"""What an interpreter takes to import everything, where nobody measures it."""

LASTING_S = 0.8
"""What a job lasts where jobs are cancelled."""

RETRY_STEPS = 80
"""About so many steps has a retry of the failed files."""

KILLS = ("before", "after", "partial", "power")
SMALL = Shape(files=18, files_per_job=6, jobs_in_flight=2)
LONGER = Shape(files=96, files_per_job=6, jobs_in_flight=4)
FAILING = Shape(files=12, files_per_job=2, jobs_in_flight=3, attempts=1, fails=True)


@dataclass(frozen=True)
class Suite:
    """A stream of strikes. `strikes` is asked for the next one with the score so far at hand."""

    name: str
    shape: Shape
    strikes: Callable[[Score], Iterator[Strike]]
    faults: dict[str, object] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    crowded: bool = False
    forked: bool = True


async def carry_out(suite: Suite, lab: Lab, forks: Forks, *, lanes: int) -> Score:
    """All strikes of a suite, several at once."""
    score = Score()
    strikes = enumerate(suite.strikes(score))

    async def lane() -> None:
        for turn, strike in strikes:
            async with lab.borrow(suite.faults, suite.options) as server:
                name = f"{suite.name.replace(',', '').replace(' ', '-')}-{turn}"
                made = forks if suite.forked else None
                case: Case
                async with AsyncExitStack() as stack:
                    if suite.shape.accounts:
                        west = await stack.enter_async_context(lab.borrow(suite.faults, WEST_OPTIONS))
                        case = AccountsCase(lab.folder, server, west, suite.shape, name, forks=made)
                    else:
                        case = Case(lab.folder, server, suite.shape, name, forks=made, crowded=suite.crowded)
                    await strike(case, random.Random(f"{lab.seed}/{name}"))
                    score.add(await case.judge(by_command=turn % 10 == 9))
            if not (case.score.faults and lab.keep):
                case.clear()
            if lab.over:
                return

    async with asyncio.TaskGroup() as tasks:
        for _ in range(lanes):
            tasks.create_task(lane())
    if next(strikes, None) is not None:
        score.left_out.append(f"{suite.name}, after {score.runs:,} runs")
    return score


# --- Strikes ----------------------------------------------------------------------------------------------------------


async def at_random_moments(case: Case, rng: random.Random, *, expected_s: float) -> None:
    """SIGKILL at a moment drawn uniformly over the time that an undisturbed run takes, until one gets through.

    On a busy machine all takes longer than was measured: the time grows, so that it ends.
    """
    for turn in range(PROCESSES_MAX):
        if await case.start(after_s=rng.uniform(0.0, expected_s * (1 + turn / 5))) != -signal.SIGKILL:
            return
    await case.to_end()


async def at_step(case: Case, rng: random.Random, *, step: int, how: str, steps: int) -> None:
    """Killed at one step; the one that takes it up is killed at any other; the third goes to the end."""
    if await case.start(order={"step": step, "how": how, "seed": rng.random()}) == -signal.SIGKILL:
        order = {"step": rng.randint(1, steps), "how": rng.choice(KILLS), "seed": rng.random()}
        await case.start(order=order)
    await case.to_end()


async def stopped_at_step(case: Case, rng: random.Random, *, step: int, how: str) -> None:
    """SIGTERM, SIGHUP, or the task cancelled, at one step."""
    if await case.start(order={"step": step, "how": how, "seed": rng.random()}) == 75:
        await case.start(order={"step": rng.randint(1, step), "how": how, "seed": rng.random()})
    await case.to_end()


async def stopped_at_random(case: Case, rng: random.Random, *, expected_s: float) -> None:
    """SIGTERM at random moments: each process must be gone within 4 s."""
    for _ in range(3):
        await case.start(after_s=rng.uniform(0.0, expected_s), number=signal.SIGTERM)
    await case.to_end()


async def in_a_retry(case: Case, rng: random.Random, *, steps: int, step: int) -> None:
    """A run with failures; their retry killed at a step; taken up as a retry again, or as what it is."""
    await case.to_end()
    order = {"step": step, "how": rng.choice(KILLS), "seed": rng.random()}
    if await case.start(case.retry, order=order) == -signal.SIGKILL:
        words = rng.choice([case.retry, case.run])
        order = {"step": rng.randint(1, steps), "how": rng.choice(KILLS), "seed": rng.random()}
        await case.start(words, order=order)
    await case.to_end(rng.choice([case.retry, case.run]))


async def cancelled(case: Case, rng: random.Random, *, expected_s: float, steps: int) -> None:
    """Killed at a random moment; then cancelled, by commands of which some are killed at a step; twice."""
    for _ in range(2):
        if await case.start(after_s=rng.uniform(0.2, expected_s)) != -signal.SIGKILL or not case.is_planned:
            continue
        for _turn in range(rng.randint(1, 3)):
            order = {"step": rng.randint(1, steps), "how": rng.choice(KILLS), "seed": rng.random()}
            if await case.start(case.cancel, order=order) != -signal.SIGKILL:
                break
    await case.to_end()


async def cancelled_beside(case: Case, rng: random.Random, *, expected_s: float) -> None:
    """A process that is asked to cancel its run; it or the one that asks may be killed meanwhile."""
    killed_s = expected_s + rng.uniform(0.0, 2.0) if rng.random() < 0.5 else None
    running = asyncio.create_task(case.start(after_s=killed_s))
    await asyncio.sleep(rng.uniform(0.2, max(0.3, expected_s - STARTUP_S)))
    if case.is_planned:
        await case.cancel_beside(rng.uniform(STARTUP_S, 3.0) if rng.random() < 0.3 else None)
    await running
    await case.to_end()


# --- Suites -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What undisturbed runs showed: seconds that they take, and the kinds of their steps."""

    longer: Shape
    longer_s: float
    command_s: float
    steps: list[str]


async def measure(lab: Lab, forks: Forks, longer: Shape) -> Measured:
    log = lab.folder / "steps.json"

    async def seconds(shape: Shape, name: str, made: Forks | None, order: dict[str, str] | None) -> float:
        async with lab.borrow({}) as server:
            case = Case(lab.folder, server, shape, name, forks=made)
            began_s = time.monotonic()
            await case.start(order=order)
            return time.monotonic() - began_s

    _, longer_s = await asyncio.gather(
        seconds(SMALL, "steps", forks, {"log": str(log)}), seconds(longer, "longer", forks, None)
    )
    command_s = longer_s + STARTUP_S if longer is SMALL else await seconds(longer, "command", None, None)
    return Measured(longer, longer_s, command_s, json.loads(log.read_text()))


def strikes_at_steps(kinds: list[str], share: float, rng: random.Random) -> list[tuple[int, str]]:
    """Every step with everything that can happen at it, or a share of them."""
    all_of_them = [
        (step, how)
        for step, kind in enumerate(kinds, 1)
        for how in KILLS
        if how == "before"
        or (how == "after" and kind in ("fsync", "name", "send"))
        or (how == "partial" and kind in ("write", "send"))
        or (how == "power" and kind in ("write", "fsync", "send"))
    ]
    chosen = rng.sample(all_of_them, max(1, round(share * len(all_of_them))))
    rng.shuffle(chosen)
    return chosen


@dataclass
class Suites:
    """All suites. `share` of the steps is walked over; `kills` are to happen at random moments."""

    found: Measured
    kills: int
    share: float
    rng: random.Random
    version: str

    def all(self) -> Iterator[Suite]:
        yield Suite("at every step", SMALL, self._at_steps)
        found, most = self.found, self.kills // 3
        yield Suite("the command", found.longer, partial(self._at_random, most, found.command_s), forked=False)
        yield Suite("random moments", found.longer, partial(self._at_random, most, found.longer_s))
        at_random = partial(self._at_random, most, found.longer_s + LAG_S)
        lagging = replace(found.longer, files=found.longer.files // 2, settle_s=found.longer.settle_s + LAG_S)
        faults: dict[str, object] = {"list_lag_s": LAG_S, "lost_create_answer": 0.2}
        yield Suite("random, list lags", lagging, at_random, faults, crowded=True)
        yield from self._what_may_not_be_trusted(most)
        documents = replace(found.longer, files=found.longer.files // 2, documents=True)
        at_random = partial(self._at_random, most, found.longer_s)
        yield Suite("a folder", documents, at_random, {"lost_create_answer": 0.1, "upload.after.close": 0.1})
        shared = replace(found.longer, accounts=True, settle_s=found.longer.settle_s + LAG_S)
        changing = partial(self._changing_keys, most, 2 * found.longer_s)
        yield Suite("accounts", shared, changing, {"list_lag_s": LAG_S, "lost_create_answer": 0.2})
        yield Suite("SIGTERM", SMALL, self._terms)
        yield Suite("SIGHUP", SMALL, partial(self._stops, "hup"))
        yield Suite("task cancelled", SMALL, partial(self._stops, "cancel"))
        if self.version == "v1":  # which has a better mode to look again
            twice = replace(found.longer, second_look=True, attempts=6)
            at_random = partial(self._at_random, most, 2 * found.longer_s)
            yield Suite("a second look", twice, at_random, {"lost_create_answer": 0.1, "partial": 0.1})
        yield from self._cancels(most)
        yield Suite("in --retry-failed", FAILING, self._in_retries, {"error": 0.3, "null_result": 0.2})

    def _what_may_not_be_trusted(self, most: int) -> Iterator[Suite]:
        """Moments, clocks, other people's jobs, single readings."""
        found, half = self.found, replace(self.found.longer, files=self.found.longer.files // 2)
        at_random = partial(self._at_random, most, found.longer_s / 2 + SLOW_S)
        slow: dict[str, object] = {"create_slow": 0.3, "accept_after_s": SLOW_S, "lost_create_answer": 0.1}
        yield Suite("calls outlive", half, at_random, slow)
        at_random = partial(self._at_random, most, found.longer_s / 2)
        clocks = replace(half, clock_off_s=90.0)
        yield Suite("other clocks", clocks, at_random, {"lost_create_answer": 0.3}, ("--date-ahead-s", "40"))
        stepping = replace(half, clock_steps_s=3 * 3600.0, alive_s=found.longer_s / 2)
        yield Suite("clock steps", stepping, at_random, {"lost_create_answer": 0.3, "list_lag_s": LAG_S})
        others: dict[str, object] = {"overlap": 0.5, "partial": 0.3, "lost_create_answer": 0.3}
        others |= {
            "results_lag_s": 0.4,
            "results_lag_shows": "half",
            "list_hides_after_s": 0.3,
            "list_hides_for_s": 2.0,
        }
        shape = replace(half, others_answer=True, attempts=8)
        yield Suite("others, late, hidden", shape, at_random, others, ("--list-order", "changed"), crowded=True)

    def _cancels(self, most: int) -> Iterator[Suite]:
        """Jobs that last, so that there are some to cancel."""
        found = self.found
        shape = replace(found.longer, files=found.longer.files // 2, cancelled=True)
        options, faults = (DURATION, str(LASTING_S)), dict[str, object](lost_create_answer=0.2)
        jobs = shape.files / (shape.files_per_job if self.version == "v1" else 1)
        expected_s = found.longer_s + LASTING_S * jobs / shape.jobs_in_flight
        at_steps = partial(self._cancelled, most, expected_s)
        yield Suite("cancel", shape, at_steps, faults, options)
        longer = replace(shape, files=2 * found.longer.files)  # the command that asks takes a while to start
        beside = partial(self._cancelled_beside, most, found.longer_s + 4 * (expected_s - found.longer_s))
        yield Suite("cancel, beside", longer, beside, faults, options)

    def _cancelled(self, most: int, expected_s: float, score: Score) -> Iterator[Strike]:
        for _ in range(most):
            if score.kills >= most:
                return
            yield partial(cancelled, expected_s=expected_s, steps=len(self.found.steps))

    def _cancelled_beside(self, most: int, expected_s: float, _: Score) -> Iterator[Strike]:
        for _turn in range(max(1, most // 10)):
            yield partial(cancelled_beside, expected_s=expected_s)

    def _some_of(self, steps: int) -> list[int]:
        return self.rng.sample(range(1, steps + 1), max(1, round(self.share * steps)))

    def _at_random(self, most: int, expected_s: float, score: Score) -> Iterator[Strike]:
        for _ in range(most):
            if score.kills >= most:
                return
            yield partial(at_random_moments, expected_s=expected_s)

    def _changing_keys(self, most: int, expected_s: float, score: Score) -> Iterator[Strike]:
        for _ in range(most):
            if score.kills >= most:
                return
            yield partial(with_changing_keys, expected_s=expected_s, steps=2 * len(self.found.steps))

    def _at_steps(self, _: Score) -> Iterator[Strike]:
        for step, how in strikes_at_steps(self.found.steps, self.share, self.rng):
            yield partial(at_step, step=step, how=how, steps=len(self.found.steps))

    def _stops(self, how: str, _: Score) -> Iterator[Strike]:
        for step in self._some_of(len(self.found.steps)):
            yield partial(stopped_at_step, step=step, how=how)

    def _terms(self, score: Score) -> Iterator[Strike]:
        yield from self._stops("term", score)
        for _turn in range(round(10 * self.share)):
            yield partial(stopped_at_random, expected_s=self.found.longer_s)

    def _in_retries(self, _: Score) -> Iterator[Strike]:
        for step in self._some_of(RETRY_STEPS):
            yield partial(in_a_retry, step=step, steps=RETRY_STEPS)
