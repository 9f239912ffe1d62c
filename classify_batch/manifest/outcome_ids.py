"""The file ID of an outcome's line, without reading the rest where that can be helped."""

from __future__ import annotations

import json

_HEAD = b'{"file_id":"'


def outcome_file_id(line: bytes) -> str:
    """The `file_id` of a line of results.jsonl or failures.jsonl. Raises ValueError for what is no such line."""
    if line.startswith(_HEAD) and line.endswith(b"}"):
        end = line.find(b'"', len(_HEAD))
        head = line[len(_HEAD) : end]
        if end > 0 and b"\\" not in head:
            return head.decode()
    values = json.loads(line)
    if not isinstance(values, dict) or not isinstance(file_id := values.get("file_id"), str):
        raise ValueError("an outcome has a file_id")
    return file_id
