"""What a journal knows beside its counts: whose job it is, whose fault a bad one was, and the server's own time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.lifecycle import Adopted, Ended, Finished, Recheck, Submitted, Submitting, Tally
from classify_batch.model import AttemptKey, Part, Range
from classify_batch.rundir.journal.entry import decode_entry, encode_about_run, encode_facts
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Kind, Log
from tests.support.journal_reading import replay

patient = settings(deadline=None)  # a busy machine is no fault


class Still:
    """A wall clock that stands still."""

    def wall_s(self) -> float:
        return 1_700_000_000.0


# --- Whose job it is, and whose fault --------------------------------------------------------------------------------


def test_a_job_that_is_looked_at_again_is_held_again() -> None:
    """After a reopening, by the attempt that is looked at; one that is only looked for has none."""
    snapshot = RunSnapshot(2)
    for chunk in range(2):
        snapshot.apply_fact(Submitting(AttemptKey(chunk, 1), Part(chunk), 1.0), 0)
        snapshot.apply_fact(Submitted(AttemptKey(chunk, 1), f"job-{chunk}", 1.0), 0)
        snapshot.apply_fact(Ended(AttemptKey(chunk, 1), Kind.COLLECTED), 0)
    old: Recheck = {
        "attempt": 1,
        "attempts": 1,
        "since": "2026-11-22T02:04:16.123Z",
        "server_s": 7.5,
        "project_id": "p",
    }
    looks: list[Recheck] = [{"chunk": 0, "job_id": "job-0", **old}, {"chunk": 1, **old}]
    snapshot.reopen_failed({"generation": 1, "again": [], "looks": looks}, 2.0)
    assert (snapshot.attempt_of_job("job-0"), snapshot.attempt_of_job("job-1")) == (AttemptKey(0, 1), None)
    assert {(open_attempt.server_s, open_attempt.project_id) for open_attempt in snapshot.open_attempts.values()} == {
        (7.5, "p")
    }


# --- What a cancel leaves behind --------------------------------------------------------------------------------------


def about(kind: Kind, **values: Any) -> bytes:
    return encode_about_run(1, 1.0, 0, kind, values)


CANCEL = about(Kind.TUNED, limits={}, cancel=True)


def with_jobs(chunks: int) -> RunSnapshot:
    """A run whose chunks but the last have a job each."""
    snapshot = RunSnapshot(chunks)
    for chunk in range(chunks - 1):
        snapshot.apply_fact(Submitting(AttemptKey(chunk, 1), Part(chunk), 1.0), 0)
        snapshot.apply_fact(Submitted(AttemptKey(chunk, 1), f"job-{chunk}", 1.0), 0)
    return snapshot


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([CANCEL], "asked"),
        ([CANCEL, about(Kind.CLOSED, state="incomplete", exit_status=75)], "asked"),
        ([CANCEL, about(Kind.OPENED, limits={})], "asked"),
        ([CANCEL, about(Kind.CLOSED, state="incomplete", cancelled=True)], "done"),
        ([CANCEL, about(Kind.CLOSED, state="incomplete", cancelled=True), about(Kind.OPENED, limits={})], None),
        ([CANCEL, about(Kind.CLOSED, state="complete", exit_status=0)], None),
        ([about(Kind.TUNED, limits={"paused": True})], None),
    ],
)
def test_a_cancel_holds_until_a_process_has_finished_it(lines: list[bytes], state: str | None) -> None:
    """Whoever is killed or interrupted leaves it to the next; once it is done, the next start goes on."""
    snapshot = with_jobs(2)
    for line in lines:
        snapshot.apply_entry(decode_entry(line.rstrip(b"\n")), 0)
    assert snapshot.cancel == state


def test_attempts_that_begin_after_a_cancel_are_not_marked() -> None:
    """Only what was open then; and who goes on without knowing of a cancel has ended it."""
    snapshot = with_jobs(3)
    snapshot.apply_entry(decode_entry(CANCEL.rstrip(b"\n")), 0)
    snapshot.apply_fact(Submitting(AttemptKey(2, 1), Part(2), 1.0), 0)
    marks = {key.chunk: open_attempt.cancelled for key, open_attempt in snapshot.open_attempts.items()}
    assert marks == {0: True, 1: True, 2: False}
    assert snapshot.cancel is None


FIRST, OURS, NEIGHBOURS, LATER = (AttemptKey(0, number) for number in (1, 2, 3, 4))
OUR_PART = Part(0, (Range(0, 1),), shared_bad_jobs=2)
NEIGHBOUR, CLEARED = Part(0, (Range(1, 2),), shared_bad_jobs=2), Part(0, (Range(1, 2),), bad_jobs=1)


def send(snapshot: RunSnapshot, key: AttemptKey, part: Part) -> None:
    """An attempt whose job has ended, and is not collected yet."""
    snapshot.apply_fact(Submitting(key, part, 1.0), 0)
    snapshot.apply_fact(Submitted(key, f"job-{key.attempt}", 1.0), 0)
    snapshot.apply_fact(Finished(key, "ERROR"), 0)


def split(neighbour: Part) -> RunSnapshot:
    """Two files that were in one job: ours is out by itself, and the neighbour waits."""
    snapshot = RunSnapshot(1)
    send(snapshot, FIRST, Part(0))
    snapshot.apply_fact(Ended(FIRST, Kind.SPLIT, requeued=(OUR_PART, neighbour)), 0)
    send(snapshot, OURS, OUR_PART)
    return snapshot


def failed(code: str) -> Ended:
    return Ended(NEIGHBOURS, Kind.COLLECTED, tally=Tally(codes={code: 1}))


def test_a_neighbour_is_suspect_while_it_waits_or_is_out() -> None:
    """It may have been the reason of the bad jobs that a file shared with it."""
    snapshot = split(NEIGHBOUR)
    assert snapshot.other_file_suspected(OURS)
    send(snapshot, NEIGHBOURS, NEIGHBOUR)
    assert snapshot.other_file_suspected(OURS)


@pytest.mark.parametrize(
    ("end", "suspect"),
    [
        (Ended(NEIGHBOURS, Kind.SPLIT, requeued=(NEIGHBOUR,)), True),
        (Ended(NEIGHBOURS, Kind.COLLECTED), False),
        (Ended(NEIGHBOURS, Kind.COLLECTED, requeued=(CLEARED,)), False),
        (failed("job_error"), True),
        (failed("job_cancelled"), True),
        (failed("not_answered"), False),
    ],
)
def test_a_neighbour_is_suspect_until_it_ended_well(end: Ended, suspect: bool) -> None:
    """Who was answered, or was left without an answer by a job that ended well, was not the reason; whoever failed by
    itself was, for as long as the chunk lasts."""
    snapshot = split(NEIGHBOUR)
    send(snapshot, NEIGHBOURS, NEIGHBOUR)
    snapshot.apply_fact(end, 0)
    assert snapshot.other_file_suspected(OURS) is suspect
    if CLEARED in snapshot.waiting_parts():
        send(snapshot, LATER, CLEARED)
        snapshot.apply_fact(Ended(LATER, Kind.COLLECTED), 0)
    assert snapshot.other_file_suspected(OURS) is suspect


def test_who_failed_without_shared_bad_jobs_explains_none() -> None:
    """Its own jobs were bad for its own sake."""
    snapshot = split(CLEARED)
    send(snapshot, NEIGHBOURS, CLEARED)
    assert not snapshot.other_file_suspected(OURS)
    snapshot.apply_fact(failed("job_error"), 0)
    assert not snapshot.other_file_suspected(OURS)


# --- The server's own time -------------------------------------------------------------------------------------------


def begun(writer: JournalWriter, chunk: int) -> AttemptKey:
    """A first attempt, as it is intended."""
    key = AttemptKey(chunk, 1)
    writer.record(Submitting(key, Part(chunk), 1.0, server_s=writer.server_s))
    return key


def journal_of(writer: JournalWriter, store: MemoryStore, chunks: int) -> RunSnapshot:
    writer.write()
    return replay(store.crash(max).files[Log.JOURNAL], chunks)


def test_a_listed_time_counts_until_a_job_of_the_run_tells_one() -> None:
    """Whichever is later: the listed jobs are others', and their clock may be another. From then on the latest
    counts."""
    writer = JournalWriter(MemoryStore(), RunSnapshot(9), Still())
    told = [writer.server_s]
    for listed_s in (500.0, 900.0):
        writer.learn_listed_s(listed_s)
        told.append(writer.server_s)
    for chunk, made_s in enumerate([None, 300.0, 400.0, 350.0]):
        writer.record(Submitted(begun(writer, chunk), f"job-{chunk}", 1.0, None, made_s))
        told.append(writer.server_s)
    writer.learn_listed_s(900.0)
    writer.record(Adopted(begun(writer, 4), "job-4", 1.0, None, 450.0))
    told.append(writer.server_s)
    writer.record(Ended(begun(writer, 5), Kind.COLLECTED, found=("job-5",), created_at_s=475.0))
    assert [*told, writer.server_s] == [None, 500.0, 500.0, 500.0, 300.0, 400.0, 400.0, 450.0, 475.0]


@patient
@given(st.lists(st.none() | st.floats(0, 1e9), min_size=1, max_size=6))
def test_a_line_tells_the_earliest_time_that_its_intents_knew(times: list[float | None]) -> None:
    """So that no job of any of them is thought to be too old; nothing, where one of them knew nothing."""
    intents = [Submitting(AttemptKey(0, 1), Part(0), 1.0, server_s=time_s) for time_s in times]
    entry = decode_entry(encode_facts(1, 1.0, 0, intents)[:-1])
    known = [time_s for time_s in times if time_s is not None]
    assert entry.server_s == (min(known) if len(known) == len(times) else None)
    assert all(isinstance(fact, Submitting) and fact.server_s == entry.server_s for fact in entry.facts)


def test_a_later_process_goes_on_with_the_servers_time() -> None:
    """As the last line of intents tells it."""
    store = MemoryStore()
    writer = JournalWriter(store, RunSnapshot(4), Still())
    for chunk, made_s in enumerate([300.0, 400.0]):
        writer.record(Submitted(begun(writer, chunk), f"job-{chunk}", 1.0, None, made_s))
        writer.write()
    begun(writer, 2)
    read_back = journal_of(writer, store, 4)
    assert (read_back.server_s, read_back.open_attempts[AttemptKey(1, 1)].server_s) == (400.0, 300.0)
    assert read_back.open_attempts[AttemptKey(0, 1)].server_s is None
    read_back.apply_entry(decode_entry(encode_facts(99, 1.0, 0, [Submitting(AttemptKey(3, 1), Part(3), 1.0)])[:-1]), 0)
    assert read_back.server_s == 400.0  # a line that knows nothing unsays nothing


def test_an_intent_tells_the_project_that_it_went_to() -> None:
    """Also where no job has shown it yet: a later process has to speak for the same."""
    store = MemoryStore()
    writer = JournalWriter(store, RunSnapshot(2), Still())
    writer.record(Submitting(AttemptKey(0, 1), Part(0), 1.0, project_id="p"))
    writer.record(Submitting(AttemptKey(1, 1), Part(1), 1.0))
    open_attempt = journal_of(writer, store, 2).open_attempts
    assert [open_attempt[AttemptKey(chunk, 1)].project_id for chunk in range(2)] == ["p", None]


def test_times_that_disagree_are_of_no_use_any_more() -> None:
    """In this process at once, and in every later one, however many lines follow."""
    store = MemoryStore()
    writer = JournalWriter(store, RunSnapshot(4), Still())
    writer.record(Submitted(begun(writer, 0), "job-0", 1.0, None, 300.0))
    writer.write()
    writer.record_clocks_disagree()
    assert (writer.server_s, writer.clocks_disagree) == (None, True)
    assert begun(writer, 1)
    read_back = journal_of(writer, store, 4)
    assert (read_back.clocks_disagree, read_back.open_attempts[AttemptKey(1, 1)].server_s) == (True, None)
    later = JournalWriter(store, read_back, Still())
    later.record(Submitted(begun(later, 2), "job-2", 1.0, None, 310.0))
    assert (later.server_s, later.clocks_disagree) == (None, True)
    last = journal_of(later, store, 4)
    last.apply_entry(decode_entry(encode_facts(99, 1.0, 0, [Submitting(AttemptKey(3, 1), Part(3), 1.0)])[:-1]), 0)
    assert last.clocks_disagree


# --- Whether a bound of credits holds --------------------------------------------------------------------------------

OLD, BOUNDED = {"limits": {"attempts": 3}}, {"limits": {"max_credits": 10.0}}
NEW = {"limits": {"attempts": 3}, "accept_s": 60.0}
CLOSED: dict[str, Any] = {"requests": 1}


@pytest.mark.parametrize(
    ("lives", "holds"),
    [
        ([], True),
        ([OLD], False),  # killed
        ([OLD, CLOSED], True),
        ([OLD, CLOSED, NEW], True),
        ([OLD, NEW], False),
        ([OLD, NEW, CLOSED], False),
        ([OLD, CLOSED, OLD, NEW, CLOSED], False),
        ([BOUNDED], True),  # it wrote its intents down
        ([BOUNDED, OLD, CLOSED], True),
        ([NEW], True),
        ([NEW, NEW, CLOSED], True),
        ([{}], False),
    ],
)
def test_what_a_killed_process_may_have_sent_breaks_the_bound(lives: list[dict[str, Any]], holds: bool) -> None:
    """A process of version 0.2 that had no bound sent v2's creates before it wrote them down; one that was closed had
    written down all."""
    kinds = [Kind.CLOSED if values is CLOSED else Kind.OPENED for values in lives]
    lines = [encode_about_run(seq, 1.0, 0, kinds[seq - 1], values) for seq, values in enumerate(lives, 1)]
    assert replay(b"".join(lines), 1).credits_all_journalled is holds


def test_the_longest_time_to_accept_counts() -> None:
    """Of all processes of the run: one of them may still have a call on the wire."""
    lines = [
        encode_about_run(seq, 1.0, 0, Kind.OPENED, {"accept_s": each}) for seq, each in enumerate((60, 90.5, 5), 1)
    ]
    assert replay(b"".join(lines), 1).accept_s == 90.5
    assert replay(encode_about_run(1, 1.0, 0, Kind.OPENED, {}), 1).accept_s is None
