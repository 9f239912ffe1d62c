"""The numbers of a report: time lines, examples and event logs are added up rightly and in bounded memory."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest

from classify_batch.lifecycle import Closed, Opened
from classify_batch.operations.report.event_log import EventTotals
from classify_batch.operations.report.next_commands import quote
from classify_batch.operations.report.outcome_totals import (
    EXAMPLES_MAX,
    MESSAGES_MAX,
    TYPES_MAX,
    WEAKEST_MAX,
    OutcomeTotals,
    ReportLine,
    name_of,
)
from classify_batch.operations.report.page import format_share
from classify_batch.operations.report.pictures import WIDTH, draw_jobs, draw_rate
from classify_batch.operations.report.timeline import BUCKETS_MAX, Timeline
from classify_batch.rundir.journal.entry import Entry, Item
from classify_batch.vocabulary import Kind


def entry(at_s: float, kind: Kind, *items: Item) -> Entry:
    """A line of a journal."""
    at = datetime.fromtimestamp(at_s, UTC)
    opened: Opened | None = {} if kind is Kind.OPENED else None
    closed: Closed | None = {} if kind is Kind.CLOSED else None
    return Entry(1, at, kind, 0, items, opened=opened, closed=closed)


def test_jobs_in_flight_follow_the_journal() -> None:
    """A job counts from when it was accepted until it was seen to have ended, whichever line says so."""
    timeline = Timeline()
    timeline.add(entry(0, Kind.OPENED))
    timeline.add(entry(0, Kind.SUBMITTED, Item(0, 1), Item(1, 1)))
    timeline.add(entry(1, Kind.ADOPTED, Item(2, 1)))
    timeline.add(entry(2, Kind.FINISHED, Item(0, 1, duration_s=2.0)))
    timeline.add(entry(3, Kind.COLLECTED, Item(0, 1, counts={"classified": 7}), Item(1, 1, counts={"failed": 2})))
    assert timeline.buckets[-1].in_flight == 1
    assert max(bucket.in_flight_max or 0 for bucket in timeline.buckets) == 3
    assert sum(bucket.files for bucket in timeline.buckets) == 9
    assert timeline.adopted == 1
    assert timeline.duration_s(0.5) == pytest.approx(2.0, rel=0.05)


def test_a_month_takes_as_many_buckets_as_a_minute() -> None:
    """However long a run is, its time line stays small, and no file is left out."""
    timeline = Timeline()
    timeline.add(entry(0, Kind.OPENED))
    for hour in range(24 * 30):
        timeline.add(entry(3600 * hour, Kind.COLLECTED, Item(hour, 1, counts={"classified": 3})))
    assert len(timeline.buckets) <= BUCKETS_MAX
    assert sum(bucket.files for bucket in timeline.buckets) == 3 * 24 * 30
    assert len(draw_rate(timeline, []).bars) <= BUCKETS_MAX


def test_a_clock_that_steps_back_moves_nothing_back() -> None:
    """A line with an earlier time counts as no earlier than the one before it."""
    timeline = Timeline()
    timeline.add(entry(100, Kind.OPENED))
    timeline.add(entry(110, Kind.COLLECTED, Item(0, 1, counts={"classified": 1})))
    timeline.add(entry(50, Kind.COLLECTED, Item(1, 1, counts={"classified": 1})))
    assert (timeline.start_s, timeline.end_s) == (100, 110)
    assert timeline.buckets[-1].files == 2


def test_stops_and_kills_are_marked() -> None:
    """Between two processes is a band: of a stop where the first one wrote it down, else of a kill."""
    timeline = Timeline()
    for at_s, kind in ((0, Kind.OPENED), (10, Kind.CLOSED), (50, Kind.OPENED), (100, Kind.OPENED)):
        timeline.add(entry(at_s, kind))
    bands = draw_jobs(timeline, []).bands
    assert [band.words.split(":")[0] for band in bands] == ["stopped", "killed"]
    assert all(0 <= band.x <= WIDTH and band.x + band.width <= WIDTH + 2 for band in bands)
    assert timeline.working_s() == 10


def test_examples_and_groups_are_bounded() -> None:
    """However many types, messages and files there are, so many are kept; every file is counted."""
    totals = OutcomeTotals()
    totals.add(ReportLine(f"f{n}", "classified", type=f"t{n}", confidence=n / 1000) for n in range(1000))
    totals.add(ReportLine(f"g{n}", "failed", code=f"c{n % 99}", message=f"m {n}") for n in range(1000))
    totals.add(ReportLine(f"u{n}", "unmatched") for n in range(1000))
    assert len(totals.confidences) == TYPES_MAX + 1
    assert sum(map(sum, totals.confidences.values())) == 1000
    assert len(totals.failures) <= 2 * MESSAGES_MAX + 1
    assert sum(group.files for group in totals.failures.values()) == 1000
    assert len(totals.unmatched) == EXAMPLES_MAX
    assert [file.name for file in totals.weakest()] == [f"f{n}" for n in range(WEAKEST_MAX)]


def test_failures_that_differ_in_their_ids_only_are_one_group() -> None:
    """The file's and the job's own ID in a message don't make it another one."""
    totals = OutcomeTotals()
    totals.add(
        ReportLine(f"f{n}", "failed", code="overdue", message=f"f{n} in job j{n}", job_id=f"job j{n}") for n in range(3)
    )
    ((group,),) = (totals.failures.values(),)
    assert (group.message, group.files, group.examples) == ("FILE_ID in JOB_ID", 3, ["f0", "f1", "f2"])


def test_without_examples_nothing_of_a_file_is_kept() -> None:
    """Names, reasonings and messages are not even read into memory."""
    totals = OutcomeTotals(keeps_examples=False)
    totals.add([ReportLine("secret", "classified", type="a", confidence=0.1, reasoning="secret")])
    totals.add([ReportLine("secret", "failed", code="rejected", message="secret"), ReportLine("secret", "unmatched")])
    assert "secret" not in repr(totals)


def test_odd_confidences_are_counted_apart() -> None:
    """A confidence that is missing, or outside of 0 to 1, has no place in the picture."""
    totals = OutcomeTotals()
    totals.add(ReportLine("f", "classified", type="a", confidence=each) for each in (None, -0.1, 1.1, 1.0, 0.0))
    assert totals.unrated["a"] == 3
    assert totals.confidences["a"][0] == totals.confidences["a"][-1] == 1


def test_a_file_is_called_by_its_path() -> None:
    """A carried path or name comes before the file ID; several paths of one file are counted."""
    assert name_of(ReportLine("id", "failed")) == "id"
    assert name_of(ReportLine("id", "failed", carried={"path": "a.pdf"})) == "a.pdf"
    assert name_of(ReportLine("id", "failed", carried=[{"name": "a"}, {"name": "b"}])) == "a (and 1 more)"


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[1]", b'{"event": 7}', b'{"event":"rate_limited","from":"x","to":null}', b"\xff", b"[" * 99999],
    ids=range(7),
)
def test_odd_lines_of_an_event_log_are_passed_over(line: bytes) -> None:
    """A torn line, and one of another version, say nothing."""
    totals = EventTotals()
    totals.add(line)
    assert (totals.spans, totals.rate_limited_s, totals.answers_429) == ([], 0.0, 0)


def test_spans_of_429s_are_added_up() -> None:
    """A span has its seconds, its answers, and a place in the picture."""
    totals = EventTotals()
    event = {"at": "2026-11-22T01:01:00Z", "event": "rate_limited", "from": "2026-11-22T01:00:00Z", "answers": 12}
    totals.add(json.dumps(event | {"to": "2026-11-22T01:00:30Z"}).encode())
    totals.add(json.dumps(event | {"event": "outage", "to": None}).encode())
    assert (totals.rate_limited_s, totals.answers_429, totals.outage_s) == (30.0, 12, 60.0)
    assert [span.kind for span in totals.spans] == ["rate_limited", "outage"]


@pytest.mark.parametrize("path", ["/a b", "/it's", "/$(x)`y`", "/a\nb", "/x\u202ey", "/a\\b\n", "-x"], ids=ascii)
def test_a_path_is_one_word_of_a_shell(path: str, tmp_path: Path) -> None:
    """What the page tells to paste names the directory, whatever it is called, and holds no control character."""
    import subprocess

    word = quote(path)
    assert word.isprintable()
    said = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout.decode()
    assert said == (f"./{path}" if path.startswith("-") else path)
    if path.isprintable():
        assert shlex.split(word) == [said]


def test_a_few_of_many_are_not_none() -> None:
    """One failure among a million isn't told as 0 %, and all but one not as 100 %."""
    assert format_share(1, 1_000_000) == "< 0.1 %"
    assert format_share(999_999, 1_000_000) == "> 99.9 %"
    assert format_share(5, 5) == "100.0 %"
