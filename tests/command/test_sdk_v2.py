"""The judge of the sandbox's v2: the newest of the vendor's SDKs, which speaks nothing else.

Each test is a small script that runs in the SDK's environment, against a sandbox of its own.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.support.vendor_sdk import documents_served, printed, python_of, recorded_before, recorded_now

SDK = "llama-cloud>=2.16,<3"
ENVIRONMENT = ".venv-llama-cloud-2"

PRELUDE = """
import functools, json, llama_cloud, time
from datetime import datetime, timedelta
from llama_cloud import LlamaCloud
client = LlamaCloud(max_retries=0)
parsing = {"lang": "en", "max_pages": 2, "target_pages": "1,3-5"}
told = {"rules": rules, "mode": "FAST", "parsing_configuration": parsing}
jobs = client.classify

@functools.cache
def files():
    return [file.id for file in client.files.list()]

def create(file=0, configuration=told, **more):
    return jobs.create(file_input=files()[file], configuration=configuration, **more)

def wait(job, **more):
    return jobs.wait_for_completion(job.id, polling_interval=0.02, **more)

def refused(call):
    try:
        call()
    except llama_cloud.APIStatusError as error:
        return [type(error).__name__, error.response.text]
"""

SLOW = ("--job-duration-s", "600", "--job-duration-sigma", "0")

pytestmark = [pytest.mark.sdk, pytest.mark.slow]


@pytest.fixture(scope="session")
def sdk_python() -> Path:
    """The interpreter of the SDK's environment."""
    return python_of(ENVIRONMENT, SDK)


@pytest.fixture
def script(sdk_python: Path, tmp_path: Path) -> Any:
    """Runs a script with the SDK against three documents; gives what it printed last, as JSON."""

    def run(text: str, *options: str, key: str = "sandbox") -> Any:
        with documents_served(tmp_path, *options) as base_url:
            return printed(sdk_python, PRELUDE + text, base_url, key, ("-W", "error::UserWarning"))

    return run


def test_a_parse_job_stands_in_the_place_of_a_file(script: Any) -> None:
    """The SDK reads the parse job, classifies it, and is billed nothing: it says itself that `credits` is 0 then."""
    parsed, ended, of_file = script("""
job_id = f"pjb-{files()[0]}"
parsed = client.parsing.get(job_id).job
ended = wait(jobs.create(file_input=job_id, configuration=told))
of_file = wait(create())
got = jobs.get(ended.id, expand=["usage"])
print(json.dumps([each.model_dump(mode="json") for each in (parsed, got, of_file)]))
""")
    assert (parsed["status"], ended["status"]) == ("COMPLETED", "COMPLETED")
    assert (ended["document_input_type"], ended["file_input"], ended["parse_job_id"]) == (
        "parse_job_id",
        *[parsed["id"]] * 2,
    )
    assert (ended["usage"]["credits"], ended["usage"]["parse_credits"]) == (0.0, None)
    assert ended["result"] == of_file["result"]
    assert parsed["project_id"] == ended["project_id"]


def test_a_job_is_created_awaited_and_read(script: Any) -> None:
    """A job is created, waited for, and carries its typed answer; what it was sent comes back."""
    made, ended, got = script("""
job = create(transaction_id="once")
ended = wait(job)
print(json.dumps([each.model_dump(mode="json") for each in (job, ended, jobs.get(job.id))]))
""")
    assert (made["status"], made["result"], made["usage"]) == ("PENDING", None, None)
    assert (made["document_input_type"], made["transaction_id"]) == ("file_id", "once")
    parsing = {"lang": "en", "max_pages": 2, "target_pages": "1,3-5"}
    assert made["configuration"]["parsing_configuration"] == parsing
    assert (made["configuration"]["mode"], len(made["configuration"]["rules"])) == ("FAST", 2)
    assert (ended["status"], ended["result"]["type"], ended["id"]) == ("COMPLETED", "invoice", made["id"])
    assert 0 < ended["result"]["confidence"] <= 1
    assert ended["updated_at"] > ended["created_at"]
    assert got == ended
    assert got["file_input"] == made["file_input"]


def test_every_body_is_what_the_sdk_declares(script: Any) -> None:
    """Read strictly, no answer lacks a field or has one of another type, in any state of a job."""
    text = """
from llama_cloud.types import (ClassifyCancelResponse, ClassifyCreateResponse, ClassifyDeleteResponse,
                               ClassifyGetResponse, ClassifyListResponse)
raw = jobs.with_raw_response
seen = []

def strictly(response, model):
    body = response.http_response.json()
    for item in body["items"] if "items" in body else [body]:
        model.model_validate(item)
        assert set(item) <= set(model.model_fields), item
        seen.append(item.get("status", "deleted"))
    return body["items"][0] if "items" in body else body

first = strictly(raw.create(file_input=files()[0], configuration=told), ClassifyCreateResponse)
while strictly(raw.get(first["id"], expand=["usage"]), ClassifyGetResponse)["status"] != "COMPLETED":
    time.sleep(0.01)
second = strictly(raw.create(file_input=files()[0], configuration={"rules": rules}), ClassifyCreateResponse)
strictly(raw.cancel(second["id"]), ClassifyCancelResponse)
strictly(raw.list(), ClassifyListResponse)
strictly(raw.delete(first["id"]), ClassifyDeleteResponse)
print(json.dumps(sorted(set(seen))))
"""
    options = ("--job-duration-s", "4", "--job-duration-sigma", "0")
    assert script(text, *options) == ["CANCELLED", "COMPLETED", "PENDING", "RUNNING", "deleted"]


def test_the_one_call_helper_answers_each_file(script: Any) -> None:
    """The one-call helper answers each file by its words; a file that no rule fits has no type."""
    types = script("""
made = [jobs.run(file_input=file, configuration=told, polling_interval=0.02) for file in files()]
print(json.dumps([job.result.type for job in made]))
""")
    assert types == ["invoice", "contract", None]


def test_the_old_name_of_the_file_is_taken(script: Any) -> None:
    """`file_id`, deprecated, still names the file."""
    assert script("print(json.dumps(jobs.create(file_id=files()[1], configuration=told).file_input == files()[1]))")


def test_a_failed_job_says_why(script: Any) -> None:
    """A FAILED job is the SDK's PollingError, with a reason from the vendor's list."""
    words = script(
        """
try:
    wait(create())
except llama_cloud.PollingError as error:
    print(json.dumps(str(error)))
""",
        *("--fault", "error=1"),
    )
    assert "FAILED" in words
    assert "TIMEOUT" in words


def test_the_auto_pager_sees_every_job_once(script: Any) -> None:
    """The SDK's iterator walks through all pages of the list, newest first, of one project only."""
    made, listed, sizes = script("""
made = [create(project_id="pager").id for _ in range(8)]
create()
pages = list(jobs.list(page_size=3, project_id="pager").iter_pages())
listed = [job.id for job in jobs.list(page_size=3, project_id="pager")]
print(json.dumps([made, listed, [len(page.items) for page in pages]]))
""")
    assert listed == made[::-1]
    assert sizes == [3, 3, 2]


def test_the_list_is_filtered(script: Any) -> None:
    """By IDs, by status and by time, each alone and together, through the pages."""
    made, shown = script("""
made = []
for number in range(6):
    made.append(create(number % 3))
    time.sleep(0.01)
last = wait(made[-1])
for job in made:
    wait(job)
cut, ids = made[3].created_at, [job.id for job in made]
asked = {
    "ids": dict(job_ids=[ids[4], ids[0], ids[2], "nope"], page_size=2),
    "completed": dict(status="COMPLETED"),
    "running": dict(status="RUNNING"),
    "since": dict(created_at_on_or_after=cut, page_size=1),
    "until": dict(created_at_on_or_before=cut.isoformat()),
    "between": dict(created_at_on_or_after=cut, created_at_on_or_before=cut),
    "all three": dict(job_ids=ids[:2] + ids[4:], status="COMPLETED", created_at_on_or_after=cut),
}
shown = {name: [ids.index(job.id) for job in jobs.list(**query)] for name, query in asked.items()}
print(json.dumps([[job.result.type for job in jobs.list(job_ids=ids)], shown]))
""")
    assert made == [None, "contract", "invoice"] * 2
    assert shown == {
        "ids": [4, 2, 0],
        "completed": [5, 4, 3, 2, 1, 0],
        "running": [],
        "since": [5, 4, 3],
        "until": [3, 2, 1, 0],
        "between": [3],
        "all three": [5, 4],
    }


@pytest.mark.parametrize(("fault", "billed"), [("error=0", 1.0), ("error=1", 0.0), ("null_result=1", 0.0)])
def test_usage_is_shown_when_asked_for(script: Any, fault: str, billed: float) -> None:
    """`expand=usage` adds what was billed: an answered page, and nothing else; without it there is no usage."""
    plain, out, ended = script(
        """
job = create()
out = jobs.get(job.id, expand=["usage"]).usage
while jobs.get(job.id).status in ("PENDING", "RUNNING"):
    time.sleep(0.02)
ended = jobs.get(job.id, expand=["usage"]).usage
print(json.dumps([jobs.get(job.id).usage, out.model_dump(), ended.model_dump()]))
""",
        *("--fault", fault, "--job-duration-s", "3", "--job-duration-sigma", "0"),
    )
    assert plain is None
    assert out == {"credits": None, "parse_credits": None}
    assert ended == {"credits": billed, "parse_credits": billed}


def test_a_job_is_cancelled_and_deleted(script: Any) -> None:
    """A job in flight is cancelled, then deleted; each refuses the other's state, and what is gone is 404."""
    cancelled, deleted, errors = script(
        """
job = create()
errors = [refused(lambda: jobs.delete(job.id))]
cancelled = jobs.cancel(job.id)
errors.append(refused(lambda: jobs.cancel(job.id)))
deleted = jobs.delete(job.id)
errors += [refused(lambda: jobs.get(job.id)), refused(lambda: jobs.delete(job.id))]
print(json.dumps([cancelled.status, [deleted.id == job.id, len(list(jobs.list()))], errors]))
""",
        *SLOW,
    )
    assert (cancelled, deleted) == ("CANCELLED", [True, 0])
    assert [name for name, _ in errors] == ["BadRequestError"] * 2 + ["NotFoundError"] * 2


def test_a_transaction_is_one_job(script: Any) -> None:
    """The same transaction ID gives the original back, whatever else is sent; another project has its own."""
    same, file, kept, other, count = script("""
first = create(transaction_id="t")
wait(first)
again = create(1, configuration={"rules": rules[:1]}, transaction_id="t")
other = create(1, transaction_id="t", project_id="other")
print(json.dumps([again.id == first.id, again.file_input == files()[0], len(again.configuration.rules),
                  other.id == first.id, len(list(jobs.list()))]))
""")
    assert (same, file, kept, other, count) == (True, True, 2, False, 1)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("jobs.get('nope')", "NotFoundError", "Classify job not found"),
        ("jobs.cancel('nope')", "NotFoundError", "Classify job not found"),
        ("jobs.create(configuration=told)", "UnprocessableEntityError", "file_input"),
        ("jobs.create(file_input='x')", "UnprocessableEntityError", "configuration"),
        ("create(configuration={'rules': []})", "UnprocessableEntityError", "rules"),
        ("create(configuration={**told, 'mode': 'MULTIMODAL'})", "UnprocessableEntityError", "mode"),
        ("jobs.create(file_input='x', configuration=told)", "BadRequestError", "File ID x is not in Project ID"),
        ("jobs.list(page_size=101)", "UnprocessableEntityError", "page_size"),
        ("jobs.list(status='DONE')", "UnprocessableEntityError", "status"),
    ],
)
def test_refusals_arrive_as_the_sdks_errors(script: Any, call: str, error: str, words: str) -> None:
    """Each refusal becomes the SDK's own class of error, with the server's words."""
    name, body = script(f"print(json.dumps(refused(lambda: {call})))")
    assert name == error
    assert words in body


def test_a_wrong_key_is_an_authentication_error(script: Any) -> None:
    """The SDK says that the key is wrong."""
    name, body = script("print(json.dumps(refused(jobs.list)))", key="wrong")
    assert name == "AuthenticationError"
    assert "Invalid API key" in body


def test_creates_a_second_are_limited(script: Any) -> None:
    """Creates beyond the limit are the SDK's RateLimitError, and no job; reads go on."""
    errors, listed = script(
        """
errors = [refused(create) for _ in range(10)]
print(json.dumps([[error for error in errors if error], len(list(jobs.list()))]))
""",
        *("--creates-per-s", "2"),
    )
    assert {name for name, _ in errors} == {"RateLimitError"}
    assert all("Rate limit exceeded" in words for _, words in errors)
    assert listed == 10 - len(errors)


def test_the_recorded_requests_are_what_the_sdk_sends(sdk_python: Path) -> None:
    """Nobody wrote them by hand: recorded again, they are the same; what is read, too, unless the SDK is newer."""
    now, before = recorded_now(sdk_python, "v2"), recorded_before("v2")
    assert now["requests"] == before["requests"]
    assert now["answers"] == before["answers"] or now["sdk"] != before["sdk"]
