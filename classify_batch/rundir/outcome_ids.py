"""The file IDs of outcomes' lines, without reading the rest where that can be helped."""

from __future__ import annotations

import json
import re

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


_PLAIN_LINE = re.compile(rb'\{"file_id":"([^"\\\n]+)".*\}\n|(?s:.+)')
"""Or all that is left: so every match begins where the one before ends, and no lines have to be counted."""


def outcome_file_ids(lines: bytes) -> list[str] | None:
    """The `file_id` of each of some whole lines, in order, as `outcome_file_id` tells them one by one; None where one
    of them has to be looked at by itself. One pass in C: a big run has ten million lines."""
    found = _PLAIN_LINE.findall(lines)
    if not found or not found[-1]:
        return None
    try:
        return b"\n".join(found).decode().split("\n")
    except UnicodeDecodeError:
        return None
