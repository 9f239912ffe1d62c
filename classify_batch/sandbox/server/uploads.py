"""The project's files and those that clients upload: what is below `/api/v1/beta/files`, the same for both versions.

An upload's name, size and digest are a line of a file beside the ledger, so that it can be listed and put into jobs
after a restart; so is the beginning of its text, by whose words it is classified. What has no text matches no rule.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from random import Random
from uuid import uuid4

import anyio.to_thread
from starlette.requests import Request

from classify_batch.file_keys import is_parse_job
from classify_batch.protocol.file_bodies import PAGE_SIZE_MAX, FileBody
from classify_batch.protocol.parse_jobs import ParsedBody, ParseJobBody
from classify_batch.protocol.requests import UPLOAD_PURPOSES
from classify_batch.protocol.v1 import ResultBody
from classify_batch.sandbox.documents.project import (
    Classifier,
    FileEntry,
    JobConfig,
    Project,
    parsed_file,
)
from classify_batch.sandbox.documents.uploaded_text import classify_upload
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server import bodies_v1 as bodies
from classify_batch.sandbox.server.request_checks import (
    PAGE_SIZE_DEFAULT,
    read_page_position,
    read_page_size,
    read_project_id,
)
from classify_batch.sandbox.server.responses import RequestError, make_422_refusal, make_refusal
from classify_batch.sandbox.server.upload_form import UploadForm

UPLOADS_SUFFIX = ".files"
"""Uploads are kept beside the ledger, in a file of its name with this suffix."""

DELETED = "deleted"
"""The key of a line of that file that names an upload which is not there any more."""

ORDERS = ("name", "id", "created_at")
"""By what the list can be ordered: names and IDs ascending, times with the newest first."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a client uploaded. `sha256`: of its content; `text`: with which it begins; None: none can be
    read; `uploaded_s`: when; None: a former version didn't keep it."""

    file_id: str
    name: str
    project_id: str
    external_file_id: str | None
    purpose: str | None
    size_bytes: int
    sha256: str
    text: str | None = None
    uploaded_s: float | None = None

    def file_body(self, expires_at_s: float | None) -> FileBody:
        body = bodies.file_body(FileEntry(self.file_id, self.name, self.size_bytes), self.project_id, expires_at_s)
        body["external_file_id"], body["purpose"] = self.external_file_id, self.purpose
        return body


def read_uploads(ledger: Path) -> list[Upload]:
    """What was uploaded to the sandbox of a ledger, and not deleted."""
    return list(read_uploads_and_deleted(ledger)[0].values())


def read_uploads_and_deleted(ledger: Path) -> tuple[dict[str, Upload], set[str]]:
    """The uploads that are there by file ID, and the IDs of those that were deleted."""
    path = ledger.with_name(ledger.name + UPLOADS_SUFFIX)
    kept: dict[str, Upload] = {}
    deleted: set[str] = set()
    for line in path.read_text().splitlines() if path.exists() else ():
        values = json.loads(line)
        if DELETED in values:
            deleted.add(values[DELETED])
            kept.pop(values[DELETED], None)
        else:
            kept[values["file_id"]] = Upload(**values)
    return kept, deleted


class UploadStore:
    """The files of all projects, uploads included, and the handlers of the requests about files."""

    def __init__(
        self, project: Project, options: Options, wall_s: Callable[[], float], seed: int | None = None
    ) -> None:
        self._project, self._options, self._wall_s = project, options, wall_s
        kept_s = options.files_expire_in_s
        self._expires_at_s = None if kept_s is None else wall_s() + kept_s
        self._uploads, self._deleted = (
            ({}, set()) if options.ledger is None else read_uploads_and_deleted(options.ledger)
        )
        self._expired: dict[str, Upload] = {}
        self._named: set[str] = set()
        self._random = Random(f"{seed}/upload_expired")  # noqa: S311

    # --- What creates need of it ----------------------------------------------------------------------------

    def expire_at_create(self, file_ids: Sequence[str]) -> None:
        """Lets uploads expire that a create names for the first time, by the fault `upload_expired`."""
        share = self._options.faults.upload_expired
        for file_id in file_ids if share else ():
            if file_id in self._uploads and file_id not in self._named:
                self._named.add(file_id)
                if self._random.random() < share:
                    self._append_line({DELETED: file_id})
                    self._expire_upload(file_id)

    def _expire_upload(self, file_id: str) -> None:
        """Nobody finds it from now on, but for the jobs that were made of it."""
        self._expired[file_id] = self._uploads.pop(file_id)
        self._deleted.add(file_id)

    def _expire_old(self) -> None:
        kept_s = self._options.uploads_expire_in_s
        if kept_s is not None:
            now_s = self._wall_s()
            for file_id in [
                each.file_id for each in self._uploads.values() if (each.uploaded_s or 0) + kept_s <= now_s
            ]:
                self._expire_upload(file_id)

    def _expires_s(self, upload: Upload) -> float | None:
        kept_s = self._options.uploads_expire_in_s
        own_s = None if kept_s is None else (upload.uploaded_s or 0.0) + kept_s
        return min((each for each in (own_s, self._expires_at_s) if each is not None), default=None)

    def first_unknown_file(self, file_ids: Sequence[str], project_id: str) -> str | None:
        """The first of the files that this project doesn't have; None: it has them all."""
        self._expire_old()
        if self._expires_at_s is not None and self._expires_at_s <= self._wall_s():
            return file_ids[0]
        unknown = self._project.first_unknown_file([each for each in file_ids if each not in self._uploads])
        return unknown or next((each for each in file_ids if not self._is_in_project(each, project_id)), None)

    def _is_in_project(self, file_id: str, project_id: str) -> bool:
        """Whether a file that is known is in this project."""
        if file_id in self._deleted:  # an open project would know it like any other ID
            return False
        if (upload := self._uploads.get(file_id)) is not None:
            return upload.project_id == project_id
        prefix = self._prefix_missing_in(project_id)
        return prefix is None or not file_id.startswith(prefix)

    def _prefix_missing_in(self, project_id: str) -> str | None:
        """The prefix of file IDs that this project doesn't have."""
        return None if project_id == self._options.project_id else self._options.files_of_project

    def cached_classifier(self, config: JobConfig) -> Classifier | None:
        classifier = self._project.cached_classifier(config)
        return None if classifier is None else self._with_uploads(classifier, config)

    def make_classifier(self, config: JobConfig) -> Classifier:
        return self._with_uploads(self._project.make_classifier(config), config)

    def _with_uploads(self, classifier: Classifier, config: JobConfig) -> Classifier:
        if not (self._uploads or self._expired):
            return classifier

        def classify_file(file_id: str) -> ResultBody:
            upload = self._uploads.get(file_id) or self._expired.get(file_id)
            return classifier(file_id) if upload is None else classify_upload(upload.name, upload.text, config)

        return classify_file

    # --- The calls ------------------------------------------------------------------------------------------

    async def list_files(self, request: Request, now_s: float) -> str:  # noqa: ARG002
        self._expire_old()
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
            each.file_body(self._expires_s(each))
            if isinstance(each, Upload)
            else bodies.file_body(each, project_id, self._expires_at_s)
            for each in page
        ]
        token = bodies.encode_page_token(list_name, stop) if stop < total else None
        return bodies.page_json(map(bodies.encode_json, items), token, total)

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
        form = UploadForm(request.headers.get("content-type", ""))
        body_already_read: bytes | None = getattr(request.state, "body_read", None)  # a slow request was read before
        if body_already_read is not None:
            form.feed_block(body_already_read)
        else:
            async with aclosing(request.stream()) as blocks:
                async for block in blocks:
                    form.feed_block(block)
        purpose = form.field_text("purpose")
        upload = Upload(
            str(uuid4()),
            upload_file_name(form, purpose),
            self._project_id(request),
            form.field_text("external_file_id"),
            purpose,
            form.size_bytes,
            form.digest.hexdigest(),
            await anyio.to_thread.run_sync(form.read_text, abandon_on_cancel=True) if form.is_pdf else form.read_text(),
            self._wall_s(),
        )
        self._keep_upload(upload)
        return bodies.encode_json(upload.file_body(self._expires_s(upload)))

    async def delete_file(self, request: Request, now_s: float) -> str:  # noqa: ARG002
        """Deletes an upload. The documents that the sandbox serves are on somebody's disk, and stay."""
        file_id, project_id = str(request.path_params["file_id"]), self._project_id(request)
        upload = self._uploads.get(file_id)
        if upload is not None and upload.project_id == project_id:
            self._append_line({DELETED: file_id})
            del self._uploads[file_id]
            self._deleted.add(file_id)
            return ""
        if any(each.file_id == file_id for each in self._select_held_files([file_id], project_id)):
            raise make_refusal(400, f"File {file_id} is a document of this sandbox, which only deletes uploads")
        raise make_refusal(404, "File not found")

    async def get_parse_job(self, request: Request, now_s: float) -> str:  # noqa: ARG002
        """A parse job: every file that the project has was parsed by one, which is called by the file's ID."""
        job_id, project_id = str(request.path_params["job_id"]), self._project_id(request)
        if not is_parse_job(job_id) or self.first_unknown_file([parsed_file(job_id)], project_id) is not None:
            raise make_refusal(404, "Parse job not found")
        job: ParseJobBody = {"id": job_id, "project_id": project_id, "status": "COMPLETED", "error_message": None}
        body: ParsedBody = {"job": job}
        return bodies.encode_json(body)

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
        self._append_line(asdict(upload))
        self._uploads[upload.file_id] = upload

    def _append_line(self, values: Mapping[str, object]) -> None:
        if self._options.ledger is not None:
            path = self._options.ledger.with_name(self._options.ledger.name + UPLOADS_SUFFIX)
            with open(path, "a", opener=partial(os.open, mode=0o600)) as file:  # as the ledger is
                file.write(json.dumps(values) + "\n")

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


def upload_file_name(form: UploadForm, purpose: str | None) -> str:
    """The file name of an upload. Raises `Refusal` where anything that is required is missing."""
    faults: list[RequestError] = []
    if not form.is_complete or form.file_name is None:
        faults.append((("body", "file"), "Field required", "missing"))
    if purpose is None:
        faults.append((("body", "purpose"), "Field required", "missing"))
    elif purpose not in UPLOAD_PURPOSES:
        faults.append((("body", "purpose"), f"Input should be one of {', '.join(UPLOAD_PURPOSES)}", "enum"))
    if faults or form.file_name is None:
        raise make_422_refusal(*faults)
    return form.file_name
