"""Failures by message: what a person wants to know before any single file.

The messages of many files differ in IDs only. So these are left out, and what is the same then is counted together.
Free of heavy imports, as `status` reads by this.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import TypedDict

from classify_batch.vocabulary import FailureCode

READ_BYTES_MAX = 1 << 22
"""Of failures.jsonl, so much is counted by message: 4 MiB are about 15,000 failures, and take some 50 ms."""

MESSAGES_MAX = 20

_UUID = re.compile(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b", re.IGNORECASE)

_NEVER = (
    "UNSUPPORTED_FILE_TYPE",
    "PDF_IS_PROTECTED",
    "PDF_IS_BROKEN",
    "NO_DATA_FOUND_IN_FILE",
    "DOCUMENT_TOO_LARGE",
    "TOO_MANY_PAGES",
)
"""The API's words for what is wrong with the document itself."""


class FailureMessage(TypedDict):
    """Files that failed with the same code and message. IDs in the message stand as `FILE_ID` and `JOB_ID`."""

    code: str
    message: str
    files: int


def without_ids(message: str, file_id: str | None, job_id: str | None) -> str:
    """A message that is the same for all files that failed for the same reason."""
    for name, value in (("FILE_ID", file_id), ("JOB_ID", job_id)):
        if value:
            message = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", name, message)
    return _UUID.sub("ID", message)


def count_messages(data: bytes, failed: int) -> tuple[list[FailureMessage], int, int]:
    """The messages in the beginning of a failures.jsonl, the most frequent first; how many failures that were, and how
    many of these are worth a retry.

    `failed`: how many lines are committed; what stands behind them isn't read, nor is a line that is cut off.
    """
    counts = Counter[tuple[str, str]]()
    for line in data.split(b"\n")[:-1][:failed]:  # the last one is cut off, or empty
        try:
            said = json.loads(line)
            counts[str(said["code"]), without_ids(str(said["message"]), said["file_id"], said.get("job_id"))] += 1
        except (ValueError, KeyError, TypeError):
            continue  # `verify` names damaged lines
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MESSAGES_MAX]
    messages: list[FailureMessage] = [
        {"code": code, "message": message, "files": files} for (code, message), files in ranked
    ]
    worth = sum(files for (code, message), files in counts.items() if is_worth_a_retry(code, message))
    return messages, counts.total(), worth


def is_worth_a_retry(code: str, message: str = "") -> bool:
    """Whether the same file may get an answer at the next try: not where the API refused it, nor where something is
    wrong with the document."""
    return code not in _FINAL and not any(word in message for word in _NEVER)


_FINAL: Iterable[str] = frozenset({FailureCode.REJECTED.value, FailureCode.NOT_UPLOADABLE.value})
