"""Any order of runs, cuts, stops, cancels, faults, limits and retries ends with one outcome per file, paid once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import anyio
import pytest
import trio
from hypothesis import HealthCheck, register_random, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from trio.testing import MockClock

from classify_batch.engine.progress import Ending
from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ExitStatus, InterruptedEarlyError, the_cause
from classify_batch.rundir.opened_run import read_run
from classify_batch.rundir.outcome_ids import outcome_file_id
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Log, earlier_failures_name
from tests.support.loop_clock import LoopClock
from tests.support.simulated_run import Lab, change_faults, change_options, laboratory

T = TypeVar("T")

FILES = 14
START_S = 1_700_000_000.0
SETTLE_S = 5.0
JOB_TIMEOUT_S = 90.0
LIMITS = {"settle_s": SETTLE_S, "job_timeout_s": JOB_TIMEOUT_S, "jobs_in_flight": 3, "attempts": 2}

WEATHER: dict[str, tuple[float, ...]] = {
    "lost_create_answer": (0.3, 1.0),
    "create_503_after": (0.3,),
    "create_503_before": (0.3,),
    "reset_before": (0.1,),
    "rate_429": (0.1, 0.3),
    "read_503": (0.1, 0.3),
    "error": (0.3, 1.0),
    "cancelled": (0.3,),
    "partial": (0.5,),
    "null_result": (0.2, 1.0),
    "stuck": (0.3,),
    "poison_share": (0.2,),
    "foreign_share": (0.2,),
    "rejected_vaguely_share": (0.2,),
    "list_lag_s": (1.0, 4.5),
    "get_lag_s": (1.0, 4.0),
    "create_slow": (0.3,),
    "accept_after_s": (20.0, 50.0),
    "results_lag_s": (2.0, 4.0),
    "list_hides_for_s": (30.0,),
    "overlap": (0.5,),
    "error_first": (0.3,),
    "error_first_s": (3.0,),
}
"""What the faults are drawn from; there are no others."""


def change_limits(lab: Lab, **limits: object) -> None:
    """What may change between two runs of a directory."""
    told = lab.settings.limits
    changed = type(told).model_validate(told.model_dump() | limits)
    lab.settings = lab.settings.model_copy(update={"limits": changed})


async def run_for(
    lab: Lab, for_s: float, leave: Callable[[], object], *, retry_failed: bool = False, cancel: bool = False
) -> Ending | None:
    """Runs, and after so long calls `leave`, which cuts the power by giving the store that is left, or asks to stop.

    None: the power was cut, or the run was stopped before it had begun to do what it was asked for.
    """
    left: list[MemoryStore] = []
    endings: list[Ending] = []
    try:
        async with anyio.create_task_group() as tasks:

            async def later() -> None:
                await anyio.sleep(for_s)
                found = leave()
                if isinstance(found, MemoryStore):
                    left.append(found)
                    tasks.cancel_scope.cancel()

            tasks.start_soon(later)
            endings.append(await lab.run(retry_failed=retry_failed, cancel=cancel))
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if not isinstance(the_cause(group), InterruptedEarlyError):
            raise
        return None
    if left:
        lab.store = left[0]
        return None
    return endings[0]


def creates_sent(lab: Lab) -> int:
    return sum(method == "POST" and not path.endswith("/cancel") for _, method, path in lab.wire.requests)


@dataclass(frozen=True)
class Seen:
    """What was committed at a moment, as bytes."""

    results: bytes = b""
    failures: bytes = b""
    earlier: tuple[bytes, ...] = ()


async def committed(lab: Lab) -> Seen:
    """What a run directory at rest holds for good."""
    found = await read_run(lab.store)
    assert found is not None
    files, snapshot = lab.store.files, found.snapshot
    return Seen(
        files.get(Log.RESULTS, b"")[: snapshot.results_end],
        files.get(Log.FAILURES, b"")[: snapshot.failures_end],
        tuple(files[earlier_failures_name(number + 1)] for number in range(snapshot.generation)),
    )


class Nights(RuleBasedStateMachine):
    """One run directory and one sandbox, in virtual time that goes on from rule to rule."""

    def __init__(self) -> None:
        super().__init__()
        self._opened = ExitStack()
        self._elapsed_s = 0.0
        self._seen = Seen()
        self._lab: Lab | None = None

    @property
    def lab(self) -> Lab:
        assert self._lab is not None
        return self._lab

    def _in_virtual_time(self, act: Callable[[], Awaitable[T]]) -> T:
        clock = MockClock(autojump_threshold=0)
        clock.jump(self._elapsed_s)

        async def main() -> T:
            try:
                return await act()
            finally:
                self._elapsed_s = anyio.current_time()

        return anyio.run(main, backend="trio", backend_options={"clock": clock})

    @initialize(
        files_per_job=st.sampled_from([3, 1, 5]),
        job_duration_s=st.sampled_from([1.0, 20.0, 80.0]),
        seed=st.integers(1, 1000),
        version=st.sampled_from(["v1", "v2"]),
    )
    def begin(self, files_per_job: int, job_duration_s: float, seed: int, version: str) -> None:
        """Plans a run."""

        async def plan() -> Lab:
            lab = self._opened.enter_context(
                laboratory(
                    FILES,
                    files_per_job=files_per_job,
                    version=version,
                    job_duration_s=job_duration_s,
                    limits=LIMITS,
                    seed=seed,
                    latency_s=0.1,
                    commit_s=0.01,
                )
            )
            await lab.plan()
            return lab

        self._lab = self._in_virtual_time(plan)

    @rule(
        for_s=st.floats(0, 60),
        kept=st.tuples(*[st.floats(0, 1)] * len(Log)),
        retry_failed=st.booleans(),
    )
    def power_cut(self, for_s: float, kept: tuple[float, ...], retry_failed: bool) -> None:
        """A run, and then the plug; of what was pending the disk has kept the drawn part of each file."""
        shares = iter(kept)
        lab = self.lab

        def cut() -> MemoryStore:
            return lab.store.crash(lambda least, most: least + round((most - least) * next(shares)))

        self._in_virtual_time(lambda: run_for(lab, for_s, cut, retry_failed=retry_failed))

    @rule(for_s=st.floats(0, 60), collects=st.booleans(), retry_failed=st.booleans())
    def orderly_stop(self, for_s: float, collects: bool, retry_failed: bool) -> None:
        """A run that is asked to stop: at once, or when what is out has come home."""
        lab = self.lab

        def ask() -> None:
            lab.stopping.request_stop(Stop("interrupted", collects=collects))

        ending = self._in_virtual_time(lambda: run_for(lab, for_s, ask, retry_failed=retry_failed))
        if ending is None:
            assert retry_failed, "only copying the failures can be interrupted before a run begins"
            return
        assert self._in_virtual_time(lab.verify).complete == (ending.state == "complete")

    @rule(for_s=st.floats(0, 60), kept=st.floats(0, 1), cut=st.booleans())
    def cancelled(self, for_s: float, kept: float, cut: bool) -> None:
        """A run that is cancelled by who takes it over; the power may be cut meanwhile. No job is created."""
        lab = self.lab
        before = creates_sent(lab)

        def leave() -> MemoryStore | None:
            return lab.store.crash(lambda least, most: least + round((most - least) * kept)) if cut else None

        ending = self._in_virtual_time(lambda: run_for(lab, for_s, leave, cancel=True))
        assert creates_sent(lab) == before
        if ending is not None and ending.state != "complete":
            assert ending.exit_status in (ExitStatus.PERSON, ExitStatus.INCOMPLETE)

    @rule(
        names=st.lists(st.sampled_from(sorted(WEATHER)), min_size=1, max_size=4, unique=True),
        data=st.data(),
        list_order=st.sampled_from(["newest", "oldest", "shuffled", "changed"]),
        seed=st.integers(1, 1000),
    )
    def weather(self, names: list[str], data: st.DataObject, list_order: str, seed: int) -> None:
        """Other faults from now on."""
        faults = {name: data.draw(st.sampled_from(WEATHER[name]), label=name) for name in names}

        async def change() -> None:
            change_faults(self.lab, seed=seed, **faults)
            change_options(self.lab, list_order=list_order)

        self._in_virtual_time(change)

    @rule(jobs_in_flight=st.integers(1, 6), attempts=st.integers(1, 4))
    def limits(self, jobs_in_flight: int, attempts: int) -> None:
        """Other limits from the next run on."""
        change_limits(self.lab, jobs_in_flight=jobs_in_flight, attempts=attempts)

    @rule(ahead_s=st.sampled_from([0.0, -3600.0, -8.0, 8.0, 3600.0]))
    def another_machine(self, ahead_s: float) -> None:
        """The next processes run by another wall clock; the server keeps its own."""
        self.lab.clock = LoopClock(START_S + ahead_s)

    @rule(for_s=st.sampled_from([10.0, 200.0]))
    def nothing_for_a_while(self, for_s: float) -> None:
        """Nobody gives the command; jobs go on."""
        self._elapsed_s += for_s

    @invariant()
    @precondition(lambda self: self._lab is not None)
    def nothing_is_lost_or_twice(self) -> None:
        """What was committed stays, failures that were put aside too; no file has two outcomes or is paid twice."""
        self._in_virtual_time(self._look)

    async def _look(self) -> None:
        verified = await self.lab.verify()
        assert verified.errors == []
        now, before = await committed(self.lab), self._seen
        assert now.results.startswith(before.results)
        generations, earlier = [*now.earlier, now.failures], [*before.earlier, before.failures]
        assert generations[: len(before.earlier)] == list(before.earlier)
        assert all(each.startswith(old) for each, old in zip(generations, earlier, strict=False))
        assert len(generations) >= len(earlier)
        lines = (now.results + now.failures).splitlines()
        assert len({outcome_file_id(line) for line in lines}) == len(lines)
        assert self.lab.paid_twice() == []
        self._seen = now

    def teardown(self) -> None:
        """Without faults the same command ends the run, whatever came before."""
        try:
            if self._lab is not None:
                self._in_virtual_time(self._end)
        finally:
            self._opened.close()

    async def _end(self) -> None:
        change_faults(self.lab)
        ending = await self.lab.run()
        if ending.reason is not None and ending.reason.startswith("cancelled"):  # that had not been carried out
            ending = await self.lab.run()
        assert (ending.state, ending.reason) == ("complete", None)
        assert await self.lab.judge() == {}
        await self._look()


@pytest.mark.slow
@pytest.mark.usefixtures("few_buckets")
def test_any_order_of_faults_and_kills_ends_with_one_outcome_each() -> None:
    """Whatever is drawn: nothing lost, nothing twice, nothing paid twice, nothing for verify to say."""
    register_random(trio._core._run._r)  # the order in which tasks run is drawn, too, and a failure must come again
    run_state_machine_as_test(
        Nights,
        settings=settings(
            max_examples=40,
            stateful_step_count=8,
            deadline=None,
            derandomize=True,
            print_blob=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
