"""The lines of results.jsonl and failures.jsonl: whatever a server says, one line is one JSON object."""

from __future__ import annotations

import json
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.manifest.outcome_ids import outcome_file_id
from classify_batch.outcomes import encode_line, fail_all, failure_lines, result_lines
from classify_batch.records import Answer, Attempt, AttemptKey, Failure, FailureCode, Part

patient = settings(deadline=None)  # a busy machine is no fault

ATTEMPT = Attempt(AttemptKey(3, 2), Part(3), ("a", "b", "c"), (0, 1, 2), 1.0)

# Everything that a JSON text can hold: lone surrogates, controls, all line breaks of Unicode.
WORDS = st.text(st.characters(exclude_categories=()) | st.sampled_from("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\x00"))


def readable(data: bytes) -> list[dict[str, object]]:
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
    lines = result_lines(ATTEMPT, "job", "FAST", [(file_id, Answer(file_id, True, kind, 0.25, reasoning))], 1.5)
    (line,) = readable(lines.data)
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
    assert lines.tally.outcomes == {"classified": 1}
    assert lines.tally.types == {kind: 1}


@patient
@given(WORDS)
def test_a_failure_is_one_line_of_printable_words(message: str) -> None:
    """Its message is shown to people: nothing in it can steer a terminal."""
    lines = failure_lines(ATTEMPT, None, [Failure(1, FailureCode.JOB_ERROR, message)], 1.5)
    (line,) = readable(lines.data)
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
    assert (lines.tally.outcomes, lines.tally.codes) == ({"failed": 1}, {"job_error": 1})


@patient
@given(WORDS)
def test_the_id_of_an_outcome_is_found_again(file_id: str) -> None:
    """Also without reading the rest of the line, and also where it had to be escaped."""
    lines = result_lines(ATTEMPT, "job", "FAST", [(file_id, Answer(file_id, True))], 1.5)
    assert outcome_file_id(lines.data[:-1]) == file_id


def test_no_rule_matched_is_an_outcome_of_its_own() -> None:
    """Counted as unmatched, and under no type."""
    answers = [("a", Answer("a", True, None)), ("b", Answer("b", True, "x")), ("c", Answer("c", True, "x"))]
    lines = result_lines(ATTEMPT, "job", "FAST", answers, 1.5)
    assert [line["outcome"] for line in readable(lines.data)] == ["unmatched", "classified", "classified"]
    assert lines.tally.outcomes == {"unmatched": 1, "classified": 2}
    assert lines.tally.types == {"x": 2}


@pytest.mark.parametrize("confidence", [nan, inf, -inf])
def test_a_confidence_that_is_no_number_is_none(confidence: float) -> None:
    """JSON knows no NaN and no Infinity: a line that has one is unreadable to most of the world."""
    lines = result_lines(ATTEMPT, "job", "FAST", [("a", Answer("a", True, "x", confidence))], 1.5)
    (line,) = readable(lines.data)
    assert line["confidence"] is None


def test_nothing_to_say_is_no_bytes() -> None:
    """No files, no lines, no counts."""
    for lines in (result_lines(ATTEMPT, "job", "FAST", [], 1.5), failure_lines(ATTEMPT, "job", [], 1.5)):
        assert (lines.data, lines.tally.outcomes, lines.tally.types, lines.tally.codes) == (b"", {}, {}, {})


def test_all_of_an_attempt_can_fail_alike() -> None:
    """Each position once."""
    failures = fail_all(ATTEMPT, FailureCode.OVERDUE, "too long")
    assert [failure.position for failure in failures] == [0, 1, 2]
    assert [line["file_id"] for line in readable(failure_lines(ATTEMPT, "j", failures, 1.0).data)] == ["a", "b", "c"]


def test_unicode_stays_readable() -> None:
    """Letters of every script are written as themselves."""
    assert encode_line({"reasoning": "Größe 数"}) == '{"reasoning":"Größe 数"}\n'.encode()
