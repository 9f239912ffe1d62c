"""Answers are read leniently, say what is missing, and are the same however they are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from classify_batch.model import Answer
from classify_batch.protocol import v1, v2
from classify_batch.protocol.answers import AnswerModel, AnswerReader, Page, Result, RuleAnswer, parse_time_s
from classify_batch.protocol.file_bodies import StoredFile, read_file_ids_page, read_stored_file, read_stored_files_page
from classify_batch.protocol.json_shape import NotJsonError
from classify_batch.protocol.quick_readers import QuickReader, QuickResult
from classify_batch.protocol.sanitize import parse_error_detail

SURROGATE = "\ud800"
JOB_ID, OTHER_JOB_ID = "0a6b7c1e-3d2f-4a5b-8c9d-0e1f2a3b4c5d", "0a6b7c1e-3d2f-4a5b-8c9d-0e1f2a3b4c5e"
DEEP: list[Any] = [[]]  # deeper than pydantic reads, and not than `json` does
for _ in range(300):
    DEEP = [DEEP]


def encode(body: object) -> bytes:
    return json.dumps(body).encode()


# --- What passes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [v1, v2])
def test_unknown_fields_and_states_pass(module: Any) -> None:
    """What the vendor adds tomorrow stops nothing; an unknown state is not finished."""
    job = module.read_job(encode({"id": "j", "status": "QUEUED", "tomorrow": {"a": [1]}}))
    assert (job.job_id, job.status, job.finished) == ("j", "QUEUED", False)


@pytest.mark.parametrize("odd", [None, 7, True, [], {}, ["x"], 1.5])
@pytest.mark.parametrize(("module", "name"), [
    *((v1, name) for name in v1.Job.model_fields), *((v2, name) for name in v2.Job.model_fields)
])  # fmt: skip
def test_only_what_everything_rests_on_must_be_right(module: Any, name: str, odd: object) -> None:
    """A field that is missing or odd is None, but for an ID, a state and an answer."""
    if name in ("id", "status") or (name == "result" and odd is not None and odd != {}):
        with pytest.raises(ValueError, match=name):
            module.JOBS.job.read(encode({"id": "j", "status": "s", name: odd}))
        return
    job = module.JOBS.job.read(encode({"id": "j", "status": "s", name: odd}))
    assert job.to_view().job_id == "j"
    if isinstance(odd, bool | float):
        assert getattr(job, name) is None


@pytest.mark.parametrize(
    ("module", "written", "read"),
    [
        (v1, "success", "SUCCESS"),
        (v1, " Partial_Success\n", "PARTIAL_SUCCESS"),
        (v1, "queued", "queued"),
        (v1, "succe ss", "succe ss"),
        (v2, "completed", "SUCCESS"),
        (v2, " Failed ", "ERROR"),
        (v2, "running", "PENDING"),
        (v2, "success", "v2 success"),
        (v2, "queued", "queued"),
    ],
)
def test_a_status_is_read_in_any_spelling(module: Any, written: str, read: str) -> None:
    """Letter case and blanks around it say nothing; a status that is unknown stays as it is, and unfinished."""
    job = encode({"id": "j", "status": written, "result": {"type": "a"}, "file_input": "f"})
    page = encode({"items": [json.loads(job)]})
    for view in (module.read_job(job), *module.read_jobs_page(page).jobs, *module.read_jobs_by_id(page, {"j"}).jobs):
        assert (view.status, view.finished) == (read, read in ("SUCCESS", "PARTIAL_SUCCESS", "ERROR"))
        assert (view.answer is not None) == (module is v2 and read == "SUCCESS")


def test_a_lone_surrogate_is_read() -> None:
    """JSON can spell it, and servers send it: in a text that decides, too."""
    item = {"file_id": "f", "result": {"type": SURROGATE, "confidence": 0.5, "reasoning": SURROGATE}}
    (read,) = v1.read_result_page(encode({"items": [item]})).items
    assert read.answer() == Answer("f", True, SURROGATE, 0.5, SURROGATE)
    for module in (v1, v2):
        job = module.read_job(encode({"id": SURROGATE, "status": SURROGATE, "error_message": SURROGATE}))
        assert (job.job_id, job.status, job.error_message) == (SURROGATE, SURROGATE, SURROGATE)
    assert read_stored_file(encode({"id": SURROGATE, "name": SURROGATE})).name == SURROGATE


def test_a_number_that_is_none_is_read() -> None:
    """NaN and infinity are no JSON, and come all the same."""
    data = b'{"items":[{"file_id":"f","result":{"type":"t","confidence":NaN}}],"total_size":Infinity}'
    page = v1.read_result_page(data)
    assert page.items[0].answer().confidence is None
    assert page.total_size is None
    job = v2.read_job(b'{"id":"j","status":"COMPLETED","usage":{"credits":Infinity}}')
    assert job.credits is None


def test_values_nested_deeply_are_read() -> None:
    """Where they are in a field that nobody needs."""
    assert v1.read_job(encode({"id": "j", "status": "s", "deep": DEEP})).job_id == "j"
    data = encode({"items": [{"id": "j", "status": "s", "deep": DEEP}]})
    assert [job.job_id for job in v2.read_jobs_by_id(data, {"j"}).jobs] == ["j"]


def test_whole_numbers_stay_whole() -> None:
    """A confidence of 1 is written to the results as 1, as it came."""
    data = encode({"items": [{"file_id": "f", "result": {"confidence": 1}}]})
    for read in (v1.read_result_page, v1.RESULTS.read):
        page: Any = read(data)
        assert repr(page.items[0].answer().confidence) == "1"


# --- What is refused --------------------------------------------------------------------------------------------------

READERS: list[Callable[[bytes], object]] = [
    v1.read_job,
    v1.read_jobs_page,
    lambda data: v1.read_jobs_by_id(data, {"j"}),
    v1.read_result_page,
    v2.read_job,
    v2.read_jobs_page,
    lambda data: v2.read_jobs_by_id(data, {"j"}),
    read_stored_file,
    read_stored_files_page,
    read_file_ids_page,
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("data", [b"", b"<html>", b"\xff\xfe\x00", b'{"id":', b"[" * 100_000])
def test_what_is_no_json_is_distinguished(read: Callable[[bytes], object], data: bytes) -> None:
    """An error of its own, since something between here and the API may have answered."""
    with pytest.raises(NotJsonError):
        read(data)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("data", [b"[]", b"7", b"null", b"{}", b'{"items":{}}'])
def test_json_of_another_shape_is_refused(read: Callable[[bytes], object], data: bytes) -> None:
    """As an error of another kind."""
    with pytest.raises(ValueError, match=r"Field required|Input should be") as caught:
        read(data)
    assert not isinstance(caught.value, NotJsonError)


@pytest.mark.parametrize(
    ("read", "body", "words"),
    [
        (v1.read_job, {"id": "j"}, "status: Field required"),
        (v1.read_job, {"status": "s"}, "id: Field required"),
        (v2.read_job, {"id": "", "status": "s"}, "id: "),
        (v1.read_jobs_page, {"items": [{"id": "j", "status": "s"}, {"id": "j"}]}, r"items\.1\.status: Field required"),
        (v1.read_result_page, {"items": [{"result": {"type": 7}}]}, r"items\.0\.result\.type: Input should be"),
        (v1.read_result_page, {}, "items: Field required"),
        (read_file_ids_page, {"items": [{}]}, r"items\.0\.id: Field required"),
        (read_stored_file, [], "the body: Input should be"),
    ],
)
def test_what_is_missing_is_said(read: Callable[[bytes], object], body: object, words: str) -> None:
    """The field and the reason."""
    with pytest.raises(ValueError, match=words):
        read(encode(body))


def test_an_error_says_no_value_and_ends() -> None:
    """What a field holds may be a secret, and a page may hold a thousand errors."""
    page = {"items": [{"id": "j", "status": {"x": "a-secret-word"}}] * 1000}
    with pytest.raises(ValueError, match="and 995 more") as caught:
        v1.read_jobs_page(encode(page))
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 500


# --- Quickly or by the model ------------------------------------------------------------------------------------------

TEXTS = st.sampled_from(["", "a", "ñ\U0001f600", "2026-01-01T00:00:00Z", "COMPLETED", "SUCCESS"]) | st.text(max_size=9)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.just(1.0)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
HARD = st.sampled_from([SURROGATE, float("nan"), float("-inf"), 2**64, 10**30])
"""What msgspec leaves to the model, wherever it stands: so it is no part of most bodies."""
ANYTHING = st.recursive(
    SCALARS | HARD, lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXTS, each, max_size=3)
)


def pages(items: st.SearchStrategy[Any]) -> Any:
    return st.fixed_dictionaries(
        {"items": st.lists(items, max_size=4)}, optional={"next_page_token": SCALARS, "total_size": SCALARS}
    )


def objects(strict: dict[str, st.SearchStrategy[Any]], lenient: str, odd: st.SearchStrategy[Any] | None = None) -> Any:
    """Objects whose fields may be missing. Lenient ones hold anything; strict ones what they should, or `odd`."""
    fields = {name: each if odd is None else each | odd for name, each in strict.items()}
    return st.fixed_dictionaries({}, optional={**fields, **dict.fromkeys([*lenient.split(), "tomorrow"], SCALARS)})


def bodies(odd: st.SearchStrategy[Any] | None) -> tuple[Any, Any]:
    """Pages of jobs, and pages of results: that can be read, or with `odd` things where everything rests on them."""
    result = st.none() | objects({"type": st.none() | TEXTS, "confidence": st.none() | NUMBERS}, "reasoning", odd)
    named = {"id": st.sampled_from(["j", "k"]), "status": TEXTS}
    lenient = "project_id created_at error_message file_input transaction_id"
    usage = st.fixed_dictionaries({}, optional={"credits": SCALARS, "parse_credits": SCALARS})
    rest = objects({"result": result, "usage": usage}, lenient, odd)
    job = st.builds(
        lambda needed, more: {**more, **needed},
        objects(named, "", odd) if odd is not None else st.fixed_dictionaries(named),
        rest,
    )
    return pages(job), pages(objects({"result": result}, "id file_id", odd))


READABLE_JOBS, READABLE_RESULTS = bodies(None)
ODD_JOBS, ODD_RESULTS = bodies(ANYTHING)


def page_of(value: object, result: object) -> dict[str, Any]:
    """A page in which each field that may be odd has this value; it fits jobs and results."""
    names = ("project_id", "created_at", "error_message", "file_input", "transaction_id", "file_id", "configuration")
    usage = {"credits": value, "parse_credits": value}
    item = {**dict.fromkeys(names, value), "id": "j", "status": "COMPLETED", "usage": usage, "result": result}
    return {"items": [item], "next_page_token": value, "total_size": value}


def outcome(read: Callable[[], object]) -> str:
    """What a reader gives, spelled out so that NaN equals NaN and 1 differs from 1.0; or that it refuses."""
    try:
        return repr(read())
    except ValueError as error:
        return f"refused: {isinstance(error, NotJsonError)}"


@pytest.mark.parametrize("token", [True, 1.5, [], {}, {"offset": 100}])
def test_a_page_whose_next_token_is_none_is_refused(token: object) -> None:
    """Taken for the end of a list, it would prove that a job isn't there, or that files have no answer: both would be
    paid again."""
    data = encode({"items": [], "next_page_token": token})
    by_id = partial(v1.read_jobs_by_id, job_ids=())
    for read in (v1.read_jobs_page, by_id, v1.read_result_page, v1.RESULTS.read, v2.read_jobs_page, read_file_ids_page):
        with pytest.raises(ValueError, match="next_page_token"):
            read(data)


@pytest.mark.parametrize(("token", "taken"), [(100, "100"), (0, "0"), ("t", "t"), ("", None), (None, None)])
def test_a_number_is_a_page_token_too(token: object, taken: str | None) -> None:
    """A server may count its pages, or name an offset; the empty string is no token, nor is null."""
    data = encode({"items": [], "next_page_token": token})
    assert v1.read_jobs_page(data).next_page_token == taken
    assert v1.read_jobs_by_id(data, ()).next_page_token == taken
    assert v1.read_result_page(data).next_page_token == taken
    assert read_file_ids_page(data)[1] == taken


@settings(max_examples=200, deadline=None)
@example(page_of(True, {"type": None, "confidence": 1, "reasoning": False}))
@example(page_of(3, {"type": "t", "confidence": 1.0, "reasoning": 7}))
@example(page_of("3", {"type": "t", "confidence": "high"}))
@example(page_of(None, {"type": "t", "confidence": True}))
@given(READABLE_JOBS | ODD_JOBS | ANYTHING)
def test_jobs_are_the_same_quickly_and_by_their_model(body: object) -> None:
    """Whatever a server sends: the same jobs, the same token, or refused by both."""
    data = encode(body)
    for module in (v1, v2):
        model: AnswerReader[Page[Any]] = module.JOBS.page

        def by_model(model: AnswerReader[Page[Any]] = model) -> object:
            page = model.read(data)
            return tuple(job.summary() for job in page.items if job.id == "j"), page.next_token

        def quickly(module: Any = module) -> object:
            page = module.read_jobs_by_id(data, ("j",))
            return page.jobs, page.next_page_token

        assert outcome(quickly) == outcome(by_model)


@settings(max_examples=200, deadline=None)
@example(page_of(True, {"type": None, "confidence": 1, "reasoning": False}))
@example(page_of(3, {"type": "t", "confidence": 1.0, "reasoning": 7}))
@example(page_of("3", {"type": "t", "confidence": "high"}))
@example(page_of(None, {"type": "t", "confidence": True}))
@given(READABLE_RESULTS | ODD_RESULTS | ANYTHING)
def test_results_are_the_same_quickly_and_by_their_model(body: object) -> None:
    """Whatever a server sends: the same answers, token and total, or refused by both."""
    data = encode(body)

    def by_model() -> object:
        page = v1.RESULTS.read(data)
        return [(item.identity, item.answer()) for item in page.items], page.next_token, page.total

    def quickly() -> object:
        page = v1.read_result_page(data)
        return [(item.identity, item.answer()) for item in page.items], page.next_page_token, page.total_size

    assert outcome(quickly) == outcome(by_model)


def test_the_quick_readers_read_something() -> None:
    """A page of the usual kind is not left to the model."""
    job, item = {"id": "j", "status": "PENDING"}, {"id": "i", "file_id": "f", "result": {"type": "t", "confidence": 1}}
    for module in (v1, v2):
        assert type(module.JOBS.quick_page.read(encode({"items": [job]})).items[0]).__name__ == "QuickJob"
    assert type(v1.read_result_page(encode({"items": [item]})).items[0]).__name__ == "QuickItem"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (v1.ResultBody, Result),
        (v1.ItemBody, v1.ResultItem),
        (v2.RuleBody, RuleAnswer),
        (v2.ConfigurationBody, v2.ConfigurationAnswer),
        (v2.UsageBody, v2.Usage),
    ],
)
def test_what_the_sandbox_writes_is_what_is_read(written: Any, read: type[AnswerModel]) -> None:
    """Field by field, by the same names."""
    assert set(written.__annotations__) == set(read.model_fields)


# --- Files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_with_what_it_says() -> None:
    """An odd name or time is None."""
    file = read_stored_file(encode({"id": "f", "name": 7, "expires_at": "2026-01-01T00:00:00Z"}))
    assert file == StoredFile(id="f", expires_at="2026-01-01T00:00:00Z")
    assert file.expires_at_s == parse_time_s("2026-01-01T00:00:00Z") == 1767225600.0
    assert read_stored_file(encode({"id": "f", "expires_at": "soon"})).expires_at_s is None


UNSET_TIMES = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
)
"""What servers write in the place of no time, and what no other program reads."""


@pytest.mark.parametrize("time", UNSET_TIMES)
def test_a_time_that_stands_for_none_is_none(time: str) -> None:
    """A file of that `expires_at` never expires, and a job of that `created_at` may have been made at any time."""
    assert parse_time_s(time) is None
    assert parse_time_s("9999-12-31T23:59:59.999Z") is not None
    assert parse_time_s("1970-01-01T00:00:00Z") == 0.0


@pytest.mark.parametrize("digits", ["1" + "0" * 400, "1e400", "-" + "9" * 401])
def test_a_confidence_that_no_float_holds_is_none(digits: str) -> None:
    """JSON knows no bound; what is written down must be read back by every command."""
    body = f'{{"type": "a", "confidence": {digits}, "reasoning": "x"}}'.encode()
    assert AnswerReader(Result).read(body).answer_about("f").confidence is None
    assert QuickReader(QuickResult, AnswerReader(Result)).read(body).answer_about("f").confidence is None


@pytest.mark.parametrize(
    ("written", "confidence"),
    [
        ("0.93", 0.93),
        (" 1 ", 1.0),
        ("9.3E-1", 0.93),
        ("1.5", 1.5),
        *((odd, None) for odd in ("high", "", "NaN", "Infinity", "1e400", "0,93", "93%", "0_9", "\u0661")),
        *((odd, None) for odd in (True, False, [0.9], {"value": 0.9})),
    ],
)
def test_a_confidence_may_be_a_number_in_a_text(written: object, confidence: float | None) -> None:
    """Whatever else it is decides nothing, and is said; the answer counts."""
    item = {"file_id": "f", "result": {"type": "a", "confidence": written}}
    expected = Answer("f", True, "a", confidence, None, confidence is None)
    for read in (v1.read_result_page, v1.RESULTS.read):
        page: Any = read(encode({"items": [item]}))
        assert page.items[0].answer() == expected
    job = encode({"id": "j", "status": "COMPLETED", "file_input": "f", "result": item["result"]})
    assert v2.read_job(job).answer == v2.JOBS.job.read(job).summary().answer == expected


@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0, 1.5, -0.5, None, 1])
def test_other_confidences_are_kept_as_they_are(confidence: float | None) -> None:
    """Also those outside 0 to 1, which are reported."""
    assert Result(type="a", confidence=confidence).answer_about("f").confidence == confidence


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "Forbidden"}, '{"message": "Forbidden"}'),
        ({"error": {"message": "no such file: é\x1b[31m"}}, '{"error": {"message": "no such file: é\\u001b[31m"}}'),
        ({"detail": {"code": 7}}, '{"detail": {"code": 7}}'),
        ({"detail": ["one", "two"]}, '{"detail": ["one", "two"]}'),
        (["no"], '["no"]'),
        ({}, ""),
        (None, ""),
        ({"detail": "as documented"}, "as documented"),
    ],
)
def test_an_error_of_another_shape_says_what_its_json_says(body: object, words: str) -> None:
    """Gateways have shapes of their own, and a refusal without a reason helps nobody."""
    assert parse_error_detail(body) == (words, ())


@pytest.mark.parametrize(("shown", "named"), [("", None), (" ", None), (" f-1\n", "f-1"), ("f-1", "f-1")])
@pytest.mark.parametrize("result", [None, {"type": "invoice"}])
def test_blanks_name_no_file(shown: str, named: str | None, result: dict[str, str] | None) -> None:
    """No file ID has any: one in blanks is that file's, and an empty one names none, whoever reads it."""
    item = {"file_id": shown, "result": result}
    answers = [v1.ResultItem.model_validate(item).answer(), msgspec.convert(item, v1.QuickItem).answer()]
    assert [each.file_id for each in answers] == [named, named]


@pytest.mark.parametrize(
    ("shown", "names_own"),
    [
        ([JOB_ID], True),
        ([JOB_ID.upper()], True),
        ([OTHER_JOB_ID, JOB_ID], True),
        ([None, 7, ""], None),
        ([], None),
        ([OTHER_JOB_ID], False),
        ([None, OTHER_JOB_ID], False),
        ([OTHER_JOB_ID, "one more"], None),
    ],
)
@pytest.mark.parametrize("read", [v1.read_result_page, v1.RESULTS.read])
def test_results_that_name_only_other_jobs_are_not_this_jobs(
    read: Callable[[bytes], Any], shown: list[object], names_own: bool | None
) -> None:
    """They say nothing of its files: taken for its results, they would show a lost job as somebody else's."""
    items = [{"classify_job_id": each, "file_id": "f-1", "result": None} for each in shown]
    assert v1.names_own_job(read(encode({"items": items})).items, JOB_ID) is names_own
