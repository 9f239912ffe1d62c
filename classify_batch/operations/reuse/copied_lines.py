"""Lines of earlier results as lines of a new run: another `chunk`, and `reused_from`, which names the run that paid.

All else stays as it was: `job_id` and `attempt` are the earlier run's. A line that was itself reused keeps its
`reused_from`. Where the new input spells the UUID of a file otherwise, the line names it so.
"""

from __future__ import annotations

import json
import re

from classify_batch.rundir.outcome_lines import encode_line

_CHUNK = b',"chunk":'
"""Stands in no JSON string, where a quote would follow a backslash: where the rest of a line behind it ends an object,
it is the line's own key."""


def copied_lines(lines: list[bytes], chunk: int, run_id: str) -> bytes:
    """Lines (without their newlines) of the run `run_id`, as they stand in chunk `chunk` of a new run (with them)."""
    tails = _Tails(chunk, run_id)
    try:
        return b"".join([head + tails[tail] for head, _, tail in [line.rpartition(_CHUNK) for line in lines]])
    except ValueError:  # a line with another order of keys, or with a key of that name further inside
        return b"".join([_copied(line, chunk, run_id) for line in lines])


class _Tails(dict[bytes, bytes]):
    """What follows the old key, with what is written instead: all lines of a job end alike."""

    def __init__(self, chunk: int, run_id: str) -> None:
        super().__init__()
        self._head = _CHUNK + str(chunk).encode() + b","
        self._mark = f',"reused_from":{json.dumps(run_id)}}}\n'.encode()

    def __missing__(self, tail: bytes) -> bytes:
        said = json.loads(b'{"chunk":' + tail)
        old, comma, rest = tail.partition(b",")
        if not comma or not old.isdigit():
            raise ValueError("another order of keys")
        new = self[tail] = self._head + (rest + b"\n" if "reused_from" in said else rest[:-1] + self._mark)
        return new


def _copied(line: bytes, chunk: int, run_id: str) -> bytes:
    values = json.loads(line)
    values["chunk"] = chunk
    values.setdefault("reused_from", run_id)
    return encode_line(values)


_HEAD = re.compile(rb'\{"file_id":"[^"\\]*"(?=[,}])')


def renamed_line(line: bytes, file_id: str) -> bytes:
    """A line (without its newline) that names its file by another spelling of its ID."""
    if (head := _HEAD.match(line)) is not None:
        return b'{"file_id":' + json.dumps(file_id).encode() + line[head.end() :]
    return encode_line(json.loads(line) | {"file_id": file_id})[:-1]
