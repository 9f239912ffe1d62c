"""Copies lines of earlier results to a new run, with a new `chunk`, and `reused_from`, which names the run that paid.

Everything else that was answered stays: `job_id` and `attempt` are those of the earlier run. A line that was reused
before keeps its `reused_from`. If the new input spells the UUID of a file differently, the copy uses that spelling; and
what is carried comes from the new input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from operator import itemgetter

from classify_batch.rundir.outcome_lines import encode_line

_CHUNK = b',"chunk":'
"""It can't occur inside a JSON string, where its quotes would be escaped. So if the rest of a line behind it ends an
object, it is the line's own key."""


def copy_lines(lines: list[bytes], chunk: int, run_id: str) -> bytes:
    """Copies lines (without newlines) of the run `run_id` into chunk `chunk` of a new run (with newlines)."""
    ends = _LineEnds(chunk, run_id)
    try:
        if (copied := _copy_lines_of_a_job(lines, ends)) is not None:
            return copied
        return b"".join([head + ends[tail] for head, _, tail in [line.rpartition(_CHUNK) for line in lines]])
    except ValueError:  # a line with another order of keys, or with a `chunk` inside another value
        return b"".join([copy_line(line, chunk, run_id) for line in lines])


def _copy_lines_of_a_job(lines: list[bytes], ends: _LineEnds) -> bytes | None:
    """Copies lines that all end alike, as those of one job do, in three passes in C; None where they don't."""
    tail = lines[0].rpartition(_CHUNK)[2]
    end = _CHUNK + tail
    if set(map(itemgetter(slice(-len(end), None)), lines)) != {end}:
        return None
    new_end = ends[tail]
    return new_end.join([*map(itemgetter(slice(0, -len(end))), lines), b""])


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


_CARRIED = b',"carried":'
"""It can't occur inside a JSON string either, and no other value of a line has such a key."""

_REUSED_LAST = re.compile(rb',"reused_from":"[^"\\]*"\}\Z')


def strip_carried(line: bytes) -> bytes:
    """The line (without its newline) without what it carries: that is its last value, or only `reused_from` follows."""
    head, found, _ = line.partition(_CARRIED)
    if not found:
        return line
    last = _REUSED_LAST.search(line)
    return head + (last[0] if last is not None else b"}")


def add_carried(lines: bytes, carried: Sequence[str]) -> bytes:
    """Lines (with newlines) that carry nothing, with what each is to carry: JSON, as the rows of an input have it."""
    return b"".join(
        b"%s%s%s}\n" % (line[:-1], _CARRIED, _as_bytes(each))
        for line, each in zip(lines.split(b"\n")[:-1], carried, strict=True)
    )


def _as_bytes(carried: str) -> bytes:
    # A row escapes all that isn't ASCII, and a line doesn't.
    return encode_line(json.loads(carried))[:-1] if "\\u" in carried else carried.encode()
