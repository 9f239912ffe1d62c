"""`events.jsonl` as it is written: bounded, after a torn end, on a medium that refuses, with secrets masked."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from classify_batch.clock import SystemClock
from classify_batch.engine.event_log import GOES_ON_S, MESSAGES_MAX, EventLog
from classify_batch.errors import ApiError, ClassifyBatchError, StoreError, Verdict
from classify_batch.events import Event, FilesFailed, OutageBegan, OutageEnded, WaitBegan, WaitEnded, Warned
from classify_batch.operations.report.event_log import EventTotals, read_event_log
from classify_batch.rundir.opened_run import read_run
from classify_batch.store.disk import DiskStore
from classify_batch.store.memory import MemoryStore
from tests.support.complete_run import write_complete_run

pytestmark = pytest.mark.anyio


def lines_of(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


async def observed(log: EventLog, *events: Event) -> None:
    for event in events:
        await log.observe(event)


async def test_a_large_file_is_put_aside_and_one_is_kept() -> None:
    """No more than twice the bound is ever there, and each line stays whole."""
    store = MemoryStore()
    log = EventLog(store, SystemClock(), bytes_max=1000)
    await observed(log, *(Warned(f"warning {number}") for number in range(100)))
    files = store.files
    assert set(files) <= {"events.jsonl", "events.1.jsonl"}
    assert 1000 <= len(files["events.1.jsonl"]) < 1200
    told = lines_of(files["events.1.jsonl"]) + lines_of(files.get("events.jsonl", b""))
    assert told[-1]["message"] == "warning 99"


@pytest.mark.real_time
async def test_a_line_that_was_torn_by_a_kill_spoils_no_other(tmp_path: Path) -> None:
    """Cut at every byte of its last line, also in the middle of a letter: the next process begins a line of its own,
    and a report reads over the torn one. Where only the end of the line is missing, the event still counts."""
    write_complete_run(tmp_path / "run", 4, 2)
    found = await read_run(DiskStore(tmp_path / "run"))
    assert found is not None
    store = MemoryStore()
    await observed(EventLog(store, SystemClock()), Warned("first"), Warned("Käse"))
    whole = store.files["events.jsonl"]
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole) + 1):
        torn = MemoryStore({"events.jsonl": whole[:cut]})
        log = EventLog(torn, SystemClock())
        await log.write_run_started(found)
        await observed(log, Warned("next"))
        lines = torn.files["events.jsonl"].split(b"\n")
        assert [json.loads(line)["event"] for line in lines[-3:-1]] == ["started", "warning"]
        told = EventTotals()
        await read_event_log(torn, told)
        kept = ["Käse"] if cut >= len(whole) - 1 else []
        assert list(told.warnings) == ["first", *kept, "next"]


async def test_a_refused_write_is_said_once_and_ends_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The disk is full: the observer raises nothing, and tries no more when there is room again. That is said when the
    run has gone on for a while."""
    store = MemoryStore()
    log = EventLog(store, SystemClock())
    store.fail_after(bytes_written=10)
    with caplog.at_level(logging.WARNING):
        await observed(log, Warned("one"), Warned("two"))
        assert caplog.records == []
        await anyio.sleep(2 * GOES_ON_S)
        store.fail_after(bytes_written=10_000)
        await observed(log, Warned("three"), Warned("four"))
    assert [record.message.count("is not written any more") for record in caplog.records] == [1]
    assert "events.jsonl" not in store.files


@pytest.mark.parametrize(
    ("error", "warnings"),
    [
        (StoreError("journal.jsonl: No space left on device"), 0),
        (ApiError("create", Verdict.KEY_REFUSED, "401"), 1),
    ],
)
async def test_a_run_that_ends_by_the_same_says_it_once(
    caplog: pytest.LogCaptureFixture, error: ClassifyBatchError, warnings: int
) -> None:
    """Where the disk that refused the log's line ends the run, too, only the run's error says so: that the run would go
    on without the log is not true."""
    store = MemoryStore()
    log = EventLog(store, SystemClock())
    store.fail_after(bytes_written=10)
    with caplog.at_level(logging.WARNING):
        await observed(log, Warned("one"))
        log.set_error(error)
        await log.write_run_stopped()
    assert [record.message.count("was not written to its end") for record in caplog.records] == [1] * warnings


async def test_secrets_are_masked_in_every_word() -> None:
    """As in errors: what hides them there is given every text."""
    store = MemoryStore()
    log = EventLog(store, SystemClock(), lambda text: text.replace("s3cr3t", "***"))
    await observed(log, Warned("the key s3cr3t"), FilesFailed(0, 1, "rejected", "no s3cr3t", 2))
    await log.write_run_stopped()
    assert b"s3cr3t" not in store.files["events.jsonl"]
    assert [each["event"] for each in lines_of(store.files["events.jsonl"])] == [
        "warning",
        "files_failed",
        "progress",
        "stopped",
    ]


async def test_an_outage_is_written_when_it_begins_and_when_it_ends() -> None:
    """A kill in the middle doesn't hide it; both lines have the same beginning."""
    store = MemoryStore()
    log = EventLog(store, SystemClock())
    await observed(log, OutageBegan(1.5), OutageEnded(60.0))
    began, ended = lines_of(store.files["events.jsonl"])
    assert (began["from"], began["to"], ended["from"], ended["seconds"]) == (ended["from"], None, began["from"], 60.0)
    assert datetime.fromisoformat(ended["to"]) - datetime.fromisoformat(ended["from"]) == timedelta(seconds=60)


async def test_waits_for_different_reasons_are_spans_of_their_own() -> None:
    """Two may go on at once: each end has the reason and the beginning of its own."""
    store = MemoryStore()
    log = EventLog(store, SystemClock())
    await observed(log, WaitBegan("paused"), WaitBegan("credits"), WaitEnded("paused", 9.0), WaitEnded("credits", 3.0))
    paused, credits, *ended = lines_of(store.files["events.jsonl"])
    assert [each["event"] for each in (paused, credits, *ended)] == 4 * ["waiting"]
    assert [each["reason"] for each in (paused, credits, *ended)] == ["paused", "credits", "paused", "credits"]
    assert [each["from"] for each in ended] == [paused["from"], credits["from"]]
    assert [each["seconds"] for each in ended] == [9.0, 3.0]


async def test_messages_of_failures_are_bounded() -> None:
    """However many different ones there are: the others are counted by their code, and no file is left out."""
    store = MemoryStore()
    log = EventLog(store, SystemClock())
    await observed(log, *(FilesFailed(0, 1, "rejected", f"no {number}", 2) for number in range(5 * MESSAGES_MAX)))
    await log.write_run_stopped()
    failed = [each for each in lines_of(store.files["events.jsonl"]) if each["event"] == "files_failed"]
    assert len(failed) == MESSAGES_MAX + 1
    assert sum(each["files"] for each in failed) == 10 * MESSAGES_MAX
    assert {"code": "rejected", "message": "other messages", "files": 8 * MESSAGES_MAX}.items() <= failed[0].items()
