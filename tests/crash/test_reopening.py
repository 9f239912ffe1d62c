"""Failed files get a new chance: a crash at any step loses nothing, and nothing is paid twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import anyio
import httpx
import pytest

from classify_batch.engine.shutdown import Stop
from classify_batch.errors import DamagedError, ExitStatus, StoreError
from classify_batch.operations.verify import verify_store
from classify_batch.sandbox.faults.job_endings import JobEnding
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import JobStatus, Log
from tests.support.simulated_run import (
    KEPT,
    Choose,
    Lab,
    answer,
    change_faults,
    change_options,
    is_create,
    laboratory,
    retried_well,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("few_buckets", "small_batches")]


class Stepwise(MemoryStore):
    """A store whose power is cut right before its `cut_at`-th step: `left` is what a disk would show."""

    def __init__(self, files: dict[str, bytes], cut_at: int, choose: Choose) -> None:
        super().__init__(files, commit_s=0.01)
        self.left: MemoryStore | None = None
        self.steps: list[str] = []
        self._cut_at, self._choose = cut_at, choose

    def _step(self, name: str) -> None:
        if self.left is None and len(self.steps) == self._cut_at:
            self.left = self.crash(self._choose)
        if self.left is not None:
            raise StoreError("the power is gone")
        self.steps.append(name)

    def append(self, log: Log, data: bytes) -> int:
        self._step(f"append {log}")
        return super().append(log, data)

    async def commit(self) -> None:
        self._step("commit")
        await super().commit()

    async def replace(self, name: str, blocks: AsyncIterator[bytes]) -> None:
        self._step(f"replace {name}")
        await super().replace(name, blocks)

    async def create(self, name: str, data: bytes) -> None:
        self._step(f"create {name}")
        await super().create(name, data)

    async def open_log(self, log: Log, end: int) -> None:
        self._step(f"open {log}")
        await super().open_log(log, end)


@dataclass(frozen=True)
class Base:
    """A run that has failures, and the jobs of its sandbox."""

    files: dict[str, bytes]
    jobs: tuple[SandboxJob, ...]

    @classmethod
    def of(cls, lab: Lab) -> Base:
        return cls(lab.store.files, tuple(lab.app.job_table))

    @contextmanager
    def again(self, count: int, files_per_job: int, **given: Any) -> Iterator[Lab]:
        """The same run in another laboratory, as often as is wanted."""
        with laboratory(count, files_per_job=files_per_job, **given) as lab:
            lab.store = MemoryStore(self.files)
            for job in self.jobs:
                lab.app.job_table.add_job(job)
            yield lab


def end_jobs(lab: Lab, status: JobStatus) -> None:
    """Every job in the sandbox gets another end."""
    change_options(lab, [replace(job, ending=JobEnding(status)) for job in lab.app.job_table])


def failures(lab: Lab, generation: int = 0) -> bytes:
    """The failures that are current, or those that a retry put aside."""
    return lab.store.files[f"failures.{generation}.jsonl" if generation else Log.FAILURES]


# --- A crash at every step -------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {"count": 6, "files_per_job": 3, "limits": {"attempts": 1, "jobs_in_flight": 2}}


async def a_night_with_failures() -> Base:
    """Two files answered, the others not."""
    with laboratory(**SMALL, faults={"null_result": 0.5}, seed=4, commit_s=0.01) as lab:
        ending = await lab.run()
        assert ending.exit_status == ExitStatus.FAILURES
        assert 0 < len(lab.codes()) < 6
        assert await lab.judge() == {}
        return Base.of(lab)


async def cut_and_taken_up(base: Base, cut_at: int, choose: Choose, *, retry_failed: bool) -> list[str] | None:
    """The retry, cut before a step, and the command after it. The steps so far; None: it ended before that step."""
    with base.again(**SMALL) as lab:
        store = lab.store = Stepwise(base.files, cut_at, choose)
        with suppress(StoreError, ExceptionGroup):
            await lab.run(retry_failed=True)
        if store.left is None:
            return None
        lab.store = store.left
        found = await lab.verify()
        assert found.errors == [], store.steps
        assert_nothing_lost(lab, base)
        ending = await lab.run(retry_failed=retry_failed)
        assert ending.state == "complete", store.steps
        assert await lab.judge() == {}, store.steps
        reopened = "failures.1.jsonl" in lab.store.files
        if reopened:
            assert failures(lab, 1) == base.files[Log.FAILURES]
        if retry_failed:
            assert reopened
            assert lab.codes() == {}
        elif lab.codes():
            assert failures(lab) == base.files[Log.FAILURES], store.steps
        return store.steps


def assert_nothing_lost(lab: Lab, base: Base) -> None:
    """Answers stay where they were, and the first failures are to be read in one file or the other."""
    files = lab.store.files
    assert files[Log.RESULTS].startswith(base.files[Log.RESULTS])
    kept = (files[Log.FAILURES], files.get("failures.1.jsonl", b""))
    assert any(each.startswith(base.files[Log.FAILURES]) for each in kept)


@pytest.mark.parametrize("retry_failed", [True, False])
@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT.keys())
async def test_a_crash_at_every_step_of_a_retry(kept: Choose, retry_failed: bool) -> None:
    """Before and after the copy, the line, the truncation and each commit of the retried jobs: all goes on."""
    base = await a_night_with_failures()
    seen: list[str] = []
    cut_at = 0
    while (steps := await cut_and_taken_up(base, cut_at, kept, retry_failed=retry_failed)) is not None:
        seen, cut_at = steps, cut_at + 1
    opened = seen.index("open failures.jsonl", seen.index("replace failures.1.jsonl"))
    assert seen[opened - 2 : opened] == ["append journal.jsonl", "commit"]
    assert "append results.jsonl" in seen[opened:]


async def test_the_state_between_line_and_truncation() -> None:
    """`reopened` is durable and the failures still stand there: a tail that counts no more, and not a fault."""
    base = await a_night_with_failures()
    with base.again(**SMALL) as lab:
        store = lab.store = Stepwise(base.files, 10**6, max)
        await lab.run(retry_failed=True)
        cut_at = store.steps.index("open failures.jsonl", store.steps.index("replace failures.1.jsonl"))
    with base.again(**SMALL) as lab:
        store = lab.store = Stepwise(base.files, cut_at, min)
        with pytest.raises((StoreError, ExceptionGroup)):
            await lab.run(retry_failed=True)
        assert store.left is not None
        lab.store = store.left
        assert failures(lab) == failures(lab, 1) == base.files[Log.FAILURES]
        found = await lab.verify()
        assert (found.errors, found.complete) == ([], False)
        assert any("failures.jsonl" in note and "not committed" in note for note in found.notes)
        assert (await lab.run()).state == "complete"
        assert lab.codes() == {}
        assert await lab.judge() == {}


@pytest.mark.parametrize("seed", range(6))
async def test_retries_through_power_cuts_and_faults(seed: int) -> None:
    """The same command again and again, each time with the retry in it, under every fault."""
    random = Random(seed)
    faults = {"null_result": 0.3, "error": 0.3, "lost_create_answer": 0.3, "rate_429": 0.1, "read_503": 0.1}
    limits = {"attempts": 2, "jobs_in_flight": 3}
    with laboratory(20, files_per_job=4, limits=limits, faults=faults, seed=seed, latency_s=0.1, commit_s=0.01) as lab:
        await lab.run()
        for _ in range(6):
            cut_s = random.expovariate(1 / 5)
            await lab.run_until_power_cut(cut_s, random.randint, retry_failed=True)
            assert (await lab.verify()).errors == []
        change_faults(lab)
        await lab.run()  # a job that was made in bad weather may have used up a file's last attempt
        await retried_well(lab)


# --- Overdue: the old job first --------------------------------------------------------------------------------------


@contextmanager
def overdue(duration_s: float, **given: Any) -> Iterator[Lab]:
    """Two jobs of five files that take longer than the ten minutes that they may."""
    limits = {"job_timeout_s": 600.0, **given.pop("limits", {})}
    with laboratory(
        10, files_per_job=5, job_duration_s=duration_s, job_duration_sigma=0, limits=limits, **given
    ) as lab:
        yield lab


async def ends_overdue(lab: Lab) -> None:
    ending = await lab.run()
    assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
    assert set(lab.codes().values()) == {"overdue"}
    assert lab.wire.count("POST") == 2


async def test_an_overdue_job_that_finished_meanwhile() -> None:
    """Its answer is taken, and no create is sent."""
    with overdue(1000.0) as lab:
        await ends_overdue(lab)
        earlier = failures(lab)
        await anyio.sleep(1000)
        began_s = anyio.current_time()
        await retried_well(lab)
        assert lab.wire.count("POST") == 2
        assert anyio.current_time() - began_s < 60
        assert failures(lab, 1) == earlier


async def test_failures_that_were_sorted_are_not_retried() -> None:
    """Each line was written by an attempt, and its job is looked for by what the journal says of that one: where the
    lines were moved nothing is sent, and nothing of the run is changed."""
    with overdue(1000.0) as lab:
        await ends_overdue(lab)
        lines = failures(lab).splitlines(keepends=True)
        moved = {Log.FAILURES: b"".join(lines[::-1])}
        assert moved[Log.FAILURES] != failures(lab)
        lab.store = MemoryStore(lab.store.files | moved)
        journal = lab.store.files[Log.JOURNAL]
        await anyio.sleep(1000)
        wanted = pytest.RaisesExc(DamagedError, match="stands where attempt 1 of chunk .* the lines were moved")
        with pytest.RaisesGroup(wanted):
            await lab.run(retry_failed=True)
        assert (lab.wire.count("POST"), failures(lab)) == (2, moved[Log.FAILURES])
        assert lab.store.files[Log.JOURNAL] == journal


@pytest.mark.parametrize("status", [JobStatus.ERROR, JobStatus.CANCELLED])
async def test_an_overdue_job_that_ended_badly(status: JobStatus) -> None:
    """It was not paid: its files are sent again."""
    with overdue(1000.0) as lab:
        await ends_overdue(lab)
        end_jobs(lab, status)
        await anyio.sleep(1000)
        change_options(lab, job_duration_s=1.0)
        await retried_well(lab)
        assert lab.wire.count("POST") == 4


async def test_an_overdue_job_that_is_still_pending_is_waited_for_once_more() -> None:
    """For the whole of `job_timeout_s` again, also where that is cut through by power cuts."""
    with overdue(1000.0) as lab:
        await ends_overdue(lab)
        await retried_well(lab)
        assert lab.wire.count("POST") == 2
        assert 1000 < anyio.current_time() < 1060


async def test_a_job_that_never_ends_stays_overdue() -> None:
    """However often it is looked at: each retry waits once, and none pays again."""
    with overdue(1e9, commit_s=0.01) as lab:
        await ends_overdue(lab)
        for generation in (1, 2):
            earlier, began_s = failures(lab), anyio.current_time()
            await lab.run_until_power_cut(300.0, max, retry_failed=True)
            ending = await lab.run()
            assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
            assert 600 < anyio.current_time() - began_s < 700
            assert set(lab.codes().values()) == {"overdue"}
            assert failures(lab, generation) == earlier
            assert await lab.judge() == {}
        assert lab.wire.count("POST") == 2


async def test_an_overdue_job_that_is_gone_stays_overdue_and_stops_nobody() -> None:
    """404 to the old job: never a reason to send again, nor to stop; when it is back its answer is taken."""
    with overdue(1000.0) as lab:
        await ends_overdue(lab)
        gone = next(iter(lab.app.job_table)).job_id

        async def forget(request: httpx.Request) -> httpx.Response | None:
            return answer(404, {"detail": "Classify job not found"}) if gone in request.url.path else None

        async def leave_out(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if not request.url.path.endswith("/jobs") or is_create(request):
                return response
            body = response.json()
            body["items"] = [item for item in body["items"] if item["id"] != gone]
            return httpx.Response(200, json=body)

        lab.wire.before, lab.wire.after = forget, leave_out
        ending = await lab.run(retry_failed=True)
        assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
        assert await lab.judge() == {}
        assert set(lab.codes().values()) == {"overdue"}
        assert {line["job_id"] for line in lab.lines(Log.FAILURES)} == {gone}
        assert len(lab.lines(Log.RESULTS)) == 5
        gone = "none"
        await retried_well(lab)
        assert lab.wire.count("POST") == 2


@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT.keys())
async def test_looking_at_old_jobs_through_power_cuts(kept: Choose) -> None:
    """A cut every half a minute while the old jobs are waited for: they are paid once all the same."""
    with overdue(1000.0, commit_s=0.01, latency_s=0.1) as lab:
        await ends_overdue(lab)
        await lab.run_until_power_cut(0.12, kept, retry_failed=True)
        for after_s in (0.3, 40.0, 1.0, 300.0):
            await lab.run_until_power_cut(after_s, kept, retry_failed=True)
            assert (await lab.verify()).errors == []
        assert (await lab.run()).exit_status == ExitStatus.COMPLETE
        assert await lab.judge() == {}
        assert lab.wire.count("POST") == 2


# --- Unresolved: reconciled again ------------------------------------------------------------------------------------


async def ends_unresolved(lab: Lab) -> None:
    ending = await lab.run()
    assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
    assert set(lab.codes().values()) == {"unresolved"}
    assert lab.wire.count("POST") == 2


async def test_an_unresolved_file_whose_job_finished_meanwhile() -> None:
    """It is found in the list, proven to be ours by its answers, and not paid again."""
    with overdue(1000.0, faults={"lost_create_answer": 1.0}) as lab:
        await ends_unresolved(lab)
        await anyio.sleep(1000)
        await retried_well(lab)
        assert lab.wire.count("POST") == 2


async def test_an_unresolved_file_whose_job_is_still_pending() -> None:
    """A new chance is a new waiting time, as it is for what is overdue."""
    with overdue(1000.0, faults={"lost_create_answer": 1.0}) as lab:
        await ends_unresolved(lab)
        await retried_well(lab)
        assert lab.wire.count("POST") == 2
        assert 1000 < anyio.current_time() < 1060


async def test_an_unresolved_file_whose_candidate_failed() -> None:
    """A candidate that failed was not paid: after the settling time the files go out again."""
    with overdue(1000.0, faults={"lost_create_answer": 1.0}) as lab:
        await ends_unresolved(lab)
        end_jobs(lab, JobStatus.ERROR)
        await anyio.sleep(1000)
        change_faults(lab)
        ending = await lab.run(retry_failed=True)
        assert ending.state == "complete"
        assert lab.wire.count("POST") == 4
        assert set(lab.codes().values()) == {"overdue"}  # the new jobs take as long as the old ones
        await anyio.sleep(1000)
        await retried_well(lab)
        assert lab.wire.count("POST") == 4


@pytest.mark.parametrize("after_s", [0.05, 2.0, 20.0])
async def test_unresolved_because_the_list_could_not_be_read(after_s: float) -> None:
    """No job was made at all: once the list can be read again that is proven, and each file is sent once."""
    with laboratory(10, files_per_job=5, limits={"job_timeout_s": 600.0}, commit_s=0.01) as lab:
        broken = True

        async def refuse(request: httpx.Request) -> httpx.Response | None:
            if broken and request.url.path.endswith("/jobs"):
                return answer(503 if is_create(request) else 404, {"detail": "no"})
            return None

        lab.wire.before = refuse
        await ends_unresolved(lab)
        broken = False
        await lab.run_until_power_cut(after_s, max, retry_failed=True)
        await lab.run()
        await retried_well(lab)
        assert lab.wire.count("POST") == 4


async def test_a_new_job_of_an_unresolved_file_that_vanished_stops_the_run() -> None:
    """It was sent again and accepted: 404 to that job is a wrong key or project, also after a power cut."""
    with overdue(1000.0, faults={"lost_create_answer": 1.0}, commit_s=0.01) as lab:
        await ends_unresolved(lab)
        end_jobs(lab, JobStatus.ERROR)
        await anyio.sleep(1000)
        change_faults(lab)
        await lab.run_until_power_cut(100.0, max, retry_failed=True)
        assert lab.wire.count("POST") == 4

        async def vanish(request: httpx.Request) -> httpx.Response | None:
            if request.url.path.endswith("/jobs"):
                return answer(200, {"items": [], "next_page_token": None, "total_size": 0})
            return answer(404, {"detail": "Classify job not found"})

        async def leave_alone(request: httpx.Request) -> httpx.Response | None:
            return None

        lab.wire.before = vanish
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.PERSON)
        lab.wire.before = leave_alone
        await anyio.sleep(1000)
        assert (await lab.run()).exit_status == ExitStatus.COMPLETE
        assert await lab.judge() == {}
        assert lab.wire.count("POST") == 4


async def test_a_retry_gives_no_number_of_an_attempt_out_again() -> None:
    """A file refused in the first attempt, the rest answered in the second: the retry is the third."""
    with laboratory(5, files_per_job=5, faults={"foreign": {"file-3"}}) as lab:
        await lab.run()
        assert lab.codes() == {"file-3": "rejected"}
        assert {line["attempt"] for line in lab.lines(Log.RESULTS)} == {2}
        change_faults(lab)
        await retried_well(lab)
        assert lab.outcomes()["file-3"]["attempt"] == 3


async def test_nor_does_a_look_at_an_old_job() -> None:
    """Refused as a whole, one half overdue and the other answered: what comes of the look is the fourth attempt."""
    with laboratory(
        4,
        files_per_job=4,
        job_duration_s=1.0,
        faults={"rejected_vaguely": {"file-0"}},
        limits={"job_timeout_s": 60.0, "jobs_in_flight": 1},
    ) as lab:

        async def never_ends(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            stuck = [job.job_id for job in lab.app.job_table if "file-1" in job.file_ids]
            if anyio.current_time() > 100 or not any(job_id in response.text for job_id in stuck):
                return response
            return httpx.Response(response.status_code, text=response.text.replace('"SUCCESS"', '"PENDING"'))

        lab.wire.after = never_ends
        await lab.run()
        assert lab.codes() == {"file-0": "rejected", "file-1": "overdue"}
        numbers = {line["attempt"] for line in lab.lines(Log.RESULTS) + lab.lines(Log.FAILURES)}
        end_jobs(lab, JobStatus.ERROR)
        await anyio.sleep(100)
        change_faults(lab)
        await retried_well(lab)
        assert {lab.outcomes()[file_id]["attempt"] for file_id in ("file-0", "file-1")}.isdisjoint(numbers)


# --- Generations -----------------------------------------------------------------------------------------------------


async def test_each_retry_keeps_the_failures_of_the_ones_before() -> None:
    """Each retry puts the failures before it aside, and what was put aside never changes."""
    with laboratory(40, files_per_job=4, limits={"attempts": 1}, faults={"null_result": 0.7}, seed=2) as lab:
        await lab.run()
        aside: list[bytes] = []
        while len(aside) < 3:
            aside.append(failures(lab))
            assert aside[-1]
            assert (await lab.run(retry_failed=True)).state == "complete"
            assert await lab.judge() == {}
            assert [failures(lab, number) for number in range(1, len(aside) + 1)] == aside
        change_faults(lab)
        await retried_well(lab)
        again = len(lab.wire.requests)
        await retried_well(lab)
        assert len(lab.wire.requests) == again
        assert "failures.5.jsonl" not in lab.store.files


@pytest.mark.slow
@pytest.mark.parametrize("complete", [True, False])
async def test_every_flipped_bit_in_earlier_failures_is_found(complete: bool) -> None:
    """What was put aside is proven like everything else, also while the run is not complete."""
    base = await a_night_with_failures()
    with base.again(**SMALL, job_duration_s=60.0, commit_s=0.01) as lab:
        if complete:
            await lab.run(retry_failed=True)
        else:
            await lab.run_until_power_cut(10.0, max, retry_failed=True)
        found = await lab.verify()
        assert (found.errors, found.complete) == ([], complete)
        files = lab.store.files
    name = "failures.1.jsonl"
    for bit in range(0, 8 * len(files[name]), 7 if complete else 1):  # once complete, the manifest has its hash as well
        damaged = bytearray(files[name])
        damaged[bit // 8] ^= 1 << bit % 8
        await finds_damage(files | {name: bytes(damaged)}, name)
    lines = files[name].splitlines(keepends=True)
    assert len(lines) > 1
    await finds_damage(files | {name: b"".join(lines[1:])}, name)
    await finds_damage(files | {name: b"".join(lines[::-1])}, name)
    await finds_damage(files | {name: b"".join([*lines, lines[0]])}, name)
    await finds_damage(files | {name: files[name][:-1]}, name)
    await finds_damage({each: data for each, data in files.items() if each != name}, name)


async def finds_damage(files: dict[str, bytes], name: str) -> None:
    """Verify says it, and says where."""
    found = await verify_store(MemoryStore(files))
    assert found is not None
    assert any(fault.startswith(name) for fault in found.errors), found.errors


# --- Runs that are not complete --------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_s", [0.5, 3.0, 9.0, 20.0])
async def test_an_incomplete_run_can_be_retried(after_s: float) -> None:
    """What failed so far goes out again beside what is out and what never went out."""
    limits = {"attempts": 1, "jobs_in_flight": 2}
    with laboratory(
        40, files_per_job=4, limits=limits, faults={"null_result": 0.4}, job_duration_s=3.0, commit_s=0.01
    ) as lab:

        async def interrupt() -> None:
            await anyio.sleep(after_s)
            lab.stopping.request_stop(Stop("interrupted"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(interrupt)
            ending = await lab.run()
            tasks.cancel_scope.cancel()
        assert ending.state == "incomplete"
        earlier = failures(lab)
        change_faults(lab)
        assert (await lab.run(retry_failed=True)).state == "complete"
        assert await lab.judge() == {}
        if earlier:
            assert failures(lab, 1) == earlier
        await retried_well(lab)
