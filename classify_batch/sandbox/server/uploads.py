"""The project's files and those that clients upload: `GET` and `POST /api/v1/beta/files`, the same for both versions.

An upload's content is read as it comes and not kept. Its name, size and digest are a line of a file beside the ledger,
so that it can be listed and put into jobs after a restart. It is classified at random.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from email.message import Message
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from starlette.requests import Request

from classify_batch.protocol.file_bodies import PAGE_SIZE_MAX
from classify_batch.protocol.v1 import ResultBody
from classify_batch.sandbox.documents.project import Classifier, FileEntry, JobConfig, OpenProject, Project
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server import bodies_v1 as bodies
from classify_batch.sandbox.server.request_checks import (
    PAGE_SIZE_DEFAULT,
    read_page_position,
    read_page_size,
    read_project_id,
)
from classify_batch.sandbox.server.responses import RequestError, make_422_refusal, make_refusal

UPLOAD_BYTES_MAX = 300 * 1024 * 1024
FIELD_BYTES_MAX = 10_000
UPLOADS_SUFFIX = ".files"
"""Uploads are kept beside the ledger, in a file of its name with this suffix."""

PURPOSES = ("user_data", "parse", "extract", "split", "classify", "sheet", "agent_app")

ORDERS = ("name", "id", "created_at")
"""By what the list can be ordered: names and IDs ascending, times with the newest first."""

_NAME = re.compile(rb'\bname="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a client uploaded. `sha256`: of its content."""

    file_id: str
    name: str
    project_id: str
    external_file_id: str | None
    purpose: str | None
    size_bytes: int
    sha256: str

    def to_body(self, expires_at_s: float | None) -> dict[str, Any]:
        bodies_of_page = bodies.file_body(
            FileEntry(self.file_id, self.name, self.size_bytes), self.project_id, expires_at_s
        )
        return {**bodies_of_page, "external_file_id": self.external_file_id, "purpose": self.purpose}


def read_uploads(ledger: Path) -> list[Upload]:
    """What was uploaded to the sandbox of a ledger."""
    path = ledger.with_name(ledger.name + UPLOADS_SUFFIX)
    return [Upload(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


class UploadStore:
    """The files of all projects, uploads included, and the handlers of the two requests about files."""

    def __init__(self, project: Project, options: Options, wall_s: Callable[[], float]) -> None:
        self._project, self._options, self._wall_s = project, options, wall_s
        kept_s = options.files_expire_in_s
        self._expires_at_s = None if kept_s is None else wall_s() + kept_s
        uploads = read_uploads(options.ledger) if options.ledger is not None else []
        self._uploads = {upload.file_id: upload for upload in uploads}

    # --- What creates need of it ----------------------------------------------------------------------------

    def first_unknown_file(self, file_ids: Sequence[str], project_id: str) -> str | None:
        """The first of the files that this project doesn't have; None: it has them all."""
        if self._expires_at_s is not None and self._expires_at_s <= self._wall_s():
            return file_ids[0]
        unknown = self._project.first_unknown_file([each for each in file_ids if each not in self._uploads])
        return unknown or next((each for each in file_ids if not self._is_in_project(each, project_id)), None)

    def _is_in_project(self, file_id: str, project_id: str) -> bool:
        """Whether a file that is known is in this project."""
        if (upload := self._uploads.get(file_id)) is not None:
            return upload.project_id == project_id
        prefix = self._prefix_missing_in(project_id)
        return prefix is None or not file_id.startswith(prefix)

    def _prefix_missing_in(self, project_id: str) -> str | None:
        """The prefix of file IDs that this project doesn't have."""
        return None if project_id == self._options.project_id else self._options.files_of_project

    def cached_classifier(self, config: JobConfig) -> Classifier | None:
        classifier = self._project.cached_classifier(config)
        return None if classifier is None else self._with_uploads_at_random(classifier, config)

    def make_classifier(self, config: JobConfig) -> Classifier:
        return self._with_uploads_at_random(self._project.make_classifier(config), config)

    def _with_uploads_at_random(self, classifier: Classifier, config: JobConfig) -> Classifier:
        if not self._uploads:
            return classifier
        classify_at_random = OpenProject().make_classifier(config)

        def classify_file(file_id: str) -> ResultBody:
            return classify_at_random(file_id) if file_id in self._uploads else classifier(file_id)

        return classify_file

    # --- The calls ------------------------------------------------------------------------------------------

    async def list_files(self, request: Request, now_s: float) -> str:  # noqa: ARG002
        project_id = self._project_id(request)
        size, order = read_page_size(request, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX), read_list_order(request)
        list_name = "files" if order is None else f"files by {order}"
        start = read_page_position(request, list_name) or 0
        held, uploaded = self._select_files(request, project_id)
        stop, total = start + size, len(held) + len(uploaded)
        page: list[FileEntry | Upload]
        if order is None:
            # A project may hold millions of files, so the two parts are cut and not put together.
            page = [*held[start:stop], *uploaded[max(0, start - len(held)) : max(0, stop - len(held))]]
        else:
            page = sort_files([*held, *uploaded], order)[start:stop]
        items = [
            each.to_body(self._expires_at_s)
            if isinstance(each, Upload)
            else bodies.file_body(each, project_id, self._expires_at_s)
            for each in page
        ]
        token = bodies.encode_page_token(list_name, stop) if stop < total else None
        return bodies.page_json(map(bodies.to_json, items), token, total)

    def _select_files(self, request: Request, project_id: str) -> tuple[Sequence[FileEntry], Sequence[Upload]]:
        """The files that the query asks for: those that the project holds, and those that were uploaded to it."""
        held: Sequence[FileEntry] = self._project.files
        if self._prefix_missing_in(project_id) is not None:
            held = [each for each in held if self._is_in_project(each.file_id, project_id)]
        uploaded = [each for each in self._uploads.values() if each.project_id == project_id]
        if file_ids := dict.fromkeys(request.query_params.getlist("file_ids")):
            held = self._select_held_files(file_ids, project_id)
            uploaded = [each for each in uploaded if each.file_id in file_ids]
        if {"file_name", "external_file_id"} & set(request.query_params):
            held = [each for each in held if matches_name_filters(request, each.name, each.name)]
            uploaded = [each for each in uploaded if matches_name_filters(request, each.name, each.external_file_id)]
        return held, uploaded

    async def upload_file(self, request: Request, now_s: float) -> str:  # noqa: ARG002
        parts = MultipartParser(read_multipart_boundary(request.headers.get("content-type", "")))
        body_already_read: bytes | None = getattr(request.state, "body_read", None)  # a slow request was read before
        if body_already_read is not None:
            parts.feed_block(body_already_read)
        else:
            async with aclosing(request.stream()) as blocks:
                async for block in blocks:
                    parts.feed_block(block)
        fields = {name: bytes(value).decode("utf-8", "replace") for name, value in parts.fields.items()}
        name = upload_file_name(parts, fields.get("purpose"))
        upload = Upload(
            str(uuid4()),
            name,
            self._project_id(request),
            fields.get("external_file_id"),
            fields.get("purpose"),
            parts.size,
            parts.digest.hexdigest(),
        )
        self._keep_upload(upload)
        return bodies.to_json(upload.to_body(self._expires_at_s))

    def _select_held_files(self, file_ids: Iterable[str], project_id: str) -> Sequence[FileEntry]:
        """The files of these IDs that a create would accept, whether the list shows them or not."""
        not_uploaded = (each for each in file_ids if each not in self._uploads)
        known = [each for each in not_uploaded if self._project.first_unknown_file([each]) is None]
        own = [each for each in known if self._is_in_project(each, project_id)]
        return [self._listed_by_id.get(each) or FileEntry(each, each, 0) for each in own]

    @cached_property
    def _listed_by_id(self) -> dict[str, FileEntry]:
        return {each.file_id: each for each in self._project.files}

    def _keep_upload(self, upload: Upload) -> None:
        if self._options.ledger is not None:
            path = self._options.ledger.with_name(self._options.ledger.name + UPLOADS_SUFFIX)
            with open(path, "a", opener=partial(os.open, mode=0o600)) as file:  # as the ledger is
                file.write(json.dumps(asdict(upload)) + "\n")
        self._uploads[upload.file_id] = upload

    def _project_id(self, request: Request) -> str:
        return read_project_id(request, self._options.project_id)


def matches_name_filters(request: Request, name: str, external_file_id: str | None) -> bool:
    query = request.query_params
    asked = ((query.get("file_name"), name), (query.get("external_file_id"), external_file_id))
    return all(wanted in (None, there) for wanted, there in asked)


def read_list_order(request: Request) -> str | None:
    """By what the list is ordered; None: as the project has it."""
    order = request.query_params.get("order_by")
    if order is not None and order not in ORDERS:
        raise make_422_refusal((("query", "order_by"), f"Input should be one of {', '.join(ORDERS)}", "enum"))
    return order


def sort_files(files: list[FileEntry | Upload], order: str) -> list[FileEntry | Upload]:
    if order == "created_at":  # they stand in the order in which they came
        return files[::-1]
    return sorted(files, key=(lambda each: each.name) if order == "name" else (lambda each: each.file_id))


def upload_file_name(parts: MultipartParser, purpose: str | None) -> str:
    """The file name of an upload. Raises `Refusal` where anything that is required is missing."""
    faults: list[RequestError] = []
    if not parts.is_complete or parts.file_name is None:
        faults.append((("body", "file"), "Field required", "missing"))
    if purpose is None:
        faults.append((("body", "purpose"), "Field required", "missing"))
    elif purpose not in PURPOSES:
        faults.append((("body", "purpose"), f"Input should be one of {', '.join(PURPOSES)}", "enum"))
    if faults or parts.file_name is None:
        raise make_422_refusal(*faults)
    return parts.file_name


# --- Multipart (RFC 7578) ---------------------------------------------------------------------------------------------


def read_multipart_boundary(content_type: str) -> bytes:
    head = Message()
    head["content-type"] = content_type
    boundary = head.get_boundary()
    if head.get_content_type() != "multipart/form-data" or not boundary:
        raise make_422_refusal((("body",), "Expected multipart/form-data with a boundary", "value_error"))
    return boundary.encode()


class MultipartParser:
    """Parses a multipart body as it comes. Keeps small fields, and of the file its name, size and digest."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # before the first delimiter there is no line end
        self._field: str | None = None
        self._in_head = False
        self.fields: dict[str, bytearray] = {}
        self.file_name: str | None = None
        self.size = 0
        self.digest = hashlib.sha256()
        self.is_complete = False

    def feed_block(self, block: bytes) -> None:
        self._buffer += block
        while not self.is_complete and (self._parse_part_head() if self._in_head else self._parse_content()):
            pass

    def _parse_content(self) -> bool:
        """Takes the bytes that certainly belong to the part; False: more must come first."""
        at = self._buffer.find(self._delimiter)
        # The delimiter may be cut in two: as many bytes as it has stay in the buffer.
        end = at if at >= 0 else max(0, len(self._buffer) - len(self._delimiter))
        self._take_content(bytes(self._buffer[:end]))
        del self._buffer[: end + len(self._delimiter) if at >= 0 else end]
        self._in_head = at >= 0
        return at >= 0

    def _parse_part_head(self) -> bool:
        # RFC 7578: the last delimiter is followed by two dashes.
        if self._buffer.startswith(b"--"):
            self.is_complete = True
            return False
        at = self._buffer.find(b"\r\n\r\n")
        if at < 0:
            if len(self._buffer) > FIELD_BYTES_MAX:
                raise make_refusal(400, "There was an error parsing the body")
            return False
        head = bytes(self._buffer[:at])
        del self._buffer[: at + 4]
        named = _NAME.search(head)
        self._field = named[1].decode("utf-8", "replace") if named else None
        if (file := re.search(rb'\bfilename="([^"]*)"', head)) is not None and self._field == "file":
            self.file_name = file[1].decode("utf-8", "replace")
        self._in_head = False
        return True

    def _take_content(self, content: bytes) -> None:
        if self._field == "file":
            self.size += len(content)
            if self.size > UPLOAD_BYTES_MAX:
                raise make_refusal(413, f"File is larger than {UPLOAD_BYTES_MAX} bytes")
            self.digest.update(content)
        elif self._field is not None:
            kept = self.fields.setdefault(self._field, bytearray())
            kept += content
            if len(kept) > FIELD_BYTES_MAX:
                raise make_refusal(400, "There was an error parsing the body")
