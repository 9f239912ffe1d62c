"""The numbers of a report: time lines, examples and event logs are added up rightly and in bounded memory."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from classify_batch.clock import to_iso
from classify_batch.lifecycle import Closed, Opened
from classify_batch.operations.report.event_log import MARKS_MAX, EventTotals
from classify_batch.operations.report.outcome_totals import (
    EXAMPLES_MAX,
    LISTED_MAX,
    MESSAGES_MAX,
    TYPES_MAX,
    WEAKEST_MAX,
    OutcomeTotals,
    ReportLine,
    name_for_person,
)
from classify_batch.operations.report.page import format_change, format_longer, format_share, format_span
from classify_batch.operations.report.pictures import (
    LANES,
    TICKS_MAX,
    WIDTH,
    TimePictures,
    draw_bins,
    draw_run_over_time,
    round_up_for_axis,
)
from classify_batch.operations.report.spans import SPANS_MAX, Span, SpanTotals
from classify_batch.operations.report.timeline import BUCKETS_MAX, Timeline
from classify_batch.rundir.journal.entry import Entry, Item
from classify_batch.vocabulary import Kind


def entry(at_s: float, kind: Kind, *items: Item, pid: int = 1, state: str = "incomplete") -> Entry:
    """A line of a journal. `pid`: of a process that begins; `state`: with which one ends."""
    at = datetime.fromtimestamp(at_s, UTC)
    opened: Opened | None = {"host": "here", "pid": pid} if kind is Kind.OPENED else None
    closed: Closed | None = {"state": state} if kind is Kind.CLOSED else None
    return Entry(1, at, kind, 0, items, opened=opened, closed=closed)


def drawn(timeline: Timeline, events: EventTotals | None = None) -> TimePictures:
    pictures = draw_run_over_time(timeline, events or EventTotals())
    assert pictures is not None
    return pictures


def event_line(at_s: float, event: str, **values: object) -> bytes:
    return json.dumps({"at": to_iso(at_s), "event": event, **values}).encode()


def span_line(event: str, from_s: float, to_s: float | None, **values: object) -> bytes:
    """A span's line: of its beginning, or of its end."""
    at_s = from_s if to_s is None else to_s
    told = {"from": to_iso(from_s), "to": None if to_s is None else to_iso(to_s)}
    return event_line(at_s, event, **told, **values)


def test_jobs_in_flight_follow_the_journal() -> None:
    """A job counts from when it was accepted until it was seen to have ended, whichever line says so."""
    timeline = Timeline()
    timeline.add_entry(entry(0, Kind.OPENED))
    timeline.add_entry(entry(0, Kind.SUBMITTED, Item(0, 1), Item(1, 1)))
    timeline.add_entry(entry(1, Kind.ADOPTED, Item(2, 1)))
    timeline.add_entry(entry(2, Kind.FINISHED, Item(0, 1, duration_s=2.0)))
    timeline.add_entry(entry(3, Kind.COLLECTED, Item(0, 1, counts={"classified": 7}), Item(1, 1, counts={"failed": 2})))
    assert timeline.buckets[-1].in_flight == 1
    assert max(bucket.in_flight_max or 0 for bucket in timeline.buckets) == 3
    assert sum(bucket.files for bucket in timeline.buckets) == 9
    assert timeline.adopted == 1
    assert timeline.duration_s(0.5) == pytest.approx(2.0, rel=0.05)


def test_a_job_leaves_the_slots_where_it_finished() -> None:
    """Not only where it was collected, which may be much later."""
    timeline = Timeline()
    timeline.add_entry(entry(0, Kind.SUBMITTED, Item(0, 1), Item(1, 1)))
    timeline.add_entry(entry(2, Kind.FINISHED, Item(0, 1, duration_s=2.0)))
    assert timeline.buckets[-1].in_flight == 1


def test_a_month_takes_as_many_buckets_as_a_minute() -> None:
    """However long a run is, its time line stays small, and no file is left out."""
    timeline = Timeline()
    timeline.add_entry(entry(0, Kind.OPENED))
    for hour in range(24 * 30):
        timeline.add_entry(entry(3600 * hour, Kind.COLLECTED, Item(hour, 1, counts={"classified": 3})))
    assert len(timeline.buckets) <= BUCKETS_MAX
    assert sum(bucket.files for bucket in timeline.buckets) == 3 * 24 * 30
    assert len(drawn(timeline).rate.bars) <= BUCKETS_MAX
    ticks = drawn(timeline).ticks
    assert 3 <= len(ticks) <= TICKS_MAX
    assert all(len(tick.words) == len("01-07") and "-" in tick.words for tick in ticks), "dates"


def test_a_clock_that_steps_back_moves_nothing_back() -> None:
    """A line with an earlier time counts as no earlier than the one before it."""
    timeline = Timeline()
    timeline.add_entry(entry(100, Kind.OPENED))
    timeline.add_entry(entry(110, Kind.COLLECTED, Item(0, 1, counts={"classified": 1})))
    timeline.add_entry(entry(50, Kind.COLLECTED, Item(1, 1, counts={"classified": 1})))
    assert (timeline.start_s, timeline.end_s) == (100, 110)
    assert timeline.buckets[-1].files == 2


def test_stops_and_kills_are_marked() -> None:
    """Between two processes is a band: of a stop where the first one wrote it down, else of a kill."""
    timeline = Timeline()
    for at_s, kind in ((0, Kind.OPENED), (10, Kind.CLOSED), (50, Kind.OPENED), (100, Kind.OPENED)):
        timeline.add_entry(entry(at_s, kind))
    (lane,) = drawn(timeline).lanes
    assert [band.words.split(":")[0] for band in lane.bars] == ["stopped", "killed"]
    assert [(round(band.x / WIDTH, 1), round(band.width / WIDTH, 1)) for band in lane.bars] == [(0.1, 0.4), (0.5, 0.5)]
    assert lane.seconds == 90
    assert timeline.working_s() == 10


def test_shards_that_run_at_once_have_one_timeline() -> None:
    """Jobs in flight are those of all shards, a span at work counts once, and a pause is where no shard has a process;
    who goes on with the next shard was at work between the two."""
    timeline = Timeline()
    timeline.add_entry(entry(0, Kind.OPENED, pid=1), 0)
    timeline.add_entry(entry(1, Kind.OPENED, pid=2), 1)
    timeline.add_entry(entry(2, Kind.SUBMITTED, Item(0, 1), Item(1, 1)), 0)
    timeline.add_entry(entry(3, Kind.SUBMITTED, Item(9, 1)), 1)
    assert timeline.buckets[-1].in_flight == 3
    timeline.add_entry(
        entry(10, Kind.CLOSED, pid=1, state="complete"), 0
    )  # its jobs are no more in flight, the other's are
    assert timeline.buckets[-1].in_flight == 1
    timeline.add_entry(entry(20, Kind.COLLECTED, Item(9, 1, counts={"classified": 4})), 1)
    assert timeline.working_s() == 20
    timeline.add_entry(entry(20, Kind.CLOSED, pid=2, state="complete"), 1)
    timeline.add_entry(entry(25, Kind.OPENED, pid=2), 2)  # the same process, one shard further
    timeline.add_entry(entry(30, Kind.CLOSED), 2)
    timeline.add_entry(entry(50, Kind.OPENED, pid=3), 2)
    (lane,) = drawn(timeline).lanes
    assert [band.words.split(":")[0] for band in lane.bars] == ["stopped"]
    assert (lane.seconds, timeline.working_s(), timeline.count_killed(running=1)) == (20, 30, 0)
    assert timeline.count_killed(running=0) == 1
    assert [(each.shard, each.started_s) for each in timeline.processes] == [(0, 0), (1, 1), (2, 25), (2, 50)]


def test_spans_that_overlap_count_once() -> None:
    """In whatever order they come: as a plain union would have it, and with the kind of what ended last."""
    rng = random.Random(5)
    for _ in range(50):
        spans = [Span(str(n), begin := rng.randrange(300), begin + rng.randrange(20)) for n in range(40)]
        totals = SpanTotals()
        for span in spans:
            totals.add_span(span)
        seconds = {second for span in spans for second in range(int(span.from_s), int(span.to_s))}
        assert totals.seconds == len(seconds)
        assert all(before.to_s <= after.from_s for before, after in pairwise(totals.spans))
        assert totals.spans[-1].to_s == max(span.to_s for span in spans)
    joined = SpanTotals()
    for kind, from_s, to_s in (("killed", 5, 9), ("stopped", 0, 6)):
        joined.add_span(Span(kind, from_s, to_s))
    assert joined.spans == [Span("killed", 0, 9)]


def test_events_of_several_shards_are_one_log() -> None:
    """What held two shards up at the same time counts once; limits are marked in the order of their times, with the
    shard that found them; a span that never ended ended with its own shard's process."""
    totals = EventTotals()
    for shard, begins_s in enumerate((20, 10)):
        totals.begin_log(shard)
        totals.add_line(span_line("rate_limited", begins_s, begins_s + 20, answers=3))
        totals.add_line(event_line(begins_s, "limit_discovered", name="requests_per_s", value=shard + 1))
        totals.add_line(span_line("outage", 100 * shard + 100, None))
        totals.add_line(event_line(100 * shard + 110, "warning", message="the same"))
        totals.end_open_spans()
    assert (totals.kinds["rate_limited"].seconds, totals.answers_429) == (30, 6)
    assert [mark.words for mark in totals.marks] == [
        "shard 1: the API allows requests_per_s = 2",
        "shard 0: the API allows requests_per_s = 1",
    ]
    assert [(span.from_s, span.to_s) for span in totals.kinds["outage"].spans] == [(100, 110), (200, 210)]
    assert totals.warnings == {"the same": 2}


def test_examples_and_groups_are_bounded() -> None:
    """However many types, messages and files there are, so many are kept; every file is counted."""
    totals = OutcomeTotals()
    totals.add_lines(ReportLine(f"f{n}", "classified", type=f"t{n}", confidence=n / 1000) for n in range(1000))
    totals.add_lines(ReportLine(f"g{n}", "failed", code=f"c{n % 99}", message=f"m {n}") for n in range(1000))
    totals.add_lines(ReportLine(f"u{n}", "unmatched") for n in range(1000))
    assert len(totals.confidences) == TYPES_MAX + 1
    assert sum(map(sum, totals.confidences.values())) == 1000
    assert len(totals.failures) <= 2 * MESSAGES_MAX + 1
    assert sum(group.files for group in totals.failures.values()) == 1000
    assert [file.name for file in totals.unmatched()] == [f"u{n}" for n in range(EXAMPLES_MAX)]
    assert [file.name for file in totals.weakest_answers()] == [f"f{n}" for n in range(WEAKEST_MAX)]
    falling = OutcomeTotals()
    falling.add_lines(ReportLine(f"f{n}", "classified", type="t", confidence=1 - n / 1000) for n in range(1000))
    assert [file.name for file in falling.weakest_answers()] == [f"f{999 - n}" for n in range(WEAKEST_MAX)]


def test_the_answers_of_a_small_run_are_all_listed() -> None:
    """Who tries a folder of documents looks for each of them by its name; of more files, the weakest and a few."""
    totals = OutcomeTotals()
    for n in range(LISTED_MAX):
        totals.add_lines(
            [ReportLine(f"f{n}", "classified", type="t", confidence=1.0), ReportLine(f"u{n}", "unmatched")]
        )
    assert [file.name for file in totals.weakest_answers()] == sorted(f"f{n}" for n in range(LISTED_MAX))
    assert [file.name for file in totals.unmatched()] == sorted(f"u{n}" for n in range(LISTED_MAX))
    assert (totals.lists_classified, totals.lists_unmatched) == (True, True)
    totals.add_lines([ReportLine("f", "classified", type="t", confidence=0.1), ReportLine("u", "unmatched")])
    assert [file.name for file in totals.weakest_answers()] == ["f", *(f"f{n}" for n in range(WEAKEST_MAX - 1))]
    assert len(totals.unmatched()) == EXAMPLES_MAX
    assert (totals.lists_classified, totals.lists_unmatched) == (False, False)


@pytest.mark.parametrize(
    ("before_s", "after_s", "words"),
    [
        (0.5, 2.5, "+2.0 s"),
        (180, 60, "−2 min"),
        (0.96, 0.44, "−0.6 s"),
        (0.51, 0.52, "–"),
        (3600, 3601, "–"),
        (0, 0, "–"),
    ],
)
def test_a_comparison_says_how_much_longer_a_run_took(before_s: float, after_s: float, words: str) -> None:
    """A dash stands where nothing changed, or nobody could see it."""
    assert format_longer(before_s, after_s) == words


def test_failures_that_differ_in_their_ids_only_are_one_group() -> None:
    """The file's and the job's own ID in a message don't make it another one. The files are named in order, in
    whatever order their jobs ended."""
    totals = OutcomeTotals()
    totals.add_lines(
        ReportLine(f"f{n}", "failed", code="overdue", message=f"f{n} in job j{n}", job_id=f"job j{n}")
        for n in (1, 0, 2)
    )
    ((group,),) = (totals.failures.values(),)
    assert (group.message, group.files, group.examples) == ("FILE_ID in JOB_ID", 3, ["f0", "f1", "f2"])


def test_without_examples_nothing_of_a_file_is_kept() -> None:
    """Names, reasonings and messages are not even read into memory."""
    totals = OutcomeTotals(keeps_examples=False)
    totals.add_lines([ReportLine("secret", "classified", type="a", confidence=0.1, reasoning="secret")])
    totals.add_lines(
        [ReportLine("secret", "failed", code="rejected", message="secret"), ReportLine("secret", "unmatched")]
    )
    assert "secret" not in repr(totals)


def test_odd_confidences_are_counted_apart() -> None:
    """A confidence that is missing, or outside of 0 to 1, has no place in the picture."""
    totals = OutcomeTotals()
    totals.add_lines(ReportLine("f", "classified", type="a", confidence=each) for each in (None, -0.1, 1.1, 1.0, 0.0))
    assert totals.unrated["a"] == 3
    assert totals.confidences["a"][0] == totals.confidences["a"][-1] == 1


def test_a_file_is_called_by_its_path() -> None:
    """A carried path or name comes before the file ID; several paths of one file are counted."""
    assert name_for_person(ReportLine("id", "failed")) == "id"
    assert name_for_person(ReportLine("id", "failed", carried={"path": "a.pdf"})) == "a.pdf"
    assert name_for_person(ReportLine("id", "failed", carried=[{"name": "a"}, {"name": "b"}])) == "a (and 1 more)"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[1]",
        b'{"event": 7}',
        b'{"event":"rate_limited","from":"x","to":null}',
        b"\xff",
        b"[" * 99999,
        b'{"event":"waiting","from":"2026-11-22T01:00:00Z","to":null,"reason":["x"]}',
        b'{"event":"limit_discovered"}',
        b'{"event":"limits_changed","limits":[1]}',
    ],
    ids=range(10),
)
def test_odd_lines_of_an_event_log_are_passed_over(line: bytes) -> None:
    """A torn line, and one of another version, say nothing."""
    totals = EventTotals()
    totals.add_line(line)
    assert (totals.spans, totals.marks, totals.answers_429) == ([], [], 0)


def test_a_span_is_counted_once() -> None:
    """It is written when it begins and when it ends: its seconds and answers are counted once, and it has its place."""
    totals, timeline = EventTotals(), Timeline()
    for at_s, kind in ((0, Kind.OPENED), (100, Kind.CLOSED)):
        timeline.add_entry(entry(at_s, kind))
    for line in (span_line("rate_limited", 10, None), span_line("rate_limited", 10, 40, answers=12)):
        totals.add_line(line)
    for reason in ("cool_down", "credits", "paused"):
        totals.add_line(span_line("waiting", 50, None, reason=reason))
    for reason in ("cool_down", "credits", "paused"):
        totals.add_line(span_line("waiting", 50, 60, reason=reason))
    totals.add_line(span_line("outage", 70, 90))
    totals.end_open_spans()
    lanes = {lane.kind: lane for lane in drawn(timeline, totals).lanes}
    assert {kind: lane.seconds for kind, lane in lanes.items()} == {
        "outage": 20,
        "rate_limited": 30,
        "cool_down": 10,
        "credits": 10,
        "paused": 10,
    }
    assert list(lanes) == [kind for kind in LANES if kind in lanes]
    assert totals.answers_429 == 12
    (band,) = lanes["rate_limited"].bars
    assert (round(band.x / WIDTH, 1), round(band.width / WIDTH, 1)) == (0.1, 0.3)


@pytest.mark.parametrize(
    "ending", [[event_line(30, "stopped")], [event_line(30, "warning"), event_line(99, "started")]]
)
def test_a_span_without_an_end_ended_with_its_process(ending: list[bytes]) -> None:
    """At its stop, or, where it was killed, with its last line: never only when the next process began."""
    totals = EventTotals()
    for line in (event_line(0, "started"), span_line("outage", 10, None), *ending, event_line(200, "progress")):
        totals.add_line(line)
    totals.end_open_spans()
    assert [(span.from_s, span.to_s) for span in totals.spans] == [(10, 30)]
    assert totals.kinds["outage"].seconds == 20


def test_any_number_of_spans_and_marks_is_bounded() -> None:
    """Neighbours become one, but only where there are too many; the seconds in all stay right."""
    totals = EventTotals()
    for number in range(20 * SPANS_MAX):
        totals.add_line(span_line("outage", 60 * number, 60 * number + 7))
        totals.add_line(event_line(60 * number, "limits_changed", limits={"jobs_in_flight": number}))
    assert 10 <= len(totals.spans) <= SPANS_MAX
    assert totals.kinds["outage"].seconds == 20 * SPANS_MAX * 7
    assert len(totals.marks) == MARKS_MAX
    few = EventTotals()
    for number in range(SPANS_MAX):
        few.add_line(span_line("outage", 60 * number, 60 * number + 7))
    assert len(few.spans) == SPANS_MAX


def test_limits_that_were_found_or_set_are_marked() -> None:
    """At their moment, in words; one that came after the journal's last line stands at the end."""
    totals, timeline = EventTotals(), Timeline()
    for at_s, kind in ((0, Kind.OPENED), (100, Kind.CLOSED)):
        timeline.add_entry(entry(at_s, kind))
    totals.add_line(event_line(50, "limit_discovered", name="requests_per_s", value=7.5))
    totals.add_line(event_line(999, "limits_changed", limits={"jobs_in_flight": 30, "paused": False}))
    assert [mark.words for mark in totals.marks] == [
        "the API allows requests_per_s = 7.5",
        "set by tune: jobs_in_flight = 30, paused = False",
    ]
    first, last = drawn(timeline, totals).marks
    assert first.x == pytest.approx(WIDTH / 2, rel=0.02)
    assert last.x <= WIDTH


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (50, ["00:00:50", "00:01:00", "00:01:10", "00:01:20", "00:01:30"]),
        (5 * 3600, ["01:00", "02:00", "03:00", "04:00", "05:00"]),
        (30 * 3600, ["06:00", "12:00", "18:00", "01-02", "06:00"]),
    ],
)
def test_the_axis_of_time_has_round_labels(seconds: int, words: list[str]) -> None:
    """Seconds, minutes or hours; midnight has its date."""
    timeline = Timeline()
    timeline.add_entry(entry(47, Kind.OPENED))
    timeline.add_entry(entry(47 + seconds, Kind.CLOSED))
    ticks = drawn(timeline).ticks
    assert [tick.words for tick in ticks] == words
    assert all(0 <= tick.left <= 100 for tick in ticks)
    assert [tick.left for tick in ticks] == sorted(tick.left for tick in ticks)


def test_bars_fit_their_scale() -> None:
    """The scale ends at a round number, and no bar leaves it; each type's confidences fill the height of their own."""
    assert [round_up_for_axis(value) for value in (0, 0.3, 7, 20, 891, 1001)] == [1, 0.3, 8, 20, 1000, 2000]
    timeline = Timeline()
    timeline.add_entry(entry(0, Kind.OPENED))
    timeline.add_entry(entry(1, Kind.SUBMITTED, *(Item(number, 1) for number in range(7))))
    timeline.add_entry(entry(2, Kind.COLLECTED, Item(0, 1, counts={"classified": 891})))
    pictures = drawn(timeline)
    assert (pictures.jobs.most, pictures.jobs.top) == (7, 8)
    assert min(bar.y for bar in pictures.jobs.bars) == pytest.approx(160 / 8)
    assert max(bar.height for bar in draw_bins([0, 1, 3])) == max(bar.height for bar in draw_bins([0, 1000, 3000]))


def test_a_run_without_a_line_has_no_picture() -> None:
    """Nothing has happened yet, and nothing is divided by it."""
    assert draw_run_over_time(Timeline(), EventTotals()) is None


def test_a_few_of_many_are_not_none() -> None:
    """One failure among a million isn't shown as 0 %, and all but one not as 100 %."""
    assert format_share(1, 1_000_000) == "< 0.1 %"
    assert format_share(999_999, 1_000_000) == "> 99.9 %"
    assert format_share(5, 5) == "100.0 %"


def test_spans_and_changes_are_shown_without_noise() -> None:
    """The two largest units, without a second one that is zero; a change with its sign, or a dash."""
    assert [format_span(seconds) for seconds in (2.34, 61, 120, 3600, 3660.4)] == [
        "2.3 s",
        "1 min 1 s",
        "2 min",
        "1 h",
        "1 h 1 min",
    ]
    assert [format_change(*pair) for pair in ((1, 1), (1, 2001), (5, 3), (None, 3))] == ["–", "+2,000", "−2", "–"]
