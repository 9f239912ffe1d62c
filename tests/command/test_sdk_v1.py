"""The sandbox's judge: the vendor's own SDK, the last generation that speaks v1 throughout.

Each test is a small script that runs in the SDK's environment, against one sandbox.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.vendor_sdk import documents_served, printed, python_of, recorded_before, recorded_now

SDK = "llama-cloud==1.6.0"
ENVIRONMENT = ".venv-llama-cloud-1.6.0"

PRELUDE = """
import json, llama_cloud
from llama_cloud import LlamaCloud
client = LlamaCloud(max_retries=0)
jobs = client.classifier.jobs
"""

pytestmark = [pytest.mark.sdk, pytest.mark.slow]


@pytest.fixture(scope="session")
def sdk_python() -> Path:
    """The interpreter of the SDK's environment."""
    return python_of(ENVIRONMENT, SDK)


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A sandbox with three documents and small pages of jobs."""
    with documents_served(tmp_path_factory.mktemp("documents"), "--list-page-size-max", "3") as served:
        yield served


@pytest.fixture
def script(sdk_python: Path, base_url: str) -> Any:
    """Runs a script with the SDK; gives what it printed last, as JSON."""

    def run(text: str, key: str = "sandbox") -> Any:
        return printed(sdk_python, PRELUDE + text, base_url, key)

    return run


def test_create_get_and_results(script: Any) -> None:
    """A job is created, polled to its end, and its typed results name each file once."""
    job, status, results = script("""
files = [file.id for file in client.files.list()]
job = jobs.create(file_ids=files, rules=rules, mode="FAST", parsing_configuration={"lang": "en", "max_pages": 2})
client.classifier.wait_for_completion(job.id, polling_interval=0.05)
results = jobs.get_results(job.id)
print(json.dumps([job.model_dump(mode="json"), jobs.get(job.id).status, results.model_dump(mode="json")]))
""")
    assert (job["status"], status, job["mode"]) == ("PENDING", "SUCCESS", "FAST")
    assert (job["parsing_configuration"]["lang"], job["parsing_configuration"]["max_pages"]) == ("en", 2)
    assert [item["result"]["type"] for item in results["items"]] == ["invoice", "contract", None]
    assert all(item["classify_job_id"] == job["id"] for item in results["items"])


def test_the_one_call_helper_answers_each_file(script: Any) -> None:
    """The one-call helper creates, waits and returns the answers."""
    types = script("""
files = [file.id for file in client.files.list()]
results = client.classifier.classify(file_ids=files, rules=rules, polling_interval=0.05)
print(json.dumps({item.file_id: item.result.type for item in results.items}))
""")
    assert sorted(map(str, types.values())) == ["None", "contract", "invoice"]


def test_the_auto_pager_sees_every_job_once(script: Any) -> None:
    """The SDK's pager walks through all pages of the list, newest first."""
    made, listed, sizes = script("""
(file,) = [file.id for file in client.files.list(file_name="1.txt")]
made = [jobs.create(file_ids=[file], rules=rules, project_id="pager").id for _ in range(8)]
pages = list(jobs.list(page_size=3, project_id="pager").iter_pages())
listed = [job.id for job in jobs.list(page_size=3, project_id="pager")]
print(json.dumps([made, listed, [len(page.items) for page in pages]]))
""")
    assert listed == made[::-1]
    assert sizes == [3, 3, 2]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("jobs.get('nope')", "NotFoundError", "Classify job not found"),
        ("jobs.get_results('nope')", "NotFoundError", "Classify job not found"),
        ("jobs.create(file_ids=[], rules=rules)", "UnprocessableEntityError", "file_ids"),
        ("jobs.create(file_ids=['x'], rules=[])", "UnprocessableEntityError", "rules"),
        ("jobs.create(file_ids=['x'], rules=rules)", "BadRequestError", "File ID x is not in Project ID"),
        ("jobs.list(page_size=4)", "UnprocessableEntityError", "page_size"),
    ],
)
def test_refusals_arrive_as_the_sdks_errors(script: Any, call: str, error: str, words: str) -> None:
    """Each refusal becomes the SDK's own class of error, with the server's words."""
    name, body = script(f"""
try:
    {call}
except llama_cloud.APIStatusError as error:
    print(json.dumps([type(error).__name__, error.response.text]))
""")
    assert name == error
    assert words in body


def test_a_wrong_key_is_an_authentication_error(script: Any) -> None:
    """The SDK says that the key is wrong."""
    text = """
try:
    jobs.list()
except llama_cloud.AuthenticationError as error:
    print(json.dumps(error.response.json()))
"""
    assert script(text, key="wrong")["detail"].startswith("Invalid API key")


def test_the_recorded_bodies_are_what_the_sdk_sends_and_reads(sdk_python: Path) -> None:
    """Nobody wrote them by hand: recorded again, they are the same."""
    assert recorded_now(sdk_python, "v1") == recorded_before("v1")
