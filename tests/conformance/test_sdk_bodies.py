"""Client and sandbox share their models of a body, so neither can find a mistake in them: the vendor's own SDKs do.

`sdk_bodies` holds what SDK 1.6.0 (v1) and 2.19.0 (v2) sent, and what they read from answers. A test that drives the
SDKs proves that they still do (`tests/command`).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Awaitable, Callable
from email import message_from_bytes
from email.message import Message
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from classify_batch.clock import SystemClock
from classify_batch.limits import RequestGate
from classify_batch.llamacloud.access import ApiAccess
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.file_client import FileClient
from classify_batch.model import JobView
from classify_batch.protocol import file_bodies, v1, v2
from classify_batch.protocol.answers import AnswerModel, AnswerReader, Page, parse_time_s
from classify_batch.protocol.requests import RequestModel
from classify_batch.sandbox import Options, open_sandbox
from classify_batch.sandbox.server.upload_form import UploadForm
from classify_batch.settings.job_spec import JobSpec

VERSIONS = ("v1", "v2")
CONTENT = b"\r\n--boundary of another\r\n\x00\xff"
"""Of the files that the SDKs uploaded."""
CREATE_MODELS: dict[str, type[RequestModel]] = {"v1": v1.CreateBody, "v2": v2.CreateBody}
JOBS_PATHS = {"v1": v1.JOBS_PATH, "v2": v2.JOBS_PATH}
READERS: dict[tuple[str, str], AnswerReader[AnswerModel]] = {
    ("v1", "job"): v1.JOBS.job,
    ("v1", "jobs"): v1.JOBS.page,
    ("v1", "results"): v1.RESULTS,
    ("v2", "job"): v2.JOBS.job,
    ("v2", "jobs"): v2.JOBS.page,
    **{(version, "file"): AnswerReader(file_bodies.StoredFile) for version in VERSIONS},
    **{(version, "files"): AnswerReader(Page[file_bodies.StoredFile]) for version in VERSIONS},
}


@cache
def recorded(version: str) -> Any:
    return json.loads((Path(__file__).parent / "sdk_bodies" / f"{version}.json").read_text())


def recorded_requests(kind: str) -> list[Any]:
    """Each recorded request of a kind, with its version and name."""
    return [
        pytest.param(version, name, request, id=f"{version} {name}")
        for version in VERSIONS
        for name, request in recorded(version)["requests"].items()
        if name.startswith(kind)
    ]


def recorded_answers(*kinds: str) -> list[Any]:
    """Each recorded answer of these kinds, with its version."""
    return [
        pytest.param(version, answer, id=f"{version} {answer['kind']} {answer['name']}")
        for version in VERSIONS
        for answer in recorded(version)["answers"]
        if answer["kind"] in kinds
    ]


# --- Creates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "name", "request_"), recorded_requests("create"))
def test_a_create_of_the_sdk_fits_the_request_model(version: str, name: str, request_: Any) -> None:
    """It is read, and written again with every field; one beyond the documented limits is refused."""
    model, body = CREATE_MODELS[version], request_["json"]
    if "refused" in name:
        with pytest.raises(ValidationError):
            model.model_validate_json(json.dumps(body))
        return
    assert json.loads(model.model_validate_json(json.dumps(body)).to_json()) == body


@pytest.mark.parametrize(("version", "name", "request_"), recorded_requests("create"))
def test_the_sandbox_takes_a_create_of_the_sdk(version: str, name: str, request_: Any) -> None:
    """It makes a job; one beyond the documented limits is a 422."""

    async def post(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(request_["path"], json=request_["json"])

    response = talk(post)
    assert (response.status_code, request_["path"]) == (422 if "refused" in name else 200, JOBS_PATHS[version])


@pytest.mark.parametrize(("version", "name"), [("v1", "with mode"), ("v1", "all"), ("v2", "all")])
def test_our_create_is_the_body_that_the_sdk_sends(version: str, name: str) -> None:
    """For the same arguments, field by field."""
    arguments = recorded(version)["requests"][f"create: {name}"]["arguments"]
    theirs = recorded(version)["requests"][f"create: {name}"]["json"]
    ours = v1_create(arguments) if version == "v1" else v2_create(arguments)
    assert json.loads(ours.to_json()) == theirs


def v1_create(arguments: dict[str, Any]) -> RequestModel:
    spec = JobSpec.model_validate({name: value for name, value in arguments.items() if name != "file_ids"})
    return v1.make_create_body(spec, arguments["file_ids"])


def v2_create(arguments: dict[str, Any]) -> RequestModel:
    configuration = arguments["configuration"]
    # A spec counts its pages from 0: these are the pages 1, 3, 4 and 5.
    parsing = configuration["parsing_configuration"] | {"target_pages": [0, 2, 3, 4]}
    assert configuration["parsing_configuration"]["target_pages"] == "1,3-5"
    webhooks = {"webhook_configurations": arguments["webhook_configurations"]}
    spec = JobSpec.model_validate({**configuration, **webhooks, "parsing_configuration": parsing})
    return v2.make_create_body(spec, arguments["file_input"], arguments["transaction_id"])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_create_shows_no_secret(version: str) -> None:
    """Webhook headers go out in clear, and stand in no repr and in no error."""
    body = recorded(version)["requests"]["create: newer webhook"]["json"]
    create = CREATE_MODELS[version].model_validate(body)
    with pytest.raises(ValidationError) as caught:
        CREATE_MODELS[version].model_validate(
            {**body, "webhook_configurations": [{"webhook_headers": "a-secret-word"}]}
        )
    for text in (repr(create), str(create), str(caught.value)):
        assert "secret" not in text.replace("webhook_signing_secret", "")
    assert b"a-secret-word" in create.to_json()
    assert b"another-secret" in create.to_json()


# --- Other requests -------------------------------------------------------------------------------------------------


def test_our_requests_go_where_the_sdk_sends_them() -> None:
    """The same paths, and the same names in the query."""
    for version, module in (("v1", v1), ("v2", v2)):
        requests = recorded(version)["requests"]
        assert requests["list"]["path"] == module.JOBS_PATH
        assert requests["get"]["path"] == module.job_path("j 1")
        assert requests["files"]["path"] == requests["upload: least"]["path"] == file_bodies.FILES_PATH
        assert requests["files"]["query"] == {"file_ids": ["f1", "f2"], "page_size": ["7"], "page_token": ["a/b"]}
        assert {"page_size", "page_token"} <= requests["list"]["query"].keys()
    assert recorded("v1")["requests"]["results"]["path"] == v1.job_path("j 1") + "/results"
    assert recorded("v2")["requests"]["cancel"]["path"] == v2.job_path("j 1") + "/cancel"
    assert recorded("v2")["requests"]["get"]["query"] == {"expand": ["usage"]}
    filters = {"job_ids", "status", "created_at_on_or_after", "page_size", "page_token"}
    assert recorded("v2")["requests"]["list"]["query"].keys() == filters


def test_the_sandbox_takes_the_queries_of_the_sdk() -> None:
    """As far as they name things that are there."""

    async def get_all(client: httpx.AsyncClient) -> list[int]:
        codes = []
        for version in VERSIONS:
            for name in ("list", "files"):
                request = recorded(version)["requests"][name]
                query = {key: value for key, value in request["query"].items() if key != "page_token"}
                codes.append((await client.get(request["path"], params=query)).status_code)
        return codes

    assert set(talk(get_all)) == {200}


# --- Uploads --------------------------------------------------------------------------------------------------------


def parts_of(content_type: str, body: bytes) -> dict[str, tuple[str | None, bytes]]:
    """The parts of a form by name, with file name and content: by the standard library, as a third opinion."""
    whole = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    found = {}
    for part in whole.get_payload():
        assert isinstance(part, Message)
        name = part.get_param("name", header="content-disposition")
        found[str(name)] = (part.get_filename(), part.get_payload(decode=True))
    return found  # type: ignore[return-value] # get_payload gives bytes where it decodes


@pytest.mark.parametrize(("version", "name", "request_"), recorded_requests("upload"))
def test_the_sandbox_parses_an_upload_of_the_sdk(version: str, name: str, request_: Any) -> None:
    """Its fields, its file's name and its content; a purpose that the vendor doesn't have is a 422."""
    body = base64.b64decode(request_["base64"])
    form = UploadForm(request_["content_type"])
    form.feed_block(body)
    content = b"" if name == "upload: empty" else CONTENT
    parts = parts_of(request_["content_type"], body)
    assert form.is_complete
    for field in ("purpose", "external_file_id"):
        assert form.field_text(field) == (parts[field][1].decode() if field in parts else None)
    assert form.field_text("purpose") == request_["arguments"]["purpose"]
    assert form.file_name in ("a.txt", "ein %22Brief%22 ñ.pdf")
    assert (form.size_bytes, form.digest.digest()) == (len(content), hashlib.sha256(content).digest())

    async def post(client: httpx.AsyncClient) -> httpx.Response:
        headers = {"Content-Type": request_["content_type"]}
        return await client.post(request_["path"], content=body, headers=headers)

    response = talk(post)
    if "another purpose" in name:
        assert response.status_code == 422
        return
    assert (response.status_code, response.json()["purpose"]) == (200, form.field_text("purpose"))
    assert response.json()["name"] == form.file_name


def test_our_upload_has_the_fields_that_the_sdk_sends() -> None:
    """The same parts, by the same names, with the same content."""
    kept: list[tuple[str, bytes]] = []

    class Recorder(httpx.AsyncBaseTransport):
        """Keeps uploads, and answers like a server that has no files."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "GET":
                return httpx.Response(200, stream=httpx.ByteStream(b'{"items":[]}'))
            kept.append((request.headers["content-type"], await request.aread()))
            return httpx.Response(200, stream=httpx.ByteStream(b'{"id":"f"}'))

    async def upload() -> None:
        async with RequestGate(requests_in_flight=1, requests_per_s=100.0) as gate:
            clock = SystemClock()
            client = ApiClient(
                ApiAccess("http://127.0.0.1", SecretStr("key")), gate, clock, timeout_s=5.0, transport=Recorder
            )
            await FileClient(client, clock).store_file("e f", 'ein "Brief" ñ.pdf', lambda: io.BytesIO(CONTENT))

    anyio.run(upload)
    theirs = recorded("v2")["requests"]["upload: all"]
    expected = parts_of(theirs["content_type"], base64.b64decode(theirs["base64"]))
    expected["purpose"] = (None, b"classify")
    assert parts_of(*kept[0]) == expected


# --- Answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "answer"), recorded_answers("job", "jobs", "results", "file", "files"))
def test_an_answer_is_read_as_the_sdk_reads_it(version: str, answer: Any) -> None:
    """Each field that our models have is what the SDK makes of it; and the SDK knows each of them."""
    ours = READERS[version, answer["kind"]].read(json.dumps(answer["body"]).encode())
    assert differences(ours, answer["sdk"]) == []


def differences(ours: object, theirs: object, where: str = "") -> list[str]:
    """Where a model and what the SDK read aren't the same."""
    if isinstance(ours, BaseModel):
        if not isinstance(theirs, dict):
            return [f"{where}: {ours!r} is {theirs!r}"]
        unknown = [f"{where}.{name}: the SDK doesn't know it" for name in ours.model_fields_set - theirs.keys()]
        known = type(ours).model_fields.keys() & theirs.keys()
        below = [differences(getattr(ours, name), theirs[name], f"{where}.{name}") for name in known]
        return unknown + [each for some in below for each in some]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [each for at, (our, their) in pairs for each in differences(our, their, f"{where}.{at}")]
    # The SDK reads times as times, and writes them with more digits.
    if parse_time_s(ours) is not None and parse_time_s(ours) == parse_time_s(theirs):
        return []
    return [] if ours == theirs else [f"{where}: {ours!r} is {theirs!r}"]


@pytest.mark.parametrize("version", VERSIONS)
def test_no_field_of_a_job_is_unknown(version: str) -> None:
    """What the SDK declares of a job, our model names; so a single call hides none of its values as secrets."""
    whole = next(
        each for each in recorded(version)["answers"] if each["name"] == "all fields" and each["kind"] == "job"
    )
    model = v1.Job if version == "v1" else v2.Job
    assert set(model.model_fields) == set(whole["body"])


@pytest.mark.parametrize(("version", "answer"), recorded_answers("job"))
def test_what_a_run_knows_of_a_job_is_what_the_sdk_reads(version: str, answer: Any) -> None:
    """Its ID, state, time, message and configuration, whether read alone, in a page, or quickly."""
    module = v1 if version == "v1" else v2
    job, page = json.dumps(answer["body"]).encode(), json.dumps({"items": [answer["body"]]}).encode()
    (whole,), theirs = module.read_jobs_page(page).jobs, answer["sdk"]
    assert (whole.job_id, whole.error_message, whole.project_id) == (
        theirs["id"],
        theirs.get("error_message"),
        theirs["project_id"],
    )
    assert whole.created_at_s == parse_time_s(theirs.get("created_at"))
    assert whole.status == (theirs["status"] if version == "v1" else v2.translate_status(theirs["status"]))
    configuration = theirs if version == "v1" else theirs["configuration"]
    assert whole.rules == {(rule["type"], rule["description"]) for rule in configuration["rules"]}
    assert whole.mode == configuration.get("mode")
    summary = module.read_job(job)
    assert summary == module.read_jobs_by_id(page, {summary.job_id}).jobs[0]
    assert summary == without_configuration(whole)


def without_configuration(job: JobView) -> JobView:
    return JobView(
        job.job_id,
        job.status,
        job.project_id,
        job.created_at_s,
        job.error_message,
        answer=job.answer,
        credits=job.credits,
        transaction_id=job.transaction_id,
    )


def talk(script: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    """Runs a script against a sandbox, in process."""

    async def main() -> Any:
        with open_sandbox(Options(seed=1)) as app:
            headers = {"Authorization": "Bearer sandbox"}
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
                return await script(client)

    return anyio.run(main)
