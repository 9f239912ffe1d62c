"""Parses the answers in lines of results.jsonl, by a regular expression where that is possible: JSON takes longer.

An answer is the text of `outcome` and `type` in the line: millions of lines hold a handful of different answers.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping

_PLAIN_LINE = re.compile(
    rb'^\{"file_id":"([^"\\]+)",("outcome":"[a-z]+","type":(?:null|"[^"\\]*")),.*\}$', re.MULTILINE
)


def parse_outcome_answers(lines: bytes) -> tuple[list[str], list[bytes]] | None:
    """The file IDs and the answers of some whole lines; None where a line needs `parse_outcome_answer`."""
    found = _PLAIN_LINE.findall(lines)
    if len(found) != lines.count(b"\n") or not lines.endswith(b"\n"):
        return None
    file_ids, answers = zip(*found, strict=True)
    try:
        return b"\n".join(file_ids).decode().split("\n"), list(answers)
    except UnicodeDecodeError:
        return None


_HEAD = re.compile(rb'\{"file_id":"[^"\\]+",("outcome":"[a-z]+","type":(?:null|"[^"\\]*")),')


def parse_outcome_answer(line: bytes) -> bytes:
    """The answer in one line. Raises ValueError if it is no outcome."""
    if (found := _HEAD.match(line)) is not None:
        return found[1]
    values = json.loads(line)
    if not isinstance(values, dict) or not isinstance(values.get("outcome"), str):
        raise ValueError("it has no `outcome`")
    values = {"outcome": values["outcome"], "type": values.get("type")}
    return json.dumps(values).encode()[1:-1]


class AnswerCounts:
    """Adds answers up, by outcome and by type."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._types: Counter[str] = Counter()

    def add_answers(self, answers: Iterable[bytes], sign: int = 1) -> None:
        """Adds answers; with `sign` -1, subtracts them."""
        for answer, files in Counter(answers).items():
            values = json.loads(b"{" + answer + b"}")
            self._counts[values["outcome"]] += sign * files
            if values["type"] is not None:
                self._types[values["type"]] += sign * files

    def add_counts(self, counts: Mapping[str, int], types: Mapping[str, int]) -> None:
        """Adds the sums of many lines."""
        self._counts.update(counts)
        self._types.update(types)

    @property
    def totals(self) -> tuple[dict[str, int], dict[str, int]]:
        """Files by outcome, and files by type."""
        return (
            {name: files for name, files in self._counts.most_common() if files},
            {name: files for name, files in self._types.most_common() if files},
        )
