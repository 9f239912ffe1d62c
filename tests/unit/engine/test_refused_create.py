"""What follows when the API says no to a create: who fails, and who goes out again."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.engine.refused_create import decide_refused_create
from classify_batch.errors import ApiError, Verdict
from classify_batch.model import Attempt, AttemptKey, Part, to_ranges
from classify_batch.vocabulary import FailureCode

patient = settings(deadline=None)  # a busy machine is no fault

# What a file ID may be made of: anything printable without spaces.
IDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)


def attempt(*file_ids: str, first: int = 0, bad_jobs: int = 0) -> Attempt:
    positions = tuple(range(first, first + len(file_ids)))
    return Attempt(AttemptKey(0, 1), Part(0, to_ranges(positions), bad_jobs), file_ids, positions, 1.0)


def refusal(detail: str = "", *indexes: int, status: int = 400) -> ApiError:
    return ApiError("create", Verdict.REFUSED, "no", status=status, detail=detail, file_indexes=indexes)


def fates(tried: Attempt, error: ApiError) -> tuple[list[str], list[list[str]]]:
    """The file IDs that fail, and the parts that go out again."""
    failures, again = decide_refused_create(tried, error)
    ids = dict(zip(tried.positions, tried.file_ids, strict=True))
    assert all(failure.code is FailureCode.REJECTED for failure in failures)
    assert all(part.bad_jobs == tried.part.bad_jobs for part in again), "a refusal is no bad job"
    return [ids[failure.position] for failure in failures], [
        [ids[position] for position in part.positions(1000)] for part in again
    ]


@patient
@given(st.lists(IDS, min_size=1, max_size=8, unique=True), st.text(max_size=60), st.lists(st.integers(-2, 9)))
def test_each_refused_file_fails_or_is_sent_again_once(file_ids: list[str], detail: str, indexes: list[int]) -> None:
    """Each file fails or goes out again, once; and each refusal makes the matter smaller, so that it ends."""
    tried = attempt(*file_ids, first=3)
    failed, again = fates(tried, refusal(detail, *indexes))
    assert sorted(failed + [file_id for part in again for file_id in part]) == sorted(file_ids)
    assert all(len(part) < len(file_ids) for part in again)


@patient
@given(st.lists(IDS, min_size=2, max_size=8, unique=True), st.integers(0, 7))
def test_a_file_that_the_vendor_names_fails_alone(file_ids: list[str], which: int) -> None:
    """In the API's own words; the rest goes out again together, whatever characters IDs are made of."""
    stranger = file_ids[which % len(file_ids)]
    tried = attempt(*file_ids, bad_jobs=2)
    failed, again = fates(tried, refusal(f"File ID {stranger} is not in Project ID p-1"))
    assert failed == [stranger]
    assert again == [[file_id for file_id in file_ids if file_id != stranger]]


def test_an_id_is_named_only_as_a_whole() -> None:
    """A longer ID that begins like ours is another one; so is a word of the sentence."""
    assert fates(attempt("f-1", "f-12"), refusal("File ID f-12 is not in Project ID p"))[0] == ["f-12"]
    assert fates(attempt("f-1", "f-2"), refusal("File ID f-12 is not in Project ID p"))[0] == []
    assert fates(attempt("is", "not", "x"), refusal("File ID x is not in Project ID p"))[0] == ["x"]


@pytest.mark.parametrize("words", ["unknown file: {}", 'no such file "{}".', "({})", "{}: gone", "bad: <{}>"])
def test_other_words_name_a_file_too(words: str) -> None:
    """Punctuation around it doesn't matter."""
    failed, again = fates(attempt("a-1", "b-2", "c-3"), refusal(words.format("b-2")))
    assert (failed, again) == (["b-2"], [["a-1", "c-3"]])


@pytest.mark.parametrize("words", ["File ID {} is not in Project ID p", "unknown file: {}."])
@pytest.mark.parametrize("spelled", [str.upper, lambda uuid: uuid.replace("-", ""), "{{{}}}".format])
def test_a_uuid_is_named_in_any_spelling(words: str, spelled: Callable[[str], str]) -> None:
    """A server spells it in its own way, whichever way the input has."""
    ours = [str(UUID(int=number)) for number in (0xA, 0xB, 0xC)]
    named = words.format(spelled(ours[1]))
    assert fates(attempt(*ours), refusal(named))[0] == [ours[1]]
    shouted = [each.upper() for each in ours]
    assert fates(attempt(*shouted), refusal(named))[0] == [shouted[1]]


def test_a_place_in_the_body_names_a_file() -> None:
    """By index, which counts more than words; an index beyond what was sent names nobody."""
    tried = attempt("a", "b", "c", first=5)
    assert fates(tried, refusal("a", 1, 1, status=422)) == (["b"], [["a", "c"]])
    assert fates(tried, refusal("?", 7, -1, status=422)) == ([], [["a", "b"], ["c"]])


def test_all_files_named_leaves_nothing_to_send() -> None:
    """Then the attempt is over."""
    assert fates(attempt("a", "b"), refusal("a b")) == (["a", "b"], [])


def test_nobody_named_is_found_by_halves() -> None:
    """Down to one file alone, which is the one at fault, and its failure says why."""
    assert fates(attempt("a", "b", "c"), refusal("no")) == ([], [["a", "b"], ["c"]])
    failures, again = decide_refused_create(attempt("a"), refusal("too large", status=413))
    assert again == ()
    assert [failure.message for failure in failures] == ["HTTP 413: too large"]
