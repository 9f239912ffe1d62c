"""What follows from a job's answers: set arithmetic on file IDs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.engine.job_answers import (
    Settled,
    decide_answered_job,
    decide_failed_job,
    fail_overdue_job,
    fail_vanished_job,
    match_answers,
)
from classify_batch.model import Answer, Attempt, AttemptKey, Failure, Job, JobView, Part, to_ranges
from classify_batch.settings.sections import TriageSettings
from classify_batch.vocabulary import FailureCode

patient = settings(deadline=None)  # a busy machine is no fault

SUCCESS = JobView("j", "SUCCESS")
PARTIAL = JobView("j", "PARTIAL_SUCCESS", error_message="two pages were blank")


def attempt(*file_ids: str, first: int = 0, bad_jobs: int = 0, shared: int = 0, recheck: bool = False) -> Attempt:
    """An attempt whose files stand in their chunk from `first` on."""
    positions = tuple(range(first, first + len(file_ids)))
    part = Part(0, to_ranges(positions), bad_jobs, None, shared, recheck=recheck)
    return Attempt(AttemptKey(0, 1), part, file_ids, positions, 1.0)


def yes(file_id: str | None, kind: str | None = "x") -> Answer:
    return Answer(file_id, True, kind, 0.5, "because")


def null(file_id: str | None) -> Answer:
    return Answer(file_id, answered=False)


ANSWERS = st.lists(
    st.builds(
        Answer,
        st.sampled_from([None, *(f"f{number}" for number in range(12))]),
        st.booleans(),
        st.sampled_from([None, "x", "y"]),
    ),
    max_size=30,
)


@patient
@given(st.integers(1, 9), st.integers(0, 5), ANSWERS, st.integers(0, 4), st.integers(1, 4))
def test_each_file_that_was_asked_for_has_one_fate(
    size: int, first: int, answers: list[Answer], bad_jobs: int, attempts: int
) -> None:
    """An answer, a failure, or another chance: exactly one, and nobody else has any. Only where all answers are about
    other files there is none: the server spells IDs in its own way, and a person has to look."""
    asked = attempt(*(f"f{number}" for number in range(size)), first=first, bad_jobs=bad_jobs)
    settled = decide_answered_job(asked, answers, attempts, PARTIAL)
    named = {answer.file_id for answer in answers} - {None}
    if named and named.isdisjoint(asked.file_ids):
        assert settled == Settled(only_foreign=settled.only_foreign)
        assert settled.only_foreign in named
        return
    assert settled.only_foreign is None
    ids = dict(zip(asked.positions, asked.file_ids, strict=True))
    fates = [file_id for file_id, _ in settled.answers]
    fates += [ids[failure.position] for failure in settled.failures]
    fates += [ids[position] for part in settled.requeued for position in part.positions(100)]
    assert sorted(fates) == sorted(asked.file_ids)
    answered = {answer.file_id for answer in answers if answer.answered} & set(asked.file_ids)
    assert {file_id for file_id, _ in settled.answers} == answered
    assert not (settled.requeued and settled.failures)
    unnamed = any(answer.answered for answer in answers if answer.file_id is None)  # perhaps theirs, and paid
    assert bool(settled.failures) == (len(answered) < size and (unnamed or bad_jobs + 1 >= attempts))


IN_ORDER = st.lists(
    st.tuples(st.sampled_from([None, "x", "y"]), st.sampled_from([None, -0.1, 0.0, 0.5, 1.0, 1.1])),
    min_size=1,
    max_size=9,
)


@patient
@given(
    IN_ORDER, st.permutations(range(9)), st.lists(st.integers(0, 20), max_size=2), st.sampled_from([SUCCESS, PARTIAL])
)
def test_answers_in_order_are_taken_as_any_others(
    told: list[tuple[str | None, float | None]], order: list[int], nulls: list[int], view: JobView
) -> None:
    """The short way for a job whose files are answered one by one says what matching them by their IDs says."""
    file_ids = [f"f{number}" for number in order[: len(told)]]
    asked = attempt(*file_ids, first=3)
    answers = [
        Answer(file_id, True, kind, confidence) for file_id, (kind, confidence) in zip(file_ids, told, strict=True)
    ]
    for place in nulls:
        answers.insert(place, null(f"f{place}"))
    assert decide_answered_job(asked, answers, 3, view) == match_answers(asked, answers, 3, view, "")


@pytest.mark.parametrize(("confidence", "odd"), [(-0.1, 1), (0.0, 0), (1.0, 0), (1.5, 1), (None, 0)])
def test_a_confidence_outside_0_to_1_is_reported(confidence: float | None, odd: int) -> None:
    """The answer counts; what triage makes of it is for a person to see."""
    warnings = decide_answered_job(attempt("a"), [Answer("a", True, "x", confidence)], 3, SUCCESS).warnings
    assert warnings == ["1 answers have a confidence outside 0 to 1"] * odd
    triage = TriageSettings(accept_above=0.5)
    assert triage.accepts_answer("x", confidence) == (confidence == 1.0)


@patient
@given(ANSWERS)
def test_what_is_odd_is_said(answers: list[Answer]) -> None:
    """Nameless, foreign and contradicting answers are counted in words, each kind for itself."""
    asked = attempt(*(f"f{number}" for number in range(6)))
    answers = [*answers, null("f0")]
    odd = " ".join(decide_answered_job(asked, answers, 3, SUCCESS).warnings)
    assert ("name no file" in odd) == any(answer.file_id is None for answer in answers)
    foreign = [answer for answer in answers if answer.file_id is not None and answer.file_id not in asked.file_ids]
    assert ("not asked for" in odd) == bool(foreign)
    known = [answer for answer in answers if answer.answered and answer.file_id in asked.file_ids]
    contradicting = any(one != other for one in known for other in known if one.file_id == other.file_id)
    assert ("two different answers" in odd) == contradicting


def test_files_whose_answers_may_lack_a_name_are_not_sent_again() -> None:
    """They were perhaps answered, and paid; a row without a name and an answer says nothing."""
    settled = decide_answered_job(attempt("a", "b"), [yes(None), yes("b")], 3, PARTIAL)
    words = "1 answers of the job name no file: one of them may be about this one: two pages were blank"
    assert settled.failures == [Failure(0, FailureCode.NOT_ANSWERED, words)]
    assert decide_answered_job(attempt("a", "b"), [null(None), yes("b")], 3, PARTIAL).requeued


@pytest.mark.parametrize("said", [yes, null])
def test_answers_about_other_files_only_are_for_a_person(said: Callable[[str | None], Answer]) -> None:
    """Nothing is asked for again, and nothing fails: each file may have been answered under another name. One ID that
    is named tells that the server spells them as we do."""
    foreign = [null(None), said("B"), said("C")]
    settled = decide_answered_job(attempt("a", "b"), foreign, 1, PARTIAL)
    assert settled == Settled(only_foreign="B")
    known = decide_answered_job(attempt("a", "b"), [*foreign, null("a")], 1, PARTIAL)
    assert (known.only_foreign, [each.position for each in known.failures]) == (None, [0, 1])
    assert known.warnings[1] == "2 answers are about files that were not asked for; they are ignored"


def test_a_uuid_is_answered_in_any_spelling() -> None:
    """And the outcome tells the ID as it was given."""
    upper, lower = "0A6B7C1E-3D2F-4A5B-8C9D-0E1F2A3B4C5D", "1b6b7c1e-3d2f-4a5b-8c9d-0e1f2a3b4c5d"
    settled = decide_answered_job(
        attempt(upper, lower, "A"), [yes(upper.lower()), yes(lower.upper()), yes("a")], 3, SUCCESS
    )
    assert [file_id for file_id, _ in settled.answers] == [upper, lower]
    assert settled.requeued == (Part(0, to_ranges([2]), 1),)


def test_the_first_of_two_answers_counts() -> None:
    """And an answer wins over null, whichever comes first."""
    answers = [null("a"), yes("a", "first"), yes("a", "second"), yes("b"), yes("b")]
    settled = decide_answered_job(attempt("a", "b"), answers, 3, SUCCESS)
    assert [(file_id, answer.type) for file_id, answer in settled.answers] == [("a", "first"), ("b", "x")]
    assert settled.warnings == ["1 files have two different answers; the first counts"]


def test_no_rule_matched_is_an_answer() -> None:
    """A null type is no failure, and is not asked for again."""
    settled = decide_answered_job(attempt("a"), [yes("a", None)], 3, SUCCESS)
    assert (len(settled.answers), settled.failures, settled.requeued) == (1, [], ())


def test_missing_files_go_out_again_in_a_smaller_part() -> None:
    """Also after a plain SUCCESS: what counts is what came."""
    settled = decide_answered_job(attempt("a", "b", "c", first=4), [yes("b")], 3, SUCCESS)
    assert settled.requeued == (Part(0, to_ranges([4, 6]), 1),)


def test_a_file_that_stays_unanswered_says_why() -> None:
    """With the job's own status and words."""
    settled = decide_answered_job(attempt("a", bad_jobs=2), [null("a")], 3, PARTIAL)
    (failure,) = settled.failures
    assert failure.code is FailureCode.NOT_ANSWERED
    assert "PARTIAL_SUCCESS: two pages were blank" in failure.message


@pytest.mark.parametrize(
    ("status", "message", "code", "words"),
    [
        ("ERROR", "PDF_IS_BROKEN", FailureCode.JOB_ERROR, "PDF_IS_BROKEN"),
        ("ERROR", None, FailureCode.JOB_ERROR, "the job ended with ERROR and gave no reason"),
        ("CANCELLED", None, FailureCode.JOB_CANCELLED, "the job ended with CANCELLED and gave no reason"),
    ],
)
def test_a_file_alone_fails_with_its_jobs_words(
    status: str, message: str | None, code: FailureCode, words: str
) -> None:
    """After as many bad jobs as it may have, with those that it shared where no other file is suspect; before that it
    goes out again."""
    view = JobView("j", status, error_message=message)
    assert decide_failed_job(attempt("a", bad_jobs=1), view, 3).requeued
    assert decide_failed_job(attempt("a", bad_jobs=1, shared=9), view, 3, other_file_suspected=True).requeued
    for bad_jobs, shared, suspect in ((2, 0, True), (1, 1, False), (0, 2, False)):
        asked = attempt("a", first=7, bad_jobs=bad_jobs, shared=shared)
        settled = decide_failed_job(asked, view, 3, other_file_suspected=suspect)
        assert [(one.position, one.code, one.message) for one in settled.failures] == [(7, code, words)]
        assert settled.requeued == ()


def test_a_bad_job_of_many_fails_nobody() -> None:
    """Its files go out in halves, however many bad jobs they were in."""
    settled = decide_failed_job(attempt("a", "b", "c", bad_jobs=50, shared=50), JobView("j", "ERROR"), 1)
    assert settled.failures == []
    assert [len(part.positions(9)) for part in settled.requeued] == [2, 1]


def test_an_overdue_job_is_named() -> None:
    """All its files fail, and the id in the message is fit for a terminal."""
    failures = fail_overdue_job(Job(attempt("a", "b"), "j\x1b[31m", 1.0))
    assert [failure.code for failure in failures] == [FailureCode.OVERDUE] * 2
    assert all("j [31m" in failure.message for failure in failures)


# --- Old jobs that are looked at again --------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 3])
def test_what_an_old_job_surely_left_out_begins_anew(attempts: int) -> None:
    """The old job counts for nothing, and what is missing stays one part."""
    old = attempt("a", "b", "c", recheck=True)
    some = decide_answered_job(old, [yes("b")], attempts, SUCCESS)
    assert (some.failures, some.requeued) == ([], (Part(0, to_ranges((0, 2))),))
    assert decide_answered_job(old, [], attempts, SUCCESS).requeued == (Part(0, to_ranges((0, 1, 2))),)
    whole = Attempt(AttemptKey(0, 1), Part(0, recheck=True), ("a", "b"), (0, 1), 1.0)
    assert decide_answered_job(whole, [], attempts, SUCCESS).requeued == (Part(0),)


def test_what_an_old_job_still_withholds_fails_again() -> None:
    """It may have been paid."""
    settled = decide_answered_job(attempt("a", "b", recheck=True), [yes("b")], 3, SUCCESS, "no")
    assert settled.requeued == ()
    assert [(each.position, each.code) for each in settled.failures] == [(0, FailureCode.NOT_ANSWERED)]


def test_an_old_job_of_one_file_that_ended_badly_begins_anew() -> None:
    """The old job counts for nothing."""
    old = attempt("a", first=3, recheck=True)
    assert decide_failed_job(old, JobView("j", "ERROR"), 1).requeued == (Part(0, to_ranges([3])),)


def test_an_old_job_of_many_files_that_ended_badly_begins_anew() -> None:
    """It is an old job no more: what goes out again is judged like any other."""
    old = attempt("a", "b", "c", recheck=True)
    again = decide_failed_job(old, JobView("j", "ERROR"), 3).requeued
    assert sorted(position for part in again for position in part.positions(9)) == [0, 1, 2]
    assert {(part.bad_jobs, part.recheck) for part in again} == {(0, False)}


def test_an_old_job_that_is_gone_fails_as_before() -> None:
    """And not as overdue."""
    failures = fail_vanished_job(Job(attempt("a", "b", recheck=True), "j", 0.0))
    assert {each.code for each in failures} == {FailureCode.NOT_ANSWERED}
    assert len(failures) == 2
