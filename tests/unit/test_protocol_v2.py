import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from classify_batch.model import Answer, JobView
from classify_batch.protocol import v1
from classify_batch.protocol.v2 import (
    TARGET_PAGE_MAX,
    CreateBody,
    format_target_pages,
    make_create_body,
    parse_target_pages,
    read_job,
    read_jobs_by_id,
    read_jobs_page,
)
from classify_batch.settings.job_spec import JobSpec
from classify_batch.vocabulary import JobStatus

RULE = {"type": "invoice", "description": "has line items and a total"}
RESULT = {"type": "invoice", "confidence": 0.75, "reasoning": "because"}


def spec(**over: Any) -> JobSpec:
    return JobSpec.model_validate({"rules": [RULE], **over})


def job(status: str = "COMPLETED", **over: Any) -> dict[str, Any]:
    return {"id": "j", "status": status, "file_input": "f", "project_id": "p", "result": None, **over}


def read(status: str = "COMPLETED", **over: Any) -> JobView:
    return read_job(json.dumps(job(status, **over)).encode())


def sent(*given: Any, **over: Any) -> Any:
    """A create body as it is sent."""
    return json.loads(make_create_body(*given, **over).to_json())


def faults_of(**over: Any) -> list[tuple[Any, ...]]:
    """Where a create body is wrong."""
    body = {"file_input": "f", "configuration": {"rules": [RULE]}, **over}
    with pytest.raises(ValidationError) as caught:
        CreateBody.model_validate_json(json.dumps(body))
    return [fault["loc"] for fault in caught.value.errors()]


# --- Page numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pages", "told"),
    [([0], "1"), ([0, 2, 3, 4], "1,3-5"), ([4, 3, 0, 3], "1,4-5"), ([0, 1], "1-2"), ([9, 99], "10,100"), ([], "")],
)
def test_pages_are_written_from_1_as_ranges(pages: list[int], told: str) -> None:
    """0-based numbers become the shortest 1-based string."""
    assert format_target_pages(pages) == told


@given(st.lists(st.integers(0, TARGET_PAGE_MAX - 1), min_size=1, max_size=60))
def test_page_ranges_survive_a_round_trip(pages: list[int]) -> None:
    """What is written in the one spelling comes back in the other: the same pages, each once."""
    assert list(parse_target_pages(format_target_pages(pages))) == sorted(set(pages))


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 50)), min_size=1, max_size=20))
def test_ranges_may_touch_and_overlap(ranges: list[tuple[int, int]]) -> None:
    """Any list of ranges means the pages that are in one of them, and spelled again it means the same."""
    told = ",".join(f"{first}-{first + more}" for first, more in ranges)
    pages = parse_target_pages(told)
    assert set(pages) == {page - 1 for first, more in ranges for page in range(first, first + more + 1)}
    assert len(set(pages)) == len(pages)
    assert parse_target_pages(format_target_pages(pages)) == pages


@pytest.mark.parametrize(
    "told", ["", "0", "1,", "a", "3-1", "1-", "-1", "1;2", "1.5", "٣", f"1-{TARGET_PAGE_MAX + 1}", "9" * 5000]
)
def test_what_names_no_pages_is_refused(told: str) -> None:
    """Page 0, a range backwards or without end, and anything else is a ValueError."""
    with pytest.raises(ValueError, match="page"):
        parse_target_pages(told)


# --- Creating -------------------------------------------------------------------------------------------------------


def test_a_create_names_its_file_and_key() -> None:
    """The file, what is to be done, the transaction, and a limit of pages even where none was set."""
    assert sent(spec(), "f", "t") == {
        "file_input": "f",
        "configuration": {"rules": [RULE], "mode": "FAST", "parsing_configuration": {"max_pages": 5}},
        "transaction_id": "t",
    }


@pytest.mark.parametrize(
    ("told", "limits"),
    [
        ({}, {"max_pages": 7}),
        ({"max_pages": 2}, {"max_pages": 2}),
        ({"lang": "de"}, {"max_pages": 7, "lang": "de"}),
        ({"target_pages": [4, 0, 3]}, {"max_pages": 7, "target_pages": "1,4-5"}),
        ({"target_pages": []}, {"max_pages": 7}),
        ({"target_pages": [*range(8), 7]}, {"max_pages": 8, "target_pages": "1-8"}),
        ({"target_pages": [*range(8)], "max_pages": 6}, {"max_pages": 6, "target_pages": "1-8"}),
    ],
)
def test_a_create_always_limits_the_pages(told: dict[str, Any], limits: dict[str, Any]) -> None:
    """`max_pages` is the configured one, else the one given, or as many as `target_pages` names where these are more;
    `target_pages` is written v2's way."""
    body = sent(spec(parsing_configuration=told), "f", "t", max_pages=7)
    assert body["configuration"]["parsing_configuration"] == limits
    CreateBody.model_validate(body)


def test_webhooks_go_out_as_on_v1() -> None:
    """Both versions send the same webhooks, with their headers in clear."""
    webhook = {"webhook_url": "https://x", "webhook_events": ["e"], "webhook_headers": {"k": "secret"}} | {
        "webhook_signing_secret": "signed",
        "webhook_output_format": "json",
    }
    told = spec(webhook_configurations=[webhook, {"webhook_url": "https://y"}])
    on_v1 = json.loads(v1.make_create_body(told, ["f"]).to_json())
    on_v2 = sent(told, "f", "t")
    assert on_v1["webhook_configurations"] == on_v2["webhook_configurations"] == [webhook, {"webhook_url": "https://y"}]


@pytest.mark.parametrize(
    ("over", "where"),
    [
        ({"file_input": None}, ("file_input",)),
        ({"file_input": "", "file_id": "f"}, ("file_input",)),
        ({"configuration": None}, ("configuration",)),
        ({"configuration": {"rules": []}}, ("configuration", "rules")),
        ({"configuration": {"rules": [RULE], "mode": "MULTIMODAL"}}, ("configuration", "mode")),
        ({"transaction_id": 7}, ("transaction_id",)),
        *(
            (
                {"configuration": {"rules": [RULE], "parsing_configuration": {name: value}}},
                ("configuration", "parsing_configuration", name),
            )
            for name, value in (("max_pages", 0), ("lang", "xx"), ("target_pages", [0]), ("target_pages", "0-2"))
        ),
    ],
)
def test_a_body_outside_the_documented_limits_is_refused(over: dict[str, Any], where: tuple[Any, ...]) -> None:
    """Each documented limit is checked, and the fault named by its place."""
    assert faults_of(**over) == [where]


@pytest.mark.parametrize("over", [{"file_id": "f"}, {"file_id": "f", "file_input": None}])
def test_the_old_name_of_the_file_is_taken(over: dict[str, Any]) -> None:
    """`file_id` stands for a `file_input` that isn't there."""
    assert CreateBody.model_validate({"configuration": {"rules": [RULE]}, **over}).file_input == "f"


def test_the_new_name_of_the_file_wins() -> None:
    """Where both are given, `file_input` is the file."""
    both = {"configuration": {"rules": [RULE]}, "file_id": "old", "file_input": "new"}
    assert CreateBody.model_validate(both).file_input == "new"


# --- Reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("PENDING", JobStatus.PENDING),
        ("RUNNING", JobStatus.PENDING),
        ("COMPLETED", JobStatus.SUCCESS),
        ("FAILED", JobStatus.ERROR),
        ("CANCELLED", JobStatus.CANCELLED),
        ("QUEUED", "QUEUED"),
    ],
)
def test_statuses_are_read_as_ours(theirs: str, ours: str) -> None:
    """Each word of v2 has one of ours; an unknown one stays as it is."""
    assert read(theirs).status == ours


@pytest.mark.parametrize("word", ["SUCCESS", "PARTIAL_SUCCESS", "ERROR", "success", "DONE", ""])
def test_words_that_v2_does_not_have_finish_nothing(word: str) -> None:
    """A job whose word means nothing on v2 isn't finished, although v1 may know it."""
    view = read(word, result=RESULT)
    assert (view.finished, view.answered, view.answer) == (False, False, None)


def test_a_completed_job_carries_its_answer() -> None:
    """The result is the answer on the job's file."""
    view = read(result=RESULT, transaction_id="t")
    assert view.answered
    assert view.answer == Answer("f", True, "invoice", 0.75, "because")
    assert view.transaction_id == "t"
    assert read(result=RESULT | {"type": None}).answer == Answer("f", True, None, 0.75, "because")


def test_a_completed_job_without_a_result_leaves_its_file_unanswered() -> None:
    """`result: null` is an unanswered file in an answered job; without `file_input` it is nobody's."""
    assert read().answered
    assert read().answer == Answer("f", answered=False)
    assert read(file_input=None).answer == Answer(None, answered=False)


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "FAILED", "CANCELLED"])
def test_only_a_completed_job_answers(status: str) -> None:
    """Other jobs have no answer, and a failed one says why."""
    view = read(status, error_message="TOO_MANY_PAGES")
    assert (view.answer, view.error_message) == (None, "TOO_MANY_PAGES")


@pytest.mark.parametrize(
    ("usage", "billed"),
    [({"credits": 3, "parse_credits": 3}, 3.0), ({"credits": 0.5}, 0.5), ({"credits": None}, None), (None, None),
     ({"credits": "3"}, None), ({"credits": True}, None), ([], None)],
)  # fmt: skip
def test_credits_are_read_where_the_answer_has_them(usage: object, billed: float | None) -> None:
    """What was billed, or None where nothing usable is said."""
    assert read(usage=usage).credits == billed


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"id":"","status":"PENDING"}', b'{"id":"j","status":7}',
                                  b'{"id":"j","status":"COMPLETED","result":{"type":7}}'])  # fmt: skip
def test_another_shape_is_a_value_error(body: bytes) -> None:
    """What everything rests on must be there: id, status, and a result that can be read."""
    with pytest.raises(ValueError):  # noqa: PT011 - the words are pydantic's
        read_job(body)


def test_a_page_shows_the_configuration_of_its_jobs() -> None:
    """Each job of a page with rules, mode, creation and pages from 0, and the token of the next page."""
    parsing = {"max_pages": 5, "target_pages": "1,3-5"}
    configuration = {"rules": [RULE], "mode": "FAST", "parsing_configuration": parsing}
    items = [job("RUNNING", configuration=configuration, created_at="2026-01-01T00:00:00Z"), job(result=RESULT)]
    page = read_jobs_page(json.dumps({"items": items, "next_page_token": "n", "total_size": 2}).encode())
    first, second = page.jobs
    assert page.next_page_token == "n"
    assert first.rules == frozenset({("invoice", "has line items and a total")})
    assert (first.mode, first.created_at_s) == ("FAST", 1767225600.0)
    assert first.parsing_configuration == {"max_pages": 5, "target_pages": [0, 2, 3, 4]}
    assert (second.rules, second.parsing_configuration) == (None, None)
    assert second.answer == Answer("f", True, "invoice", 0.75, "because")


def test_pages_that_cannot_be_read_stay_as_they_are() -> None:
    """A parsing configuration with odd pages is no reason to fail."""
    configuration = {"parsing_configuration": {"target_pages": "all"}}
    page = read_jobs_page(json.dumps({"items": [job(configuration=configuration)]}).encode())
    assert page.jobs[0].parsing_configuration == {"target_pages": "all"}


def test_only_the_jobs_asked_for_are_read_from_a_page() -> None:
    """Only those asked for, with their answers: a sweep needs no other call."""
    items = [job(id=each, result=RESULT) for each in "abc"]
    page = read_jobs_by_id(json.dumps({"items": items, "next_page_token": None}).encode(), {"a", "c", "x"})
    assert [view.job_id for view in page.jobs] == ["a", "c"]
    assert {view.answer for view in page.jobs} == {Answer("f", True, "invoice", 0.75, "because")}
    assert page.next_page_token is None
