"""One value of a line: out of its quotes, and distinguished from a row of a table, JSON or a web page."""

from __future__ import annotations

import json

from classify_batch.file_keys import is_uuid
from classify_batch.inputs.ids import shorten

_QUOTES = ("'", '"')
_BETWEEN_COLUMNS = ",;|\t"

SUSPICIOUS = frozenset(_BETWEEN_COLUMNS + "\"'[{<")
"""A line without any of these can be nothing but a file ID."""

FORMAT_HINT = "--format says what the input is (`--format lines` takes each line as a file ID)"


def remove_quotes(value: str) -> str:
    """A value without the quotes around it; any other value as it is."""
    if len(value) < 2 or value[0] not in _QUOTES or value[-1] != value[0]:
        return value
    if value[0] == "'":
        return value[1:-1].replace("''", "'")
    try:
        return str(json.loads(value))
    except ValueError:  # quoted as in CSV
        return value[1:-1].replace('""', '"')


def reason_no_line_of_an_id(value: str) -> tuple[str, str] | None:
    """What else a line may be, and what to do about it; None where it can be a file ID."""
    if value.startswith(_QUOTES):
        return f"{shorten(value)} has a quote without its end", FORMAT_HINT
    if value.startswith(("[", "{")) and not is_uuid(value):
        return f"{shorten(value)} looks like JSON, and is none", FORMAT_HINT
    if value.startswith("<"):
        return f"{shorten(value)} looks like HTML or XML", "was a page with an error saved in place of the list?"
    if any(map(value.__contains__, _BETWEEN_COLUMNS)):
        return f"{shorten(value)} looks like a row of a table", FORMAT_HINT
    return None
