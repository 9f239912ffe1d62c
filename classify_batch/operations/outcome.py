"""An outcome as Python programs get it: a mapping with the keys of its line, and each of them as a typed attribute."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from classify_batch.errors import DamagedError
from classify_batch.rundir.committed_outcomes import HINT
from classify_batch.vocabulary import OutcomeKind

Carried = dict[str, Any] | list[dict[str, Any]]
"""What was carried with a file; a list where the file came more than once in the input."""

_decoder = msgspec.json.Decoder(dict[str, Any])


class Outcome(dict[str, Any]):
    """The final outcome of one file: a line of results.jsonl or failures.jsonl.

    It is a dict with the keys of the line, so `outcome["type"]`, `json.dumps(outcome)` and tables made of many of them
    work; and what the manual says of the keys, it has as attributes, which a type checker knows: `outcome.type`. An
    attribute is None where the line has no such key.
    """

    __slots__ = ()

    @property
    def file_id(self) -> str:
        """The file's ID, as it was in the input."""
        return self["file_id"]  # type: ignore[no-any-return]

    @property
    def outcome(self) -> OutcomeKind:
        """`classified`, `unmatched` (no rule matched, which is an answer) or `failed`."""
        return OutcomeKind(self["outcome"])

    @property
    def failed(self) -> bool:
        """Whether there is no answer: then `code` and `message` say why."""
        return self.outcome is OutcomeKind.FAILED

    @property
    def type(self) -> str | None:
        """The type of the rule that matched."""
        return self.get("type")

    @property
    def confidence(self) -> float | None:
        """How sure the API is, from 0 to 1."""
        return self.get("confidence")

    @property
    def reasoning(self) -> str | None:
        """The API's reasons."""
        return self.get("reasoning")

    @property
    def mode(self) -> str | None:
        """The mode of the job that answered."""
        return self.get("mode")

    @property
    def code(self) -> str | None:
        """Why it failed, for programs: a failure code."""
        return self.get("code")

    @property
    def message(self) -> str | None:
        """Why it failed, in words."""
        return self.get("message")

    @property
    def job_id(self) -> str | None:
        """The job that the file was in last."""
        return self.get("job_id")

    @property
    def chunk(self) -> int:
        """The number of the file's chunk in the plan."""
        return self["chunk"]  # type: ignore[no-any-return]

    @property
    def attempt(self) -> int:
        """The number of the attempt of that chunk."""
        return self["attempt"]  # type: ignore[no-any-return]

    @property
    def ended_at(self) -> str:
        """When it was written down (`classified_at` or `failed_at`): RFC 3339, in UTC."""
        return self["failed_at" if self.failed else "classified_at"]  # type: ignore[no-any-return]

    @property
    def carried(self) -> Carried | None:
        """What `plan.carry` took along from the input."""
        return self.get("carried")

    @property
    def sent_id(self) -> str | None:
        """The project's ID of the content, where the input was a folder."""
        return self.get("sent_id")

    @property
    def reused_from(self) -> str | None:
        """The ID of the earlier run whose answer this is."""
        return self.get("reused_from")


def decode_outcomes(data: bytes, where: str) -> list[Outcome]:
    """Whole lines as outcomes. `where`: what they were read from. Raises DamagedError."""
    try:
        return list(map(Outcome, _decoder.decode_lines(data)))
    except ValueError:  # msgspec is too strict for what json wrote: a lone surrogate
        return [_decode_line(line, where) for line in data.split(b"\n")[:-1]]


def _decode_line(line: bytes, where: str) -> Outcome:
    try:
        return Outcome(json.loads(line))
    except (ValueError, TypeError):
        raise DamagedError(f"{where}: not an outcome: {line[:80]!r}", hint=HINT) from None
