"""The table of failures: every way in which a call can fail, and the one verdict on it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.errors import Verdict
from classify_batch.llamacloud.failures import (
    Symptom,
    answered_by_another,
    is_page,
    judge_status,
    judge_symptom,
    named_file_indexes,
)

patient = settings(deadline=None)  # a busy machine is no fault

CALLS = ("create", "list", "get", "results", "files")
READS = CALLS[1:]
PLAN_WORDS = "You have already reached the maximum number of classify jobs (5)."

# What each status means for a create, and for all that only reads.
STATUSES: dict[int, tuple[Verdict, Verdict]] = {
    300: (Verdict.PERSON, Verdict.PERSON),
    301: (Verdict.PERSON, Verdict.PERSON),
    302: (Verdict.PERSON, Verdict.PERSON),
    304: (Verdict.PERSON, Verdict.PERSON),
    307: (Verdict.PERSON, Verdict.PERSON),
    308: (Verdict.PERSON, Verdict.PERSON),
    400: (Verdict.REFUSED, Verdict.REFUSED),
    401: (Verdict.KEY_REFUSED, Verdict.KEY_REFUSED),
    402: (Verdict.NO_CREDIT, Verdict.NO_CREDIT),
    403: (Verdict.KEY_REFUSED, Verdict.KEY_REFUSED),
    404: (Verdict.PERSON, Verdict.MISSING),
    405: (Verdict.PERSON, Verdict.PERSON),
    408: (Verdict.AMBIGUOUS, Verdict.LATER),
    409: (Verdict.AMBIGUOUS, Verdict.LATER),
    410: (Verdict.PERSON, Verdict.PERSON),
    413: (Verdict.REFUSED, Verdict.REFUSED),
    418: (Verdict.PERSON, Verdict.PERSON),
    422: (Verdict.REFUSED, Verdict.REFUSED),
    429: (Verdict.LATER, Verdict.LATER),
    500: (Verdict.AMBIGUOUS, Verdict.LATER),
    501: (Verdict.AMBIGUOUS, Verdict.LATER),
    502: (Verdict.AMBIGUOUS, Verdict.LATER),
    503: (Verdict.AMBIGUOUS, Verdict.LATER),
    504: (Verdict.AMBIGUOUS, Verdict.LATER),
    520: (Verdict.AMBIGUOUS, Verdict.LATER),
    599: (Verdict.AMBIGUOUS, Verdict.LATER),
}


@pytest.mark.parametrize(("status", "verdicts"), STATUSES.items())
def test_a_status_has_one_meaning_for_creates_and_one_for_reads(status: int, verdicts: tuple[Verdict, Verdict]) -> None:
    """A proxy's 5xx may come after the API accepted the job; a read may always be repeated."""
    assert judge_status("create", status, "", ()) is verdicts[0]
    assert {judge_status(call, status, "", ()) for call in READS} == {verdicts[1]}


@pytest.mark.parametrize("status", [400, 422])
def test_a_page_in_the_apis_place_refuses_no_file(status: int) -> None:
    """It says nothing of the files: a person looks at it, and the create may have been accepted behind it."""
    assert judge_status("create", status, "", (), page=True) is Verdict.PERSON
    assert judge_status("upload", status, "", (), page=True) is Verdict.PERSON
    assert answered_by_another(status, page=True)
    assert not answered_by_another(status)
    assert {judge_status(call, status, "", (), page=True) for call in READS} == {Verdict.REFUSED}
    assert judge_status("upload", status, "", ()) is Verdict.REFUSED
    assert judge_status("create", 413, "", (), page=True) is Verdict.REFUSED


@pytest.mark.parametrize(
    ("body", "page"),
    [
        (b"<html>", True),
        (b"\r\n <!DOCTYPE html>", True),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", True),
        (b'{"detail": "<html>"}', False),
        (b"", False),
        (b"no", False),
    ],
)
def test_a_page_begins_like_one(body: bytes, page: bool) -> None:
    """HTML or XML, however it begins; words and JSON are none."""
    assert is_page(body) is page


def test_a_cancel_that_comes_too_late_is_refused_for_good() -> None:
    """409: the job has ended. All else means what it means for a read."""
    assert judge_status("cancel", 409, "", ()) is Verdict.REFUSED
    others = STATUSES.items() - {(409, STATUSES[409])}
    assert all(judge_status("cancel", status, "", ()) is verdicts[1] for status, verdicts in others)


@patient
@given(st.integers(300, 999), st.sampled_from(READS), st.text())
def test_a_failed_read_is_never_ambiguous(status: int, call: str, detail: str) -> None:
    """Whatever the answer: who only asks can ask again."""
    assert judge_status(call, status, detail, ()) is not Verdict.AMBIGUOUS


@patient
@given(st.integers(500, 999), st.text())
def test_a_create_that_met_a_5xx_is_always_ambiguous(status: int, detail: str) -> None:
    """It is never simply sent again, since it may have been accepted."""
    assert judge_status("create", status, detail, ()) is Verdict.AMBIGUOUS


@pytest.mark.parametrize(
    ("symptom", "create"),
    [
        (Symptom.NO_CONNECTION, Verdict.LATER),
        (Symptom.UNTRUSTED, Verdict.BLOCKED),
        (Symptom.TLS_REFUSED, Verdict.BLOCKED),
        (Symptom.PROXY_REFUSED, Verdict.BLOCKED),
        (Symptom.NO_ANSWER, Verdict.AMBIGUOUS),
        (Symptom.TIMEOUT, Verdict.AMBIGUOUS),
        (Symptom.UNREADABLE, Verdict.AMBIGUOUS),
    ],
)
def test_a_create_was_surely_not_accepted_only_without_a_connection(symptom: Symptom, create: Verdict) -> None:
    """Only where no connection was made it is sure that a create was not accepted."""
    assert judge_symptom("create", symptom) is create
    assert {judge_symptom(call, symptom) for call in READS} == {create if create is Verdict.BLOCKED else Verdict.LATER}


def test_every_symptom_has_its_row() -> None:
    """A symptom without a verdict would be a crash."""
    for symptom in Symptom:
        for call in CALLS:
            judge_symptom(call, symptom)


def test_a_429_for_a_full_plan_is_not_one_for_the_rate() -> None:
    """Trying a create again soon is useless then; a read only waits."""
    assert judge_status("create", 429, PLAN_WORDS, ()) is Verdict.PLAN_FULL
    assert judge_status("create", 429, PLAN_WORDS.upper(), ()) is Verdict.PLAN_FULL
    assert judge_status("get", 429, PLAN_WORDS, ()) is Verdict.LATER
    assert judge_status("create", 400, PLAN_WORDS, ()) is Verdict.REFUSED


@pytest.mark.parametrize(
    ("places", "verdict"),
    [
        ((("body", "rules", 0, "description"),), Verdict.PERSON),
        ((("body", "mode"), ("body", "parsing_configuration", "lang")), Verdict.PERSON),
        ((("body", "webhook_configurations"),), Verdict.PERSON),
        ((("body", "file_ids", 3),), Verdict.REFUSED),
        ((("body", "rules"), ("body", "file_ids", 3)), Verdict.REFUSED),
        ((("body",),), Verdict.REFUSED),
        ((("body", ["rules"]),), Verdict.REFUSED),
        ((("body", {"rules": 1}),), Verdict.REFUSED),
        ((), Verdict.REFUSED),
    ],
)
def test_a_422_about_the_jobs_settings_is_for_a_person(
    places: tuple[tuple[object, ...], ...], verdict: Verdict
) -> None:
    """Bisecting would send the same rules a thousand times; about the files it finds the one at fault."""
    assert judge_status("create", 422, "", places) is verdict


def test_a_422_names_files_by_their_index() -> None:
    """As `["body", "file_ids", 3]`, and nowhere else."""
    places = (
        ("body", "file_ids", 3),
        ("body", "file_ids"),
        ("body", "rules", 1),
        ("body", "file_ids", "x"),
        ("body", "file_ids", True),
        (),
        ("body",),
    )
    assert named_file_indexes(places) == (3,)
