"""The sandbox's judge: the vendor's own SDK, the last generation that speaks v1 throughout.

It lives in an environment of its own, `.venv-llama-cloud-1.6.0` at the project's root, so that what it needs never
meets what this package needs. Each test is a small script that runs there.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

SDK = "llama-cloud==1.6.0"
ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-llama-cloud-1.6.0"

PRELUDE = """
import json, llama_cloud
from llama_cloud import LlamaCloud
client = LlamaCloud(max_retries=0)
rules = [{"type": "invoice", "description": "an invoice with line items and a total amount"},
         {"type": "contract", "description": "a contract between parties with obligations"}]
jobs = client.classifier.jobs
"""

pytestmark = [pytest.mark.sdk, pytest.mark.slow]


@pytest.fixture(scope="session")
def sdk_python() -> Path:
    """The interpreter of the SDK's environment, which is made if it isn't there."""
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "complete"
    ENVIRONMENT.mkdir(exist_ok=True)
    with FileLock(ENVIRONMENT / "lock"):
        if not stamp.exists():  # where it was left half made, both commands go on
            subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
            pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", SDK]
            subprocess.run(pip, check=True)
            stamp.write_text(SDK + "\n")
    return python


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A sandbox with three documents and small pages of jobs."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "1.txt").write_text("Invoice 17: line items, total amount 30 EUR")
    (folder / "2.txt").write_text("This contract binds both parties to their obligations")
    (folder / "3.txt").write_text("A walk along the river")
    options = ["--documents", str(folder), "--list-page-size-max", "3", "--job-duration-s", "0.05"]
    command = [sys.executable, "-m", "classify_batch", "sandbox", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture
def script(sdk_python: Path, base_url: str) -> Any:
    """Runs a script with the SDK; gives what it printed last, as JSON."""

    def run(text: str, key: str = "sandbox") -> Any:
        environment = {**os.environ, "LLAMA_CLOUD_API_KEY": key, "LLAMA_CLOUD_BASE_URL": base_url}
        environment.pop("PYTHONPATH", None)
        command = [str(sdk_python), "-c", PRELUDE + text]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

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


def test_classify(script: Any) -> None:
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
