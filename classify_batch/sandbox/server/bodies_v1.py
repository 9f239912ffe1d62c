"""Bodies and page tokens as the server speaks them: what both versions share, and v1.

Jobs are put together as text: each page of the list shows a hundred jobs with all their rules, and to encode these anew
each time would cost more than all the rest of the server.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from uuid import UUID

from classify_batch.clock import to_iso
from classify_batch.protocol.file_bodies import FileBody
from classify_batch.protocol.v1 import ItemBody
from classify_batch.sandbox.documents.project import Classifier, FileEntry, JobConfig
from classify_batch.sandbox.jobs.result_pages import ResultEntry
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.sandbox.options import Options

USER_ID = "sandbox"

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def encode_json(body: object) -> str:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


def job_json(job: SandboxJob, now_s: float, options: Options) -> str:
    """A ClassifyJob as it is now, without the fields that the options leave out."""
    created_at, updated_at = shown_job_times(job, now_s)
    mode = "" if options.silent_mode else f',"mode":"{job.mode}"'
    return (
        f'{{"id":"{job.job_id}","project_id":{encode_json(job.project_id)},{config_json(job.config)},'
        f'"status":"{job.shown_status(now_s)}","user_id":"{USER_ID}",{created_at_json(created_at, options)}'
        f'"effective_at":"{created_at}","updated_at":"{updated_at}","error_message":{error_message_json(job, now_s)},'
        f'"job_record_id":null{mode}}}'
    )


def shown_job_times(job: SandboxJob, now_s: float) -> tuple[str, str]:
    """When a job was created and when its status last changed, by the clock that stamps it."""
    created_at, changed_at_s = to_iso(job.shown_created_at_s), job.changed_at_s(now_s)
    return created_at, created_at if changed_at_s == job.created_at_s else to_iso(changed_at_s + job.clock_shift_s)


def created_at_json(created_at: str, options: Options) -> str:
    """A job's `created_at` with a comma behind it; nothing where the options leave it out."""
    return "" if options.silent_created_at else f'"created_at":"{created_at}",'


def error_message_json(job: SandboxJob, now_s: float) -> str:
    message = job.error_message(now_s)
    return "null" if message is None else encode_json(message)


@lru_cache(maxsize=64)
def config_json(config: JobConfig) -> str:
    parsing = config.parsing_configuration
    parsing_body = None if parsing is None else parsing.model_dump(exclude_none=True)
    rules = [rule.model_dump() for rule in config.rules]
    return f'"rules":{encode_json(rules)},"parsing_configuration":{encode_json(parsing_body)}'


def page_json(items: Iterable[str], next_page_token: str | None, total: int) -> str:
    """A page of items that are JSON already."""
    return f'{{"items":[{",".join(items)}],"next_page_token":{encode_json(next_page_token)},"total_size":{total}}}'


def item_body(job: SandboxJob, entry: ResultEntry, classifier: Classifier, options: Options) -> ItemBody:
    """An item of a job's results."""
    at = to_iso(job.settled_at_s + job.clock_shift_s)
    return {
        "id": str(UUID(int=UUID(job.job_id).int ^ (entry.position + 1))),
        "classify_job_id": job.job_id,
        "created_at": at,
        "updated_at": at,
        "file_id": None if entry.file_id is None else shown_file_id(entry.file_id, options),
        "result": classifier(entry.about) if entry.has_result else None,
    }


def shown_file_id(file_id: str, options: Options) -> str:
    """A file ID as results spell it."""
    return file_id.upper() if options.upper_case_ids and _UUID.fullmatch(file_id) else file_id


def file_body(entry: FileEntry, project_id: str, expires_at_s: float | None = None) -> FileBody:
    """A line of the file list."""
    return {
        "id": entry.file_id,
        "name": entry.name,
        "project_id": project_id,
        "external_file_id": entry.name,
        "file_type": entry.name.rpartition(".")[2] if "." in entry.name else None,
        "file_size": entry.size_bytes,
        "purpose": "classify",
        "expires_at": None if expires_at_s is None else to_iso(expires_at_s),
        "last_modified_at": None,
    }


def detail_json(detail: str) -> str:
    return encode_json({"detail": detail})


def validation_errors_json(faults: Sequence[tuple[Sequence[str | int], str, str]]) -> str:
    """The body of a 422: where each error is, what it is, and its type."""
    return encode_json({"detail": [{"loc": list(where), "msg": what, "type": kind} for where, what, kind in faults]})


def encode_page_token(list_name: str, position: int) -> str:
    """An opaque page token that is good for `list_name` only."""
    return base64.urlsafe_b64encode(f"{token_checksum(list_name, str(position))}{position}".encode()).decode()


def decode_page_token(list_name: str, token: str) -> int:
    """The position in a token. Raises ValueError for a token that was not given out for `list_name`."""
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        raise ValueError("not a page token") from None
    # The checksum makes a token of one list invalid for another.
    checksum, position = text[:8], text[8:]
    if checksum != token_checksum(list_name, position):
        raise ValueError("not a token of these pages")
    return int(position)


def token_checksum(list_name: str, position: str) -> str:
    return f"{zlib.crc32(f'{list_name}/{position}'.encode()):08x}"
