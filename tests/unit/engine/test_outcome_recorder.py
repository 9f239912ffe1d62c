"""The lines of an attempt's end: whatever a server says, one line is one JSON object, and one file has one outcome."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from math import inf, nan
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.engine.outcome_recorder import OutcomeRecorder, fail_all_files
from classify_batch.lifecycle import Ended, Fact
from classify_batch.model import (
    Answer,
    AnsweredFile,
    Attempt,
    AttemptKey,
    Carried,
    Failure,
    Part,
    ProvisionalRange,
    Range,
    Segment,
)
from classify_batch.ports import NamedFor
from classify_batch.rundir.outcome_ids import outcome_file_id
from classify_batch.rundir.outcome_lines import encode_line, read_first_answers
from classify_batch.settings import EscalationSettings, TriageSettings
from classify_batch.settings.job_spec import JobSpec, JobSpecs, Rule
from classify_batch.vocabulary import FailureCode, Kind, Log

patient = settings(deadline=None)  # a busy machine is no fault

ATTEMPT = Attempt(AttemptKey(3, 2), Part(3), ("a", "b", "c"), (0, 1, 2), 1.0, credits=15)
SPEC = JobSpec(rules=(Rule(type="x", description="anything at all"),))
SPECS = JobSpecs(SPEC, SPEC.model_copy(update={"mode": "MULTIMODAL"}))
WEAK = EscalationSettings(below_confidence=0.6, unmatched=True)

# Everything that a JSON text can hold: lone surrogates, controls, all line breaks of Unicode.
WORDS = st.text(st.characters(exclude_categories=()) | st.sampled_from("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\x00"))


class Recorder:
    """A journal that keeps what is recorded."""

    def __init__(self) -> None:
        self.logs = dict.fromkeys(Log, b"")
        self.facts: list[Fact] = []

    def allot_attempt(self, chunk: int) -> int:
        return 1

    def record(self, fact: Fact) -> None:
        self.facts.append(fact)

    def append(self, log: Log, lines: bytes) -> Segment | None:
        if not lines:
            return None
        start = len(self.logs[log])
        self.logs[log] += lines
        return Segment(start, start + len(lines), crc32(lines))

    async def wait_durable(self) -> None:
        """At once."""

    server_s = None
    clocks_disagree = False

    def learn_listed_s(self, created_at_s: float) -> None:
        """Nobody asks for it."""

    def record_clocks_disagree(self) -> None:
        """Nobody asks for it."""

    def attempt_of_job(self, job_id: str) -> AttemptKey | None:
        return None

    def is_in_flight(self, job_id: str) -> bool:
        return False

    async def begin_search_from(self, server_s: float | None) -> int:
        return 0

    async def named_jobs(self, job_ids: Collection[str], start: int) -> tuple[dict[str, NamedFor], int]:
        return {}, start

    async def latest_jobs(self) -> dict[str, float | None]:
        return {}

    @property
    def ended(self) -> Ended:
        (fact,) = self.facts
        assert isinstance(fact, Ended)
        return fact

    def lines(self, log: Log) -> list[dict[str, Any]]:
        return readable(self.logs[log])


class Clock:
    def wall_s(self) -> float:
        return 1.5


def end(
    attempt: Attempt = ATTEMPT,
    escalation: EscalationSettings | None = None,
    triage: TriageSettings | None = None,
    answers: Sequence[Answer] = (),
    failures: Sequence[Failure] = (),
    bills: bool = False,
    **told: Any,
) -> Recorder:
    """`answers`: of the attempt's own job, in the mode in which it was asked for."""
    journal = Recorder()
    outcomes = OutcomeRecorder(journal, Clock(), SPECS, escalation, triage, bills=bills)
    job_id, mode = told.pop("job_id", "job"), SPECS.spec_of_part(attempt.part).mode
    named = [AnsweredFile(answer.file_id or "", answer, job_id, mode) for answer in answers]
    outcomes.end_attempt(attempt, Kind.COLLECTED, answers=named, failures=failures, job_id=job_id, **told)
    return journal


def readable(data: bytes) -> list[dict[str, Any]]:
    """What the strictest and the most careless reader make of some lines."""
    text = data.decode("utf-8")  # no lone surrogate has come through
    lines = data.split(b"\n")
    assert lines.pop() == b""
    assert text.splitlines() == [line.decode() for line in lines]
    return [json.loads(line, parse_constant=refuse) for line in lines]


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@patient
@given(WORDS, WORDS, WORDS)
def test_a_result_is_one_line_whatever_it_says(file_id: str, kind: str, reasoning: str) -> None:
    """And it says what the server said, to the character."""
    journal = end(answers=[Answer(file_id, True, kind, 0.25, reasoning)])
    (line,) = journal.lines(Log.RESULTS)
    assert line == {
        "file_id": file_id,
        "outcome": "classified",
        "type": kind,
        "confidence": 0.25,
        "reasoning": reasoning,
        "mode": "FAST",
        "job_id": "job",
        "chunk": 3,
        "attempt": 2,
        "classified_at": "1970-01-01T00:00:01.500Z",
    }
    assert journal.ended.tally.outcomes == {"classified": 1}
    assert journal.ended.tally.types == {kind: 1}


@patient
@given(WORDS)
def test_a_failure_is_one_line_of_printable_words(message: str) -> None:
    """Its message is shown to people: nothing in it can steer a terminal."""
    journal = end(failures=[Failure(1, FailureCode.JOB_ERROR, message)], job_id=None)
    (line,) = journal.lines(Log.FAILURES)
    words = line.pop("message")
    assert isinstance(words, str)
    assert words.isprintable()
    assert len(words) <= 500
    assert line == {
        "file_id": "b",
        "outcome": "failed",
        "code": "job_error",
        "job_id": None,
        "chunk": 3,
        "attempt": 2,
        "failed_at": "1970-01-01T00:00:01.500Z",
    }
    assert (journal.ended.tally.outcomes, journal.ended.tally.codes) == ({"failed": 1}, {"job_error": 1})


@patient
@given(WORDS)
def test_the_id_of_an_outcome_is_found_again(file_id: str) -> None:
    """Also without reading the rest of the line, and also where it had to be escaped."""
    journal = end(answers=[Answer(file_id, True)])
    assert outcome_file_id(journal.logs[Log.RESULTS][:-1]) == file_id


def test_no_rule_matched_is_an_outcome_of_its_own() -> None:
    """Counted as unmatched, and under no type."""
    journal = end(answers=[Answer("a", True, None), Answer("b", True, "x"), Answer("c", True, "x")])
    assert [line["outcome"] for line in journal.lines(Log.RESULTS)] == ["unmatched", "classified", "classified"]
    assert journal.ended.tally.outcomes == {"unmatched": 1, "classified": 2}
    assert journal.ended.tally.types == {"x": 2}


@pytest.mark.parametrize("confidence", [nan, inf, -inf])
def test_a_confidence_that_is_no_number_is_none(confidence: float) -> None:
    """JSON knows no NaN and no Infinity: a line that has one is unreadable to most of the world."""
    (line,) = end(answers=[Answer("a", True, "x", confidence)]).lines(Log.RESULTS)
    assert line["confidence"] is None


def test_nothing_to_say_is_no_bytes() -> None:
    """No files, no lines, no counts."""
    journal = end()
    assert set(journal.logs.values()) == {b""}
    assert journal.ended == Ended(ATTEMPT.key, Kind.COLLECTED)


def test_all_of_an_attempt_can_fail_alike() -> None:
    """Each position once."""
    failures = fail_all_files(ATTEMPT, FailureCode.OVERDUE, "too long")
    assert [failure.position for failure in failures] == [0, 1, 2]
    assert [line["file_id"] for line in end(failures=failures).lines(Log.FAILURES)] == ["a", "b", "c"]


def test_unicode_stays_readable() -> None:
    """Letters of every script are written as themselves."""
    assert encode_line({"reasoning": "Größe 数"}) == '{"reasoning":"Größe 数"}\n'.encode()


# --- Answers of jobs that were found ----------------------------------------------------------------------------------


def end_found(attempt: Attempt, *answers: AnsweredFile, escalation: EscalationSettings | None = None) -> Recorder:
    """An attempt whose files were answered by jobs that the list showed."""
    journal = Recorder()
    found = tuple(dict.fromkeys(each.job_id for each in answers))
    OutcomeRecorder(journal, Clock(), SPECS, escalation).end_attempt(
        attempt, Kind.COLLECTED, job_id=found[0], answers=answers, found=found, created_at_s=7.25
    )
    return journal


def test_each_answer_names_the_job_that_gave_it() -> None:
    """And its mode: that of its own job, and null where nobody knows it; the journal names all of these jobs."""
    journal = end_found(
        ATTEMPT,
        AnsweredFile("a", Answer("A", True, "x"), "mine", "FAST"),
        AnsweredFile("b", Answer("b", True, "x"), "another's", None),
        AnsweredFile("c", Answer("c", True, None), "a third one's", "MULTIMODAL"),
    )
    assert [(line["file_id"], line["job_id"], line["mode"]) for line in journal.lines(Log.RESULTS)] == [
        ("a", "mine", "FAST"),
        ("b", "another's", None),
        ("c", "a third one's", "MULTIMODAL"),
    ]
    assert (journal.ended.found, journal.ended.created_at_s) == (("mine", "another's", "a third one's"), 7.25)


def test_a_first_answer_without_a_mode_stays_without() -> None:
    """Through provisional.jsonl and the second look, into what stands beside it: nothing is said that isn't known."""
    first = end_found(ATTEMPT, AnsweredFile("a", Answer("a", True, "x", 0.1), "another's", None), escalation=WEAK)
    assert read_first_answers(first.logs[Log.PROVISIONAL])["a"].mode is None
    (line,) = end(second_look(first), WEAK, answers=[Answer("a", True, "x", 0.9)], job_id="j2").lines(Log.RESULTS)
    assert (line["mode"], line["other"]["mode"], line["other"]["job_id"]) == ("MULTIMODAL", None, "another's")


def test_a_second_look_begins_with_no_bad_jobs() -> None:
    """Whatever the first one went through: it has all its attempts."""
    tried = replace(ATTEMPT, part=Part(3, None, bad_jobs=2, shared_bad_jobs=4, unnamed=1))
    (again,) = end(tried, WEAK, answers=[Answer("a", True, None), Answer("b", True, "x", 0.9)]).ended.requeued
    assert (again.bad_jobs, again.shared_bad_jobs, again.unnamed) == (0, 0, 0)


# --- Credits, triage, the second look ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "sums"),
    [
        ({}, {}),  # the most was counted when it went out, and stays
        ({"free": True}, {"credits": -15}),
        ({"billed": 4.0}, {"credits": -11, "billed": 4}),
        ({"billed": 0.0}, {"credits": -15, "billed": 0}),
        ({"billed": 0.5, "free": True}, {"credits": -14.5, "billed": 0.5}),
    ],
)
def test_what_a_job_did_not_cost_comes_back(told: dict[str, Any], sums: dict[str, float]) -> None:
    """What the API says was billed counts; else the most, or nothing where that is certain."""
    assert end(**told).ended.tally.sums == sums


def test_an_attempt_from_before_credits_were_counted_gives_none_back() -> None:
    """Else what was never set aside would be spent again."""
    old = Attempt(AttemptKey(3, 2), Part(3), ("a",), (0,), 1.0)
    assert end(old, free=True).ended.tally.sums == {}


def test_a_bill_counts_whatever_was_set_aside() -> None:
    """Nothing, at a price of 0."""
    free = Attempt(AttemptKey(3, 2), Part(3), ("a",), (0,), 1.0)
    assert end(free, billed=2.5).ended.tally.sums == {"credits": 2.5, "billed": 2.5}


@pytest.mark.parametrize(
    ("told", "unbilled"), [({}, 1), ({"billed": 0.0}, 0), ({"free": True}, 0), ({"job_id": None}, 0)]
)
def test_bills_that_an_api_with_bills_does_not_tell_are_counted(told: dict[str, Any], unbilled: int) -> None:
    """Of jobs that may have been billed; an API without bills is not asked for any."""
    assert end(bills=True, **told).ended.tally.sums.get("unbilled", 0) == unbilled
    assert "unbilled" not in end(**told).ended.tally.sums


def test_triage_counts_what_needs_no_second_pair_of_eyes() -> None:
    """By the type's own threshold where it has one; without a confidence, and without a type, a person looks."""
    triage = TriageSettings(accept_above=0.8, by_type={"x": 0.95})
    said = [("a", "y", 0.8), ("b", "x", 0.94), ("c", "x", 0.95), ("d", "y", None), ("e", None, 1.0)]
    answers = [Answer(file_id, True, kind, confidence) for file_id, kind, confidence in said]
    assert end(triage=triage, answers=answers).ended.tally.sums == {"accepted": 2}


def test_weak_answers_wait_for_a_second_look() -> None:
    """In a file of their own, counted as no outcome; their files go out again, and no others."""
    answers = [Answer("a", True, "x", 0.59), Answer("b", True, "x", 0.6), Answer("c", True, None, 0.9)]
    journal = end(escalation=WEAK, answers=answers)
    assert [line["file_id"] for line in journal.lines(Log.RESULTS)] == ["b"]
    assert [line["file_id"] for line in journal.lines(Log.PROVISIONAL)] == ["a", "c"]
    ended = journal.ended
    assert ended.tally.outcomes == {"classified": 1}
    assert ended.tally.sums == {"second_looks": 2}
    assert ended.provisional is not None
    first = ProvisionalRange(ended.provisional.start, ended.provisional.end)
    assert ended.requeued == (Part(3, (Range(0, 1), Range(2, 3)), 0, first),)


def second_look(journal: Recorder) -> Attempt:
    """The attempt that follows the first look."""
    (part,) = journal.ended.requeued
    return Attempt(
        AttemptKey(3, 3),
        part,
        part.pick_file_ids(("a", "b", "c")),
        tuple(part.positions(3)),
        first_answers=read_first_answers(journal.logs[Log.PROVISIONAL]),
    )


def test_the_second_look_counts_and_keeps_the_first_answer_beside_it() -> None:
    """Also where it is weaker, and where it matches nothing: it is the better mode's."""
    first = end(escalation=WEAK, answers=[Answer("a", True, "x", 0.5, "hm"), Answer("b", True, None)])
    journal = end(second_look(first), WEAK, answers=[Answer("a", True, None), Answer("b", True, "x", 0.1)], job_id="j2")
    a, b = journal.lines(Log.RESULTS)
    assert (a["outcome"], a["counts"], a["mode"], a["job_id"], a["attempt"]) == (
        "unmatched",
        "second",
        "MULTIMODAL",
        "j2",
        3,
    )
    assert a["other"] == {
        "mode": "FAST",
        "attempt": 2,
        "job_id": "job",
        "type": "x",
        "confidence": 0.5,
        "reasoning": "hm",
        "classified_at": "1970-01-01T00:00:01.500Z",
    }
    assert (b["outcome"], b["type"], b["other"]["type"]) == ("classified", "x", None)
    assert journal.logs[Log.PROVISIONAL] == b""  # there is no third look
    assert journal.ended.requeued == ()


def test_a_second_look_that_fails_leaves_the_first_answer() -> None:
    """It was paid, and is an answer: no file fails that was answered once."""
    first = end(escalation=WEAK, answers=[Answer("a", True, "x", 0.5), Answer("c", True, None)])
    attempt = second_look(first)
    journal = end(attempt, WEAK, failures=fail_all_files(attempt, FailureCode.JOB_ERROR, "TIMEOUT"), job_id="j2")
    a, c = journal.lines(Log.RESULTS)
    assert journal.logs[Log.FAILURES] == b""
    assert (a["type"], a["confidence"], a["mode"], a["job_id"], a["attempt"]) == ("x", 0.5, "FAST", "job", 2)
    assert (a["counts"], c["counts"], c["outcome"]) == ("first", "first", "unmatched")
    assert a["other"] == {
        "mode": "MULTIMODAL",
        "attempt": 3,
        "job_id": "j2",
        "code": "job_error",
        "message": "TIMEOUT",
    }
    assert journal.ended.tally.outcomes == {"classified": 1, "unmatched": 1}
    assert journal.ended.tally.codes == {}


@patient
@given(WORDS, WORDS)
def test_a_first_answer_is_read_as_it_was_written(kind: str, reasoning: str) -> None:
    """Whatever a server said."""
    first = end(escalation=WEAK, answers=[Answer("a", True, kind, 0.5, reasoning)])
    answer = read_first_answers(first.logs[Log.PROVISIONAL])["a"]
    assert answer == (Answer("a", True, kind, 0.5, reasoning), "FAST", "job", 2, "1970-01-01T00:00:01.500Z")


def test_carried_columns_stand_beside_the_outcome() -> None:
    """Of answered and of failed files, and of first answers."""
    carried: dict[str, Carried] = {"a": {"path": "in/a.pdf"}, "b": {"path": "in/b.pdf"}, "c": {"path": ""}}
    attempt = Attempt(AttemptKey(3, 2), Part(3), ("a", "b", "c"), (0, 1, 2), 1.0, carried=carried)
    answers = [Answer("a", True, "x", 0.9), Answer("b", True, "x", 0.1)]
    journal = end(attempt, WEAK, answers=answers, failures=[Failure(2, FailureCode.OVERDUE, "late")])
    for log, file_id in ((Log.RESULTS, "a"), (Log.PROVISIONAL, "b"), (Log.FAILURES, "c")):
        (line,) = journal.lines(log)
        assert line["carried"] == carried[file_id]
