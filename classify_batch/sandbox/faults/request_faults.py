"""The faults of requests: how they are named, and which of them a request meets. Pure.

A fault is named CALL.MOMENT.WHAT: `create.after.502` is a 502 in the place of a create's answer, after the job was
accepted. Any call can be combined with any phase and any `what`. `SHORT_NAMES` has names for the common ones. What the
client then sees is in `fault_responses`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Literal, NamedTuple

Call = Literal["create", "list", "get", "results", "files", "upload", "cancel", "delete"]
"""The same names for both versions; `results` is of v1 only, `cancel` is of v2; v1 has a `delete` of files only."""

Phase = Literal["before", "after"]
"""The MOMENT of a fault's name: before any work is done, or after it was done and before it is answered."""

PHASES: tuple[Phase, ...] = ("before", "after")

EVERY_CALL: frozenset[Call] = frozenset({"create", "list", "get", "results", "files", "upload", "cancel", "delete"})
READS: frozenset[Call] = frozenset({"list", "get", "results", "files"})

CALLS: Mapping[str, frozenset[Call]] = {
    "any": EVERY_CALL,
    "read": READS,
    "create": frozenset({"create"}),
    "list": frozenset({"list"}),
    "get": frozenset({"get"}),
    "results": frozenset({"results"}),
    "files": frozenset({"files", "upload"}),
    "upload": frozenset({"upload"}),
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


class RequestFault(NamedTuple):
    """What happens to which calls, and when."""

    calls: frozenset[Call]
    phase: Phase
    what: str


def parse_request_fault(name: str) -> RequestFault:
    """The fault that a name CALL.MOMENT.WHAT stands for. Raises ValueError, which says what part is wrong."""
    call, _, rest = name.partition(".")
    phase, _, what = rest.partition(".")
    if call not in CALLS:
        raise ValueError(f"a call is one of {', '.join(CALLS)}")
    return RequestFault(CALLS[call], parse_phase(phase), check_what(what))


def check_what(what: str) -> str:
    """Gives `what` back if it can happen. Raises ValueError."""
    if what in WHATS or (what.isascii() and what.isdigit() and int(what[:4]) in STATUSES):
        return what
    raise ValueError(f"what happens is a status from 400 to 599 or one of {', '.join(WHATS)}")


def parse_phase(word: str) -> Phase:
    for phase in PHASES:
        if word == phase:
            return phase
    raise ValueError("a phase is before or after, as in create.after.502")


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

    def happens_to_next(self, fault: CreateFault) -> bool:
        """Whether the fault happens to the next create; to be asked once for each."""
        return self._randoms[fault].random() < self._probabilities[fault]


class Draw(NamedTuple):
    """What was drawn for a request: whether it is slow, and what happens to it then, if anything."""

    slow: bool = False
    what: str | None = None


def certain_draw(what: str) -> Draw:
    """The draw of a request to which `what` happens for certain."""
    return Draw(slow=True) if what == SLOW else Draw(what=what)


class FaultSampler:
    """Draws what happens to each request.

    Args:
        rows: names and probabilities.
        seed: same seed, same requests in the same order: same faults.
    """

    def __init__(self, rows: Iterable[tuple[str, float]], seed: int) -> None:
        self._random = Random(seed)  # noqa: S311
        self._rows: dict[tuple[Call, Phase], list[tuple[float, str]]] = {}
        for name, probability in rows:
            fault = parse_request_fault(name)
            for call in fault.calls if probability > 0 else ():
                self._rows.setdefault((call, fault.phase), []).append((probability, fault.what))
        for faults_by_call in self._rows.values():
            # `slow` is drawn first, since it goes along with whatever is drawn after it.
            faults_by_call.sort(key=lambda row: row[1] != SLOW)

    def draw_fault(self, call: Call, phase: Phase) -> Draw:
        """Draws for each fault in turn; the first that happens ends it. Being slow goes along with another fault."""
        slow = False
        for probability, what in self._rows.get((call, phase), ()):
            if self._random.random() >= probability:
                continue
            if what != SLOW:
                return Draw(slow, what)
            slow = True
        return Draw(slow)
