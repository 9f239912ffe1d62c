"""What can happen to a request, how it is named, and the dice: pure.

A misfortune is named CALL.MOMENT.WHAT: `create.after.502` is a 502 in the place of a create's answer, once the job
was accepted. That is the whole grammar: each call can meet each `what` at each moment. `SHORT_NAMES` has names for the
common ones; what a client then sees is in `struck`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Literal, NamedTuple

Call = Literal["create", "list", "get", "results", "files", "cancel", "delete"]
"""The same names for both versions; `results` is of v1 only, `cancel` and `delete` are of v2."""

Moment = Literal["before", "after"]
"""Before any work is done, or after it was done and before it is answered."""

MOMENTS: tuple[Moment, ...] = ("before", "after")

EVERY_CALL: frozenset[Call] = frozenset({"create", "list", "get", "results", "files", "cancel", "delete"})
READS: frozenset[Call] = frozenset({"list", "get", "results", "files"})

CALLS: Mapping[str, frozenset[Call]] = {
    "any": EVERY_CALL,
    "read": READS,
    "create": frozenset({"create"}),
    "list": frozenset({"list"}),
    "get": frozenset({"get"}),
    "results": frozenset({"results"}),
    "files": frozenset({"files"}),
    "cancel": frozenset({"cancel"}),
    "delete": frozenset({"delete"}),
}

STATUSES = range(400, 600)

SLOW = "slow"

WHATS: Mapping[str, str] = {
    SLOW: "takes `slow_s` longer, and goes on; after the work is done, or before",
    "hang": "the answer never comes, and the connection stays open",
    "close": "the connection is closed (FIN) without an answer",
    "reset": "the connection is reset (RST) without an answer",
    "cut": "closed (FIN) after half of the answer: the body is shorter than its `Content-Length`",
    "reset_midway": "reset (RST) after half of the answer",
    "html": "200 with a page of HTML, as from a captive portal",
    "garbage": "200 with bytes that are no JSON and no text",
    "other_shape": "200 with JSON of another shape",
    "plan_full": "429 for a count of the plan: “already reached the maximum number of”",
}
"""Everything that can happen, beside the statuses 400 to 599."""

SHORT_NAMES: Mapping[str, str] = {
    "rate_429": "any.before.429",
    "create_503_before": "create.before.503",
    "read_503": "read.before.503",
    "create_503_after": "create.after.503",
    "lost_create_answer": "create.after.close",
    "slow": "any.after.slow",
    "hang": "any.after.hang",
    "reset_before": "any.before.reset",
}


class Misfortune(NamedTuple):
    """What strikes which calls, and when."""

    calls: frozenset[Call]
    moment: Moment
    what: str


def parse(name: str) -> Misfortune:
    """The misfortune of a name CALL.MOMENT.WHAT. Raises ValueError, saying which part is wrong."""
    call, _, rest = name.partition(".")
    moment, _, what = rest.partition(".")
    if call not in CALLS:
        raise ValueError(f"a call is one of {', '.join(CALLS)}")
    return Misfortune(CALLS[call], _moment(moment), checked_what(what))


def checked_what(what: str) -> str:
    """`what`, if it can happen. Raises ValueError."""
    if what in WHATS or (what.isascii() and what.isdigit() and int(what[:4]) in STATUSES):
        return what
    raise ValueError(f"what happens is a status from 400 to 599 or one of {', '.join(WHATS)}")


def _moment(word: str) -> Moment:
    for moment in MOMENTS:
        if word == moment:
            return moment
    raise ValueError("a moment is before or after, as in create.after.502")


CreateFault = Literal["create_slow", "overlap", "same_job_id"]
"""What can happen to a create beside CALL.MOMENT.WHAT; each is a probability in `Faults`."""


class CreateFaultSampler:
    """Decides for each create which of the `CreateFault`s happen to it.

    Each fault has a stream of random numbers of its own: to change one probability leaves the other faults alone.

    Args:
        probabilities: by fault.
        seed: same seed, same creates in the same order: same faults.
    """

    def __init__(self, probabilities: Mapping[CreateFault, float], seed: int) -> None:
        self._probabilities = probabilities
        self._randoms = {fault: Random(f"{seed}/{fault}") for fault in probabilities}  # noqa: S311

    def happens(self, fault: CreateFault) -> bool:
        """Whether the fault happens to the next create; to be asked once for each."""
        return self._randoms[fault].random() < self._probabilities[fault]


class Draw(NamedTuple):
    """What the dice say: whether the request is slow, and what happens to it then, if anything."""

    slow: bool = False
    what: str | None = None


def sure(what: str) -> Draw:
    """The lot of a request to which `what` happens for certain."""
    return Draw(slow=True) if what == SLOW else Draw(what=what)


class FaultSampler:
    """Draws what happens to each request.

    Args:
        rows: names and probabilities.
        seed: same seed, same requests in the same order: same misfortunes.
    """

    def __init__(self, rows: Iterable[tuple[str, float]], seed: int) -> None:
        self._random = Random(seed)  # noqa: S311
        self._rows: dict[tuple[Call, Moment], list[tuple[float, str]]] = {}
        for name, probability in rows:
            misfortune = parse(name)
            for call in misfortune.calls if probability > 0 else ():
                self._rows.setdefault((call, misfortune.moment), []).append((probability, misfortune.what))
        for struck in self._rows.values():
            struck.sort(key=lambda row: row[1] != SLOW)

    def throw(self, call: Call, moment: Moment) -> Draw:
        """The first that strikes is it; being slow goes with any other."""
        slow = False
        for probability, what in self._rows.get((call, moment), ()):
            if self._random.random() >= probability:
                continue
            if what != SLOW:
                return Draw(slow, what)
            slow = True
        return Draw(slow)
