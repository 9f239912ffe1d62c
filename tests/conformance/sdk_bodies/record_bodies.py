"""Records what a vendor's SDK sends, and what it reads from the answers that it declares.

It runs in the environment of an SDK, which knows nothing of this package, and prints the record (the tests that drive
the SDKs make the environments, and compare what is recorded there with what is kept here):

    .venv-llama-cloud-1.6.0/bin/python tests/conformance/sdk_bodies/record_bodies.py v1 > v1.json
    .venv-llama-cloud-2/bin/python tests/conformance/sdk_bodies/record_bodies.py v2 > v2.json

The SDK talks over a socket to a server of its own, which keeps each request and gives the answer set. Answers are
made from the SDK's own classes: with all fields, with the least, with nulls, with each documented word, and with words
and fields that nobody knows. The first two of v1 stand in the vendor's API reference.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
import typing
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

RULES = [
    {"type": "invoice", "description": "an invoice with line items and a total amount"},
    {"type": "letter", "description": "ein Brief mit Anrede, Gruß und Unterschrift"},
]
WEBHOOK = {
    "webhook_url": "https://example.test/done",
    "webhook_events": ["classify.success", "classify.error"],
    "webhook_headers": {"X-Token": "a-secret-word"},
}
NEWER_WEBHOOK = {**WEBHOOK, "webhook_signing_secret": "another-secret", "webhook_output_format": "json"}
PAGES = {"v1": [0, 2, 3, 4], "v2": "1,3-5"}
UUID = "182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e"
MOMENT = "2019-12-27T18:11:19.117Z"
REFERENCE_JOB = {
    "id": UUID,
    "project_id": UUID,
    "rules": [{"description": "contains invoice number, line items, and total amount", "type": "invoice"}],
    "status": "PENDING",
    "user_id": "user_id",
    "created_at": MOMENT,
    "effective_at": MOMENT,
    "error_message": "error_message",
    "job_record_id": "job_record_id",
    "mode": "FAST",
    "parsing_configuration": {"lang": "af", "max_pages": 0, "target_pages": [0]},
    "updated_at": MOMENT,
}

Call = Callable[[], Any]


class Handler(BaseHTTPRequestHandler):
    """Keeps the last request, and gives the answer that was set."""

    answer: ClassVar[Any] = {}
    kept: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        url = urlsplit(self.path)
        kept: dict[str, Any] = {"method": self.command, "path": url.path, "query": parse_qs(url.query)}
        content_type = self.headers.get("content-type", "")
        if content_type.startswith("multipart/"):
            # Each boundary is another one, and a record should change only where the SDK does.
            boundary = re.sub(r".*boundary=", "", content_type)
            kept["content_type"] = content_type.replace(boundary, "the-boundary")
            kept["base64"] = base64.b64encode(body.replace(boundary.encode(), b"the-boundary")).decode()
        elif body:
            kept["content_type"], kept["json"] = content_type, json.loads(body)
        Handler.kept = kept
        text = json.dumps(Handler.answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_GET  # noqa: N815 - the name that the library calls

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is logged."""


# --- Requests -------------------------------------------------------------------------------------------------------


def requests_of(version: str, client: Any) -> Iterator[tuple[str, dict[str, Any], Call]]:
    """Each recorded call: its name, its arguments, and how it is made."""
    creates = creates_v1() if version == "v1" else creates_v2()
    create = client.classifier.jobs.create if version == "v1" else client.classify.create
    for name, arguments in creates.items():
        yield f"create: {name}", arguments, partial(create, **arguments)
    content = b"\r\n--boundary of another\r\n\x00\xff"
    uploads = {
        "least": {"file": ("a.txt", content), "purpose": "classify"},
        "all": {
            "file": ('ein "Brief" ñ.pdf', content, "application/pdf"),
            "purpose": "parse",
            "external_file_id": "e f",
        },
        "empty": {"file": ("a.txt", b""), "purpose": "classify", "external_file_id": ""},
        "another purpose": {"file": ("a.txt", content), "purpose": "none of these"},
    }
    for name, upload in uploads.items():
        told = {key: value for key, value in upload.items() if key != "file"}
        yield f"upload: {name}", told, partial(client.files.create, **upload)
    page = {"page_size": 7, "page_token": "a/b"}
    ids = {"file_ids": ["f1", "f2"], **page}
    yield "files", ids, lambda: list(client.files.list(**ids).items)
    if version == "v1":
        jobs = client.classifier.jobs
        yield "list", page, lambda: jobs.list(**page)
        yield "get", {}, lambda: jobs.get("j 1")
        yield "results", {}, lambda: jobs.get_results("j 1")
        return
    filters = {"job_ids": ["j1", "j2"], "status": "RUNNING", "created_at_on_or_after": MOMENT, **page}
    yield "list", filters, lambda: client.classify.list(**filters)
    yield "get", {}, lambda: client.classify.get("j 1", expand=["usage"])
    yield "cancel", {}, lambda: client.classify.cancel("j 1")


def creates_v1() -> dict[str, dict[str, Any]]:
    least: dict[str, Any] = {"file_ids": ["f1"], "rules": RULES[:1]}
    parsing = {"lang": "de", "max_pages": 7, "target_pages": PAGES["v1"]}
    return {
        "least": least,
        "with mode": {**least, "mode": "FAST"},
        "all": {
            "file_ids": ["f1", "f2", "ñ"],
            "rules": RULES,
            "mode": "MULTIMODAL",
            "parsing_configuration": parsing,
            "webhook_configurations": [WEBHOOK, {"webhook_url": "https://example.test"}],
        },
        "newer webhook": {**least, "webhook_configurations": [NEWER_WEBHOOK]},
        "refused: no files": {**least, "file_ids": []},
        "refused: no rules": {**least, "rules": []},
        "refused: another mode": {**least, "mode": "SLOW"},
        "refused: a page before the first": {**least, "parsing_configuration": {"target_pages": [-1]}},
        "refused: another language": {**least, "parsing_configuration": {"lang": "xx"}},
    }


def creates_v2() -> dict[str, dict[str, Any]]:
    least: dict[str, Any] = {"file_input": "f1", "configuration": {"rules": RULES[:1]}}
    parsing = {"lang": "de", "max_pages": 7, "target_pages": PAGES["v2"]}
    given = {"rules": RULES, "mode": "FAST", "parsing_configuration": parsing}
    return {
        "least": least,
        "all": {
            "file_input": "ñ",
            "configuration": given,
            "transaction_id": "t",
            "webhook_configurations": [WEBHOOK, {"webhook_url": "https://example.test"}],
        },
        "newer webhook": {
            **least,
            "webhook_configurations": [NEWER_WEBHOOK],
            "webhook_configuration_ids": ["w1", "w2"],
        },
        "refused: no file": {"configuration": given},
        "refused: no rules": {**least, "configuration": {"rules": []}},
        "refused: v1's mode": {**least, "configuration": {**given, "mode": "MULTIMODAL"}},
        "refused: page 0": {**least, "configuration": {**given, "parsing_configuration": {"target_pages": "0-2"}}},
        "refused: an empty transaction": {**least, "transaction_id": ""},
    }


# --- Answers --------------------------------------------------------------------------------------------------------


def answers_of(version: str, client: Any) -> Iterator[tuple[str, str, Any, Call]]:
    """Each recorded answer: its kind, its name, its body, and the call that reads it."""
    from llama_cloud import types

    if version == "v1":
        from llama_cloud.types import classifier

        job, jobs = classifier.ClassifyJob, client.classifier.jobs
        yield "job", "the reference's", REFERENCE_JOB, lambda: jobs.get("j")
        yield "job", "the reference's, with a word of tomorrow", {**REFERENCE_JOB, "status": "X"}, lambda: jobs.get("j")
        get, list_jobs = (lambda: jobs.get("j")), (jobs.list)
        results = classifier.JobGetResultsResponse
        for name, body in bodies_of(results):
            yield "results", name, body, lambda: jobs.get_results("j")
    else:
        job = types.ClassifyGetResponse
        get, list_jobs = (lambda: client.classify.get("j")), (client.classify.list)
    made = dict(bodies_of(job))
    for name, body in made.items():
        yield "job", name, body, get
    pages: dict[str, Any] = {"last": {"next_page_token": None, "total_size": 3}, "middle": {"next_page_token": "n"}}
    for name, more in pages.items():
        yield "jobs", name, {"items": list(made.values())[:3], **more}, list_jobs
    for name, body in bodies_of(types.FileCreateResponse):
        yield "file", name, body, lambda: client.files.create(file=("a", b"x"), purpose="classify")
    files = [body for _, body in bodies_of(types.FileListResponse)]
    yield "files", "last", {"items": files, "next_page_token": None, "total_size": 3}, client.files.list


def bodies_of(model: Any) -> Iterator[tuple[str, Any]]:
    """Bodies that a class of the SDK declares, each with a name."""
    whole = example_of(model)
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    yield "all fields", whole
    yield "the least", {name: whole[name] for name in required}
    yield "nulls", {name: whole[name] if name in required else None for name in model.model_fields}
    yield "a field of tomorrow", {**whole, "tomorrow": {"x": [1, None]}}
    for name, field in model.model_fields.items():
        for word in words_of(field.annotation):
            yield f"{name} {word}", {**whole, name: word}


def words_of(annotation: Any) -> tuple[str, ...]:
    """The words that a field may hold, where they are listed."""
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return next(filter(None, map(words_of, typing.get_args(annotation))), ()) if is_optional(annotation) else ()


def is_optional(annotation: Any) -> bool:
    return type(None) in typing.get_args(annotation)


def example_of(annotation: Any, name: str = "") -> Any:
    """A JSON value of a declared type. Texts differ from field to field, so that none is taken for another."""
    if is_optional(annotation):
        return example_of(next(each for each in typing.get_args(annotation) if each is not type(None)), name)
    if (fields := getattr(annotation, "model_fields", None)) is not None:
        return {field.alias or each: example_of(field.annotation, each) for each, field in fields.items()}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return arguments[0]
    if origin is list:
        return [example_of(arguments[0], name)]
    if origin is dict:
        return {"key": example_of(arguments[1], name)}
    return {str: f"ein {name}, ñ", int: 3, float: 0.25, bool: True, datetime: MOMENT, object: "anything"}[annotation]


# --- The record -----------------------------------------------------------------------------------------------------


def record(version: str) -> dict[str, Any]:
    """Everything, as one JSON object."""
    import llama_cloud

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    client = llama_cloud.LlamaCloud(api_key="key", base_url=url, max_retries=0)
    requests, answers = {}, []
    Handler.answer = {"items": []}
    for name, arguments, call in requests_of(version, client):
        call()
        requests[name] = {"arguments": arguments, **Handler.kept}
    for kind, name, body, call in answers_of(version, client):
        Handler.answer = body
        read = call().model_dump(mode="json", warnings=False)
        answers.append({"kind": kind, "name": name, "body": body, "sdk": read})
    server.shutdown()
    return {"sdk": f"llama-cloud {llama_cloud.__version__}", "requests": requests, "answers": answers}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(record(sys.argv[1]), indent=1, ensure_ascii=False) + "\n")
