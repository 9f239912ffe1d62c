"""Copies lines of earlier results to a new run, with a new `chunk`, and `reused_from`, which names the run that paid.

Everything else stays: `job_id` and `attempt` are those of the earlier run. A line that was reused before keeps its
`reused_from`. If the new input spells the UUID of a file differently, the copy uses that spelling.
"""

from __future__ import annotations

import json
import re

from classify_batch.rundir.outcome_lines import encode_line

_CHUNK = b',"chunk":'
"""It can't occur inside a JSON string, where its quotes would be escaped. So if the rest of a line behind it ends an
object, it is the line's own key."""


def copy_lines(lines: list[bytes], chunk: int, run_id: str) -> bytes:
    """Copies lines (without newlines) of the run `run_id` into chunk `chunk` of a new run (with newlines)."""
    ends = _LineEnds(chunk, run_id)
    try:
        return b"".join([head + ends[tail] for head, _, tail in [line.rpartition(_CHUNK) for line in lines]])
    except ValueError:  # a line with another order of keys, or with a `chunk` inside another value
        return b"".join([copy_line(line, chunk, run_id) for line in lines])


class _LineEnds(dict[bytes, bytes]):
    """The new end for each old end of a line, behind `,"chunk":`. Lines of a job share it, so it is made once."""

    def __init__(self, chunk: int, run_id: str) -> None:
        super().__init__()
        self._head = _CHUNK + str(chunk).encode() + b","
        self._mark = f',"reused_from":{json.dumps(run_id)}}}\n'.encode()

    def __missing__(self, tail: bytes) -> bytes:
        values = json.loads(b'{"chunk":' + tail)
        old, comma, rest = tail.partition(b",")
        if not comma or not old.isdigit():
            raise ValueError("another order of keys")
        new = self[tail] = self._head + (rest + b"\n" if "reused_from" in values else rest[:-1] + self._mark)
        return new


def copy_line(line: bytes, chunk: int, run_id: str) -> bytes:
    """Copies any line, slowly."""
    values = json.loads(line)
    values["chunk"] = chunk
    values.setdefault("reused_from", run_id)
    return encode_line(values)


_HEAD = re.compile(rb'\{"file_id":"[^"\\]*"(?=[,}])')


def rename_file_in_line(line: bytes, file_id: str) -> bytes:
    """The line (without its newline) with another spelling of its file ID."""
    if (head := _HEAD.match(line)) is not None:
        return b'{"file_id":' + json.dumps(file_id).encode() + line[head.end() :]
    return encode_line(json.loads(line) | {"file_id": file_id})[:-1]
