"""What jobs that were found for a create without an answer mean for its files: each has one fate, and pays for it only
where a job is proven to have held it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.engine.reconciler.found import FoundJob, Settlement, decide_found_jobs
from classify_batch.model import Answer, AnsweredFile, Answers, Attempt, AttemptKey, Failure, JobView, Part, to_ranges
from classify_batch.vocabulary import FailureCode

patient = settings(deadline=None)  # a busy machine is no fault

FILE_IDS = tuple(f"f{number}" for number in range(6))
UUID = "0a6b7c1e-3d2f-4a5b-8c9d-0e1f2a3b4c5d"


def attempt(
    *file_ids: str, first: int = 0, bad_jobs: int = 0, shared: int = 0, unnamed: int = 0, whole: bool = False
) -> Attempt:
    """An attempt whose files stand in their chunk from `first` on."""
    positions = tuple(range(first, first + len(file_ids)))
    part = Part(0, None if whole else to_ranges(positions), bad_jobs, None, shared, unnamed)
    return Attempt(AttemptKey(0, 1), part, file_ids, positions, 1.0)


def job(job_id: str, *answers: Answer, mode: str | None = "FAST", withheld: str = "") -> FoundJob:
    return FoundJob(JobView(job_id, "PARTIAL_SUCCESS", mode=mode), Answers(answers, withheld))


def yes(file_id: str | None, kind: str = "x") -> Answer:
    return Answer(file_id, True, kind)


def null(file_id: str | None) -> Answer:
    return Answer(file_id, answered=False)


def positions(parts: tuple[Part, ...]) -> list[int]:
    return sorted(position for part in parts for position in part.positions(99))


ANSWERS = st.lists(
    st.builds(Answer, st.sampled_from([None, "foreign", *FILE_IDS]), st.booleans(), st.sampled_from([None, "x", "y"])),
    max_size=8,
)
JOBS = st.lists(
    st.builds(
        lambda number, answers, mode, withheld: job(f"j{number}", *answers, mode=mode, withheld=withheld),
        st.integers(0, 99),
        ANSWERS,
        st.sampled_from(["FAST", None]),
        st.sampled_from(["", "", "", "no more pages"]),
    ),
    max_size=4,
)
COUNTS = st.integers(0, 4)


@patient
@given(st.integers(1, 6), st.integers(0, 5), JOBS, COUNTS, COUNTS, st.integers(1, 4), st.sampled_from(["", "why"]))
def test_each_file_has_one_fate(
    size: int, first: int, jobs: list[FoundJob], bad_jobs: int, unnamed: int, attempts: int, unresolved: str
) -> None:
    """An answer, a failure, or another turn: exactly one, and the one that the jobs prove. Whatever they say of other
    files changes nothing."""
    asked = attempt(*FILE_IDS[:size], first=first, bad_jobs=bad_jobs, unnamed=unnamed)
    settled = decide_found_jobs(asked, jobs, attempts, unresolved)
    ids = dict(zip(asked.positions, asked.file_ids, strict=True))
    fates = [each.file_id for each in settled.answers]
    fates += [ids[failure.position] for failure in settled.failures]
    fates += [ids[position] for position in positions(settled.requeued)]
    assert sorted(fates) == sorted(asked.file_ids)

    said = [(each, answer) for each in jobs for answer in each.answers.items if answer.file_id in asked.file_ids]
    answered = [(each, answer) for each, answer in said if answer.answered]
    firsts = {answer.file_id: (each.view.job_id, answer) for each, answer in reversed(answered)}
    assert {each.file_id: (each.job_id, each.answer) for each in settled.answers} == firsts
    named = {answer.file_id for _, answer in said} - firsts.keys()
    withheld = any(each.answers.withheld for each in jobs)

    def expected(file_id: str) -> FailureCode | tuple[int, int]:
        if unresolved:
            return FailureCode.UNRESOLVED
        if file_id in named:
            return FailureCode.NOT_ANSWERED if withheld or bad_jobs + 1 >= attempts else (bad_jobs + 1, 0)
        return FailureCode.UNRESOLVED if withheld or unnamed + 1 >= attempts else (bad_jobs, unnamed + 1)

    found: dict[str, FailureCode | tuple[int, int]] = {ids[each.position]: each.code for each in settled.failures}
    found |= {ids[at]: (part.bad_jobs, part.unnamed) for part in settled.requeued for at in part.positions(99)}
    assert found == {file_id: expected(file_id) for file_id in asked.file_ids if file_id not in firsts}


def test_what_any_job_answers_is_taken() -> None:
    """Whoever made it, in the order of the plan: the first one that answers a file, with its own mode."""
    one, other = job("1", yes("a", "first"), null("b"), null("c")), job("2", yes("b"), yes("a", "second"), mode=None)
    settled = decide_found_jobs(attempt("c", "b", "a"), [one, other], 3)
    assert settled.answers == [
        AnsweredFile("b", yes("b"), "2", None),
        AnsweredFile("a", yes("a", "first"), "1", "FAST"),
    ]
    assert settled.requeued == (Part(0, to_ranges([0]), 1),)


def test_a_mode_is_written_down_as_the_run_spells_it() -> None:
    """Whoever sums up by mode doesn't want two spellings of one."""
    (found,) = decide_found_jobs(attempt("a"), [job("1", yes("a"), mode="fast")], 3).answers
    assert found.mode == "FAST"


@pytest.mark.parametrize(("modes", "unproven"), [(("FAST", "FAST"), False), (("FAST", None), True)])
def test_a_mode_that_is_not_proven_is_said(modes: tuple[str, str | None], unproven: bool) -> None:
    """Where an answer was taken from a job that doesn't tell its own; one of which nothing was taken is no matter."""
    jobs = [job(str(mode), yes(file_id), mode=mode) for mode, file_id in zip(modes, "ab", strict=True)]
    assert decide_found_jobs(attempt("a", "b"), jobs, 3).mode_unproven is unproven
    assert not decide_found_jobs(attempt("a", "b"), [*jobs[:1], job("j", null("b"), mode=None)], 3).mode_unproven


def test_a_job_that_held_a_file_is_an_attempt_and_one_that_did_not_is_none() -> None:
    """What was named goes out as after a job of ours that ended well, cleared of what it shared; what nobody named goes
    out apart, counted as it was, and as once more looked for in vain."""
    asked = attempt("a", "b", "c", "d", "e", first=4, bad_jobs=1, shared=2, unnamed=1)
    settled = decide_found_jobs(asked, [job("j", yes("a"), null("b"), null("c"))], 3)
    assert settled.requeued == (
        Part(0, to_ranges([5, 6]), bad_jobs=2, shared_bad_jobs=0, unnamed=0),
        Part(0, to_ranges([7, 8]), bad_jobs=1, shared_bad_jobs=2, unnamed=2),
    )
    assert settled.failures == []


def test_a_job_that_names_all_and_answers_none_is_split() -> None:
    """As it is where the job is known to be ours."""
    settled = decide_found_jobs(attempt("a", "b", "c", whole=True), [job("j", null("a"), null("b"), null("c"))], 3)
    assert settled.requeued == (Part(0, to_ranges([0, 1]), 1), Part(0, to_ranges([2]), 1))


def test_files_that_no_job_ever_named_are_unresolved_after_as_many_rounds_as_attempts() -> None:
    """Not before, and never as `not_answered`: in no job that was found were they."""
    part, rounds = Part(0), 0
    while True:
        at = part.positions(2)
        asked = Attempt(AttemptKey(0, 1), part, part.pick_file_ids(("a", "b")), tuple(at))
        settled = decide_found_jobs(asked, [job("j", yes("others'"))], 3)
        rounds += 1
        if not settled.requeued:
            break
        (part,) = settled.requeued
        assert positions(settled.requeued) == [0, 1]
    words = "3 times a create was not answered, and no job that was found names the file"
    assert (rounds, settled.failures) == (3, [Failure(each, FailureCode.UNRESOLVED, words) for each in (0, 1)])


def test_what_a_job_withholds_is_not_paid_again() -> None:
    """Neither what it named without an answer, nor what it may hold behind the pages that can't be had."""
    settled = decide_found_jobs(attempt("a", "b", "c"), [job("j", yes("a"), null("b"), withheld="no more pages")], 3)
    assert settled.requeued == ()
    assert settled.failures == [
        Failure(1, FailureCode.NOT_ANSWERED, "no more pages", "j"),
        Failure(2, FailureCode.UNRESOLVED, "no more pages"),
    ]


def test_when_time_runs_out_answers_are_taken_and_the_rest_is_unresolved() -> None:
    """Also what a job named without an answer: another one may still answer it."""
    settled = decide_found_jobs(attempt("a", "b", "c"), [job("j", yes("a"), null("b"))], 3, "its job may be one of: k")
    words = "perhaps paid, and it could not be proven; its job may be one of: k"
    assert [each.file_id for each in settled.answers] == ["a"]
    assert settled.failures == [Failure(each, FailureCode.UNRESOLVED, words) for each in (1, 2)]
    assert settled.requeued == ()


def test_who_fails_names_the_jobs_that_held_it() -> None:
    """As many as anybody reads, in words that are fit for a terminal."""
    jobs = [job(f"j{number}\x1b[31m", null("a")) for number in range(5)]
    settled = decide_found_jobs(attempt("a", bad_jobs=2), jobs, 3)
    assert settled.failures == [
        Failure(
            0, FailureCode.NOT_ANSWERED, "no answer in the jobs that held it (j0 [31m, j1 [31m, j2 [31m)", "j0\x1b[31m"
        )
    ]


def test_who_fails_names_no_job_that_did_not_hold_it() -> None:
    """A retry looks at the job that is named, before the file goes out again."""
    settled = decide_found_jobs(attempt("a", "b", bad_jobs=2), [job("i", yes("a")), job("j", null("b"))], 3)
    assert settled.failures == [
        Failure(1, FailureCode.NOT_ANSWERED, "no answer in the jobs that held it (j)", job_id="j")
    ]


def test_a_uuid_is_found_in_any_spelling() -> None:
    """And its outcome tells it as it was given; any other ID is what it is."""
    settled = decide_found_jobs(attempt(UUID.upper(), "A", whole=True), [job("j", yes(UUID), yes("a"))], 3)
    assert settled.answers == [AnsweredFile(UUID.upper(), yes(UUID), "j", "FAST")]
    assert settled.requeued == (Part(0, to_ranges([1]), unnamed=1),)


def test_without_jobs_there_is_nothing_but_another_turn() -> None:
    """The list proved that none was there."""
    assert decide_found_jobs(attempt("a"), [], 3) == Settlement(requeued=(Part(0, to_ranges([0]), unnamed=1),))
