"""What a journal's lines add up to: counts, and nothing about single chunks.

Now and then a journal contains its sums (`totals`, on a line of facts: what all lines before it add up to), so that
`status` reads the last few lines of a big journal instead of all of it. `RunSnapshot` counts by the same methods as
`read_totals`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NotRequired, Required, TypedDict, cast

from classify_batch.errors import DamagedError
from classify_batch.rundir.journal.line import DAMAGED_HINT, BadLineError, refuse_unsound
from classify_batch.vocabulary import ACCEPTED, BILLED, CREDITS, UNBILLED, Kind, OutcomeKind

if TYPE_CHECKING:
    from classify_batch.lifecycle import AccountKeys, Recheck

TOTALS_EVERY_BYTES = 1 << 16
"""How much of a journal is written without its sums: what they cost (half a percent) against what `status` reads."""

_MARK = b'"totals":{'
_LOOKS_BYTES = (1 << 17, 1 << 21)
"""How far back sums are looked for: they are nearly always near; a journal without any is read from its beginning."""

_BLOCK_BYTES = 1 << 20

DURATIONS_KEPT = 256
"""Of so many jobs it is remembered how long they took: as many as the schedule of polls learns from
(`durations.KEPT`)."""

Read = Callable[[int, int], bytes]
"""Gives a file's bytes from one offset to another."""


class AccountSums(TypedDict):
    """What processes with an account's key did: files by outcome, accepted jobs, and credits as `sums` has them."""

    counts: dict[str, int]
    jobs: int
    credits: float


class WrittenTotals(TypedDict):
    """The sums as they stand in a line. Older versions wrote no `sums`. `accounts`: by their names, where there were
    any; `account`: whose key the writing process has."""

    counts: dict[str, int]
    types: dict[str, int]
    failure_codes: dict[str, int]
    sums: NotRequired[dict[str, float]]
    found: NotRequired[dict[str, float]]
    accounts: NotRequired[dict[str, AccountSums]]
    account: NotRequired[str]
    jobs: int
    requests: int


class WrittenItem(TypedDict, total=False):
    """What a line says of an attempt, as far as it is summed up."""

    credits: float
    duration_s: float | None
    counts: dict[str, int]
    types: dict[str, int]
    failure_codes: dict[str, int]
    sums: dict[str, float]


class WrittenLine(TypedDict, total=False):
    """A line of the journal, as far as it is summed up. Which keys it has depends on its kind."""

    seq: Required[int]
    kind: Required[str]
    durable: int
    requests: int
    totals: WrittenTotals
    found: dict[str, float]
    items: list[WrittenItem]
    looks: list[Recheck]
    account: AccountKeys


class Totals:
    """Sums over a run.

    Attributes:
        outcomes, types, codes: what was committed so far.
        sums: what else is added up, by name; `credits` with those of the jobs that are out.
        found: limits of the API below those that were set, by the setting's name, and `noise_share` of its 429s.
        jobs: accepted jobs; requests: sent by processes that are gone, as far as they could write it down.
        durations: how long each of the last jobs took, in seconds, as far as it was read.
        seq: of the last line.
        account: whose key the last process has; None: the run's own, which has no name.
        accounts: what was done with each account's key.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.sums: dict[str, float] = defaultdict(float)
        self.found: dict[str, float] = {}
        self.jobs = 0
        self.requests = 0
        self._session_requests = 0
        self.durations: deque[float] = deque(maxlen=DURATIONS_KEPT)
        self.seq = 0
        self.account: str | None = None
        self.accounts: dict[str, AccountSums] = {}
        self._account_sums: AccountSums | None = None  # those of `account`
        self._found_by: dict[str | None, dict[str, float]] = {}

    def sums_for_line(self, session_requests: int) -> WrittenTotals:
        """The sums as they stand in a line, with the requests that the writing process sent."""
        sums: WrittenTotals = {
            "counts": self.outcomes,
            "types": self.types,
            "failure_codes": self.codes,
            "sums": self.sums,
            "jobs": self.jobs,
            "requests": self.requests + session_requests,
        }
        if self.found:
            sums["found"] = self.found
        if self.accounts:
            sums["accounts"] = self.accounts
        if self.account is not None:
            sums["account"] = self.account
        return sums

    def begin_account(self, account: str | None) -> None:
        """From here on a process with this account's key is at work: it has found other limits than others."""
        self._found_by[self.account] = self.found
        self.found = self._found_by.get(account, {})
        self.account = account
        self._account_sums = None
        if account is not None:
            self._account_sums = self.accounts.setdefault(account, {"counts": {}, "jobs": 0, "credits": 0.0})

    def begin_with(self, outcomes: Mapping[str, int], types: Mapping[str, int], accepted: int) -> None:
        """Adds what stands before the journal's first line: reused outcomes. All later sums include them."""
        self.outcomes.update(outcomes)
        self.types.update(types)
        if accepted:
            self.sums[ACCEPTED] += accepted

    def end_reading(self) -> None:
        """Counts the requests of a process that was killed."""
        self.requests += self._session_requests
        self._session_requests = 0

    def _set_session_requests(self, session_requests: int | None) -> None:
        if session_requests is not None:
            self._session_requests = session_requests

    def _end_session(self, session_requests: int | None) -> None:
        self._set_session_requests(session_requests)
        self.end_reading()

    def _forget_failures(self, rechecks: Iterable[Recheck]) -> None:
        """Forgets the failures, and the bills of the jobs that are read again: their ends count them again."""
        del self.outcomes[OutcomeKind.FAILED]
        for sums in self.accounts.values():
            sums["counts"].pop(OutcomeKind.FAILED, None)
        self.codes.clear()
        self._subtract_bills(rechecks)

    def _subtract_bills(self, rechecks: Iterable[Recheck]) -> None:
        for recheck in rechecks:
            for name, counted in ((BILLED, recheck.get("billed")), (UNBILLED, recheck.get("unbilled"))):
                if counted:  # a sum that is there says that bills are known
                    self.sums[name] -= counted

    def _add_attempt_end(
        self,
        counts: Mapping[str, int] | None,
        types: Mapping[str, int] | None,
        codes: Mapping[str, int] | None,
        sums: Mapping[str, float] | None,
    ) -> None:
        """Adds what an attempt's end says. Plain loops: `Counter.update` takes three times as long for so few."""
        for counter, added in ((self.outcomes, counts), (self.types, types), (self.codes, codes)):
            if added:
                for name, number in added.items():
                    counter[name] += number
        if sums:
            for name, value in sums.items():
                self.sums[name] += value
        if (account := self._account_sums) is not None:
            account["credits"] += sums.get(CREDITS, 0.0) if sums else 0.0
            for name, number in (counts or {}).items():
                account["counts"][name] = account["counts"].get(name, 0) + number

    def _add_reserved(self, credits: float) -> None:
        """Adds the most that an attempt can cost, when it goes out."""
        if credits:
            self.sums[CREDITS] += credits
            if self._account_sums is not None:
                self._account_sums["credits"] += credits

    def _count_jobs(self, jobs: int) -> None:
        self.jobs += jobs
        if self._account_sums is not None:
            self._account_sums["jobs"] += jobs

    def read_line(self, values: WrittenLine) -> None:
        """Adds a line, as parsed."""
        self.seq = values["seq"]
        kind = values["kind"]
        match kind:
            case Kind.OPENED:
                self.end_reading()
                account = values.get("account")
                self.begin_account(None if account is None else account["name"])
            case Kind.CLOSED:
                self._end_session(values.get("requests"))
            case Kind.REOPENED:
                self._forget_failures(values.get("looks", ()))
            case Kind.RETRIED:
                self._subtract_bills(values["looks"])
            case Kind.TUNED:
                pass
            case _:
                self._start_from_totals(values)
                self.found = values.get("found", self.found)
                self._set_session_requests(values.get("requests"))
                self._count_jobs(len(values["items"]) if kind in (Kind.SUBMITTED, Kind.ADOPTED) else 0)
                for item in values["items"]:
                    self._add_reserved(item.get("credits", 0.0))
                    if (duration_s := item.get("duration_s")) is not None:
                        self.durations.append(duration_s)
                    self._add_attempt_end(
                        item.get("counts"), item.get("types"), item.get("failure_codes"), item.get("sums")
                    )

    def _start_from_totals(self, values: WrittenLine) -> None:
        """Begins with what a line says of all before it."""
        if (sums := values.get("totals")) is not None:
            self.outcomes, self.types = Counter(sums["counts"]), Counter(sums["types"])
            self.codes, self.jobs = Counter(sums["failure_codes"]), sums["jobs"]
            self.sums = defaultdict(float, sums.get("sums", {}))
            self.accounts = sums.get("accounts", {})
            self.begin_account(sums.get("account"))
            self.found = sums.get("found", {})
            # The sums hold what this line's process had sent by then, which is added again when its last figure is
            # known.
            self.requests = sums["requests"] - values["requests"]


def read_totals(read: Read, size: int, name: str, known_durable: int = 0, totals: Totals | None = None) -> Totals:
    """The sums of a journal of `size` bytes; from its last lines alone where one of them has the sums before it.

    What comes before that line is not looked at: whether it is whole is for `verify` and the next start to say. A tail
    that is torn, or just being written, is left out.

    Args:
        name: the file's, for messages.
        known_durable: a seq that is known from elsewhere (the manifest) to have been on the disk.
        totals: what stood before the journal's first line; changed, and returned.

    Raises:
        DamagedError: a line that is known to have been on the disk is not there as it was written.
    """
    start, seq = _find_last_totals(read, size)
    totals = totals or Totals()
    totals.seq = seq
    bad: tuple[int, str] | None = None
    durable = known_durable
    for offset, line in _lines_backwards(read, start, size):
        values = _parse_line(line)
        durable = durable if values is None else max(durable, values.get("durable", 0))
        if bad is not None:
            continue
        if values is None:
            bad = offset, "not a line as it was written"
        elif values["seq"] != totals.seq + 1:
            bad = offset, f"seq {values['seq']} follows seq {totals.seq}"
        else:
            totals.read_line(values)
    if totals.seq < durable:
        offset, why = bad or (size, f"cut off; {durable} lines were known to be on the disk")
        raise DamagedError(f"{name}, line {totals.seq + 1}, byte {offset}: {why}", hint=DAMAGED_HINT)
    totals.end_reading()
    return totals


def _find_last_totals(read: Read, size: int) -> tuple[int, int]:
    """Where the last line begins that has the sums before it, and the seq before it; else the beginning."""
    for look in _LOOKS_BYTES:
        start = max(0, size - look)
        *lines, rest = read(start, size).split(b"\n")
        offset = size - len(rest)
        for line in reversed(lines):
            offset -= len(line) + 1
            if _MARK in line and (values := _parse_line(line)) is not None and "totals" in values:
                return offset, values["seq"] - 1
        if not start:  # that was the whole journal
            break
    return 0, 0


def _lines_backwards(read: Read, start: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines, each with the offset at which it begins."""
    rest = b""
    for place in range(start, size, _BLOCK_BYTES):
        *lines, rest = (rest + read(place, min(size, place + _BLOCK_BYTES))).split(b"\n")
        for line in lines:
            yield start, line
            start += len(line) + 1


def _parse_line(line: bytes) -> WrittenLine | None:
    """A line's members; None for what is not as it was written."""
    try:
        refuse_unsound(line)
        values = json.loads(line)
    except (BadLineError, ValueError):
        return None
    return cast(WrittenLine, values) if isinstance(values, dict) and {"seq", "kind"} <= values.keys() else None
