"""Whose attempts are whose: what a journal says of processes with several accounts' keys."""

from __future__ import annotations

import json
from typing import Any

import pytest

from classify_batch.lifecycle import AccountKeys, Adopted, Ended, Finished, Submitted, Submitting, Tally
from classify_batch.model import AttemptKey, Part, Range
from classify_batch.rundir.journal import named_jobs
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.journal.totals import read_totals
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import CREDITS, Kind, Log
from tests.support.journal_reading import replay
from tests.support.loop_clock import LoopClock

EAST: AccountKeys = {"name": "east", "base_url": "https://east.example"}
WEST: AccountKeys = {"name": "west", "base_url": "https://west.example"}
pytestmark = pytest.mark.anyio


class Journal:
    """A journal of a run of ten chunks, in memory."""

    def __init__(self, totals_every_bytes: int = 1 << 16) -> None:
        self.store, self.snapshot = MemoryStore(), RunSnapshot(10)
        self.writer = JournalWriter(self.store, self.snapshot, LoopClock(), totals_every_bytes=totals_every_bytes)

    def open(self, account: AccountKeys | None) -> None:
        """A process takes the run over."""
        self.writer.record_about_run(Kind.OPENED, {"account": account} if account is not None else {})

    def send(self, chunk: int, attempt: int = 1, job_id: str | None = None, part: Part | None = None) -> AttemptKey:
        key = AttemptKey(chunk, attempt)
        self.writer.record(Submitting(key, part or Part(chunk), 0.0, credits=5.0, project_id=None))
        if job_id is not None:
            self.writer.record(Submitted(key, job_id, 0.0, f"project of {job_id}", created_at_s=100.0 + chunk))
        return key

    def end(self, key: AttemptKey, *requeued: Part, files: int = 5) -> None:
        if self.snapshot.open_attempts[key].job_id is not None:
            self.writer.record(Finished(key, "SUCCESS"))
        tally = Tally({"classified": files}, {}, {}, {CREDITS: -2.0})
        self.writer.record(Ended(key, Kind.COLLECTED, tally=tally, requeued=requeued))

    async def read(self) -> RunSnapshot:
        """The snapshot that another process reads."""
        await self.writer.wait_durable()
        return replay(await self.store.read(Log.JOURNAL), 10)


async def opened_journal() -> Journal:
    journal = Journal()
    await journal.store.open_log(Log.JOURNAL, 0)
    return journal


async def test_an_attempt_belongs_to_the_account_whose_process_intended_it() -> None:
    """Whoever reads the journal knows whose each open attempt is, and which are its own."""
    journal = await opened_journal()
    journal.open(EAST)
    first, second = journal.send(0, job_id="a"), journal.send(1)
    journal.open(WEST)
    third = journal.send(2, job_id="b")
    for snapshot in (journal.snapshot, await journal.read()):
        assert {key: each.account for key, each in snapshot.open_attempts.items()} == {
            first: "east",
            second: "east",
            third: "west",
        }
        assert (snapshot.account, snapshot.open_of_other_accounts, snapshot.jobs_in_flight) == ("west", 2, 1)
        assert [snapshot.is_own(each) for each in snapshot.open_attempts.values()] == [False, False, True]
        assert (snapshot.attempt_of_job("a"), snapshot.attempt_of_job("b")) == (None, third)
        assert snapshot.open_by_account() == {"east": 2, "west": 1}
    journal.open(EAST)
    for snapshot in (journal.snapshot, await journal.read()):
        assert (snapshot.open_of_other_accounts, snapshot.jobs_in_flight) == (1, 1)
        assert snapshot.account_keys == {"east": EAST, "west": WEST}


async def test_what_one_key_has_shown_is_not_known_of_another() -> None:
    """Project, last job, and the server's time and clocks are an account's own, and come back with it."""
    journal = await opened_journal()
    journal.open(EAST)
    journal.send(0, job_id="a")
    journal.writer.record_clocks_disagree()
    journal.send(1)
    journal.open(WEST)
    for snapshot in (journal.snapshot, await journal.read()):
        assert (snapshot.project_id, snapshot.job_id, snapshot.server_s, snapshot.clocks_disagree) == (
            None,
            None,
            None,
            False,
        )
    journal.send(2, job_id="b")
    journal.open(EAST)
    for snapshot in (journal.snapshot, await journal.read()):
        assert (snapshot.project_id, snapshot.job_id) == ("project of a", "a")
        assert (snapshot.server_s, snapshot.clocks_disagree) == (100.0, True)
    journal.open(None)
    for snapshot in (journal.snapshot, await journal.read()):
        assert (snapshot.project_id, snapshot.server_s, snapshot.account) == (None, None, None)
        assert snapshot.open_of_other_accounts == 3


async def test_a_run_is_over_for_an_account_when_only_others_jobs_are_left() -> None:
    """While a chunk was never sent, or a part waits to be sent again, or a job is its own, there is something to do."""
    journal = await opened_journal()
    journal.open(EAST)
    theirs = journal.send(0, job_id="a")
    journal.open(WEST)
    assert not journal.snapshot.only_others_remain
    own = [journal.send(chunk, job_id=f"b{chunk}") for chunk in range(1, 10)]
    for key in own[1:]:
        journal.end(key)
    assert not journal.snapshot.only_others_remain  # chunk 1 has its own job
    journal.end(own[0], Part(1, (Range(0, 2),)), files=3)
    assert not journal.snapshot.only_others_remain  # a part of it waits
    journal.end(journal.send(1, 2, part=Part(1, (Range(0, 2),))), files=2)
    assert [journal.snapshot.only_others_remain, (await journal.read()).only_others_remain] == [True, True]
    journal.open(EAST)
    assert [journal.snapshot.only_others_remain, (await journal.read()).only_others_remain] == [False, False]
    journal.end(theirs)
    assert (journal.snapshot.complete, journal.snapshot.only_others_remain) == (True, False)


@pytest.mark.parametrize("every", [1, 300, 1 << 16])
async def test_what_each_account_did_is_summed_up(every: int) -> None:
    """Files, jobs and credits count for the account whose process wrote them, also where only the journal's end is
    read; what was done without an account counts for none."""
    journal = Journal(every)
    await journal.store.open_log(Log.JOURNAL, 0)
    journal.open(None)
    journal.end(journal.send(0, job_id="z"))
    journal.open(EAST)
    left = journal.send(1, job_id="a")
    journal.end(journal.send(2, job_id="b"))
    journal.open(WEST)
    journal.end(journal.send(3, job_id="c"), files=4)
    journal.open(EAST)
    journal.end(left, files=1)
    expected: Any = {
        "east": {"counts": {"classified": 6}, "jobs": 2, "credits": 6.0},
        "west": {"counts": {"classified": 4}, "jobs": 1, "credits": 3.0},
    }
    assert journal.snapshot.accounts == expected
    assert (await journal.read()).accounts == expected
    data = await journal.store.read(Log.JOURNAL)
    totals = read_totals(lambda start, end: data[start:end], len(data), "journal.jsonl")
    assert totals.accounts == expected
    assert totals.outcomes == {"classified": 15}


async def test_a_journal_without_accounts_says_nothing_of_them() -> None:
    """Such a run's journal is as before."""
    journal = Journal(1)
    await journal.store.open_log(Log.JOURNAL, 0)
    journal.open(None)
    journal.end(journal.send(0, job_id="z"))
    journal.send(1)
    await journal.writer.wait_durable()
    lines = [json.loads(line) for line in (await journal.store.read(Log.JOURNAL)).splitlines()]
    assert any("totals" in line for line in lines)
    assert "account" not in json.dumps(lines)


async def test_other_servers_times_tell_nothing_of_where_a_job_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two accounts' servers have two clocks: the journal is searched from its beginning for a job of either."""
    monkeypatch.setattr(named_jobs, "_BACK_BYTES", 256)  # it is searched in blocks, from its end
    journal = await opened_journal()
    journal.open(EAST)
    journal.send(9, job_id="a")
    for chunk in range(5):
        journal.send(chunk, job_id=f"more-{chunk}")
        await journal.writer.wait_durable()
    assert await journal.writer.begin_search_from(1e9) == 0
    plain = await opened_journal()
    plain.open(None)
    for chunk in range(5):
        plain.send(chunk, job_id=f"more-{chunk}")
        await plain.writer.wait_durable()
    plain.writer.record(Adopted(plain.send(6), "last", 0.0, created_at_s=200.0))
    assert await plain.writer.begin_search_from(1e9) > 0
