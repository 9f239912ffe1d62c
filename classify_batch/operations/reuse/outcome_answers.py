"""What lines of results.jsonl answer, without reading the rest where that can be helped.

An answer is its `outcome` and `type` as they stand in the line: millions of lines say a handful of different things.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping

_PLAIN_LINE = re.compile(
    rb'^\{"file_id":"([^"\\]+)",("outcome":"[a-z]+","type":(?:null|"[^"\\]*")),.*\}$', re.MULTILINE
)


def outcome_answers(lines: bytes) -> tuple[list[str], list[bytes]] | None:
    """The file ID and the answer of each of some whole lines; None where one of them has to be looked at by itself."""
    found = _PLAIN_LINE.findall(lines)
    if len(found) != lines.count(b"\n") or not lines.endswith(b"\n"):
        return None
    file_ids, answers = zip(*found, strict=True)
    try:
        return b"\n".join(file_ids).decode().split("\n"), list(answers)
    except UnicodeDecodeError:
        return None


_HEAD = re.compile(rb'\{"file_id":"[^"\\]+",("outcome":"[a-z]+","type":(?:null|"[^"\\]*")),')


def outcome_answer(line: bytes) -> bytes:
    """The answer of one line. Raises ValueError for what is no outcome."""
    if (found := _HEAD.match(line)) is not None:
        return found[1]
    values = json.loads(line)
    if not isinstance(values, dict) or not isinstance(values.get("outcome"), str):
        raise ValueError("an outcome says which")
    said = {"outcome": values["outcome"], "type": values.get("type")}
    return json.dumps(said).encode()[1:-1]


class Answers:
    """Adds answers up, by outcome and by type."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._types: Counter[str] = Counter()

    def add(self, answers: Iterable[bytes], sign: int = 1) -> None:
        """`sign`: -1 takes them off."""
        for answer, files in Counter(answers).items():
            said = json.loads(b"{" + answer + b"}")
            self._counts[said["outcome"]] += sign * files
            if said["type"] is not None:
                self._types[said["type"]] += sign * files

    def add_sums(self, counts: Mapping[str, int], types: Mapping[str, int]) -> None:
        """Adds what is known of many lines at once."""
        self._counts.update(counts)
        self._types.update(types)

    @property
    def told(self) -> tuple[dict[str, int], dict[str, int]]:
        """Files by outcome, and files by type."""
        return (
            {name: files for name, files in self._counts.most_common() if files},
            {name: files for name, files in self._types.most_common() if files},
        )
