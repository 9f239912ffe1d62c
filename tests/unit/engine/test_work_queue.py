"""What an earlier process left open is taken up no faster than jobs may be out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import anyio
import pytest

from classify_batch.engine.shutdown import Shutdown
from classify_batch.engine.work_queue import PlannedFiles, WorkQueue
from classify_batch.lifecycle import Ended, Recheck, Submitted, Submitting
from classify_batch.limits import JobSlots
from classify_batch.limits.credit_budget import CreditBudget
from classify_batch.model import AmbiguousCreate, Attempt, AttemptKey, Job, Part
from classify_batch.rundir.cost import Price
from classify_batch.rundir.journal.open_attempts import OpenAttempt
from classify_batch.rundir.journal.reader import Reader
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.rundir.plan import PlanReader, write_plan
from classify_batch.rundir.retry_file import encode_batch
from classify_batch.settings import Settings
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Kind

pytestmark = [pytest.mark.anyio, pytest.mark.any_loop]

SETTINGS = Settings(job={"rules": [{"type": "a", "description": "0123456789"}]})


class Still:
    def wall_s(self) -> float:
        return 1.0


async def feed_of(journal: JournalWriter, store: MemoryStore, slots: JobSlots) -> WorkQueue:
    await write_plan(store, chunks())
    plan = PlanReader(store)
    await plan.scan_whole_file()
    budget = CreditBudget(None)
    return WorkQueue(store, PlannedFiles(plan), journal, slots, Shutdown(), budget, Price(SETTINGS))


async def test_memory_holds_the_files_of_no_more_jobs_than_may_be_out() -> None:
    """However many are: each waits for its slot, and nothing new goes out before all have one."""
    store, slots = MemoryStore(), JobSlots(2)
    journal = JournalWriter(store, RunSnapshot(6), Still())
    for chunk in range(5):
        journal.record(Submitting(AttemptKey(chunk, 1), Part(chunk), 1.0))
        journal.record(Submitted(AttemptKey(chunk, 1), f"job-{chunk}", 1.0))
    feed = await feed_of(journal, store, slots)
    out, submitted = anyio.create_memory_object_stream[Job](99)
    ambiguous, _ambiguous = anyio.create_memory_object_stream[AmbiguousCreate](99)
    new, to_submit = anyio.create_memory_object_stream[Attempt](99)
    resume_open_attempts = partial(feed.resume_open_attempts, last_sent_s=0.0, accept_s=60.0)
    with out, submitted, ambiguous, _ambiguous, new, to_submit:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(resume_open_attempts, out, ambiguous)
            tasks.start_soon(feed.send_parts_to_submit, new)
            for known in (2, 3, 4, 5):
                await anyio.wait_all_tasks_blocked()
                assert submitted.statistics().current_buffer_used == known
                assert to_submit.statistics().current_buffer_used == 0
                slots.release()
            await anyio.wait_all_tasks_blocked()
            assert to_submit.statistics().current_buffer_used == 1
            tasks.cancel_scope.cancel()


async def test_what_may_have_been_accepted_is_reconciled_after_what_was() -> None:
    """With all that was known before its intent, and with the time from which on the dead process can have sent
    nothing; its event loop's time means nothing here. Jobs that may have ended come first: they give slots back."""
    store, slots = MemoryStore(), JobSlots(1)
    journal = JournalWriter(store, RunSnapshot(3), Still())
    journal.record(Submitting(AttemptKey(0, 1), Part(0), 7.0, 2.5, 1234.5, "p"))
    journal.record(Submitting(AttemptKey(1, 1), Part(1), 8.0))
    journal.record(Submitted(AttemptKey(1, 1), "job", 9.0))
    journal.record(Submitting(AttemptKey(2, 1), Part(2), 8.0))
    feed = await feed_of(journal, store, slots)
    out, submitted = anyio.create_memory_object_stream[Job](9)
    doubtful, ambiguous = anyio.create_memory_object_stream[AmbiguousCreate](9)
    with submitted, ambiguous:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(feed.resume_open_attempts, last_sent_s=11.0, accept_s=90.0), out, doubtful)
            await anyio.wait_all_tasks_blocked()
            assert submitted.receive_nowait().job_id == "job"
            slots.release()
            first = await ambiguous.receive()
            slots.release()
            second = await ambiguous.receive()
    assert (first.last_sent_s, first.accept_s, first.refusal) == (11.0, 90.0, "")
    attempt = first.attempt
    assert (attempt.key, attempt.part, attempt.file_ids) == (AttemptKey(0, 1), Part(0), ("file-0",))
    assert (attempt.since_s, attempt.server_s, attempt.intended_s, attempt.credits) == (7.0, 1234.5, None, 2.5)
    assert attempt.ambiguous
    assert (second.attempt.key, second.attempt.server_s) == (AttemptKey(2, 1), None)


async def test_failed_files_are_taken_up_as_they_are_needed() -> None:
    """Attempts that may have been paid first, then the parts that go out again, and then the plan; of an attempt whose
    files failed in two ways each is looked at. What no slot is free for waits in its file."""
    store, slots, snapshot = MemoryStore(), JobSlots(2), RunSnapshot(6)
    journal = JournalWriter(store, snapshot, Still())
    for chunk in range(5):
        journal.record(Submitting(AttemptKey(chunk, 1), Part(chunk), 1.0))
        journal.record(Submitted(AttemptKey(chunk, 1), f"job-{chunk}", 1.0))
        journal.record(Ended(AttemptKey(chunk, 1), Kind.COLLECTED))
    looks: list[Recheck] = [{"chunk": 0, "attempt": 1, "job_id": name, "since": "1970-01-01"} for name in ("x", "y")]
    lines = [encode_batch([], looks), *(encode_batch([{"chunk": chunk}], []) for chunk in range(1, 5))]
    await store.create("retry.1.jsonl", b"".join(lines))
    journal.record_about_run(Kind.REOPENED, {"generation": 1, "retry_bytes": sum(map(len, lines))})
    feed = await feed_of(journal, store, slots)
    out, submitted = anyio.create_memory_object_stream[Job](99)
    ambiguous, _ambiguous = anyio.create_memory_object_stream[AmbiguousCreate](99)
    new, to_submit = anyio.create_memory_object_stream[Attempt](99)
    with out, submitted, ambiguous, _ambiguous, new, to_submit:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(feed.resume_open_attempts, last_sent_s=0.0, accept_s=60.0), out, ambiguous)
            tasks.start_soon(feed.send_parts_to_submit, new)
            await anyio.wait_all_tasks_blocked()
            jobs = [submitted.receive_nowait() for _ in range(2)]
            assert [(job.job_id, job.attempt.key) for job in jobs] == [("x", (0, 1)), ("y", (0, 2))]
            assert (len(snapshot.open_attempts), snapshot.waiting_parts()) == (2, [Part(1)])
            for chunk in (1, 2, 3, 4, 5):
                slots.release()
                await anyio.wait_all_tasks_blocked()
                assert to_submit.receive_nowait().key == (chunk, 2 if chunk < 5 else 1)
                assert (await store.size("retry.1.jsonl") is None) is (chunk >= 3)  # one is taken ahead
            tasks.cancel_scope.cancel()
    await journal.wait_durable()
    assert replayed(store) == (snapshot.open_attempts, snapshot.waiting_parts())


def replayed(store: MemoryStore) -> tuple[dict[AttemptKey, OpenAttempt], list[Part]]:
    """What the next process finds in the journal."""
    snapshot = RunSnapshot(6)
    for entry, offset in Reader("journal").read_block(store.files["journal.jsonl"]):
        snapshot.apply_entry(entry, offset)
    return snapshot.open_attempts, snapshot.waiting_parts()


async def chunks() -> AsyncIterator[list[str]]:
    for chunk in range(6):
        yield [f"file-{chunk}"]
