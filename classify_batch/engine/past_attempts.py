"""What the journal says of attempts that have ended, for those whose jobs a retry reads first.

On v2 a run has as many of them as files, and each is read before the retry's first request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from classify_batch.clock import from_iso
from classify_batch.engine.sent_ids import sent_by_position
from classify_batch.lifecycle import ENDS, Recheck, WrittenPart
from classify_batch.rundir.journal.entry import Entry, Item
from classify_batch.vocabulary import BILLED, CREDITS, UNBILLED, Kind

_ENDS = frozenset(Kind(state.value) for state in ENDS)


@dataclass(slots=True)
class PastAttempt:
    """An old attempt: when it was first intended, of which part, and what it has in the sums.

    Attributes:
        files: of the part; None: the whole chunk.
        sent: the IDs that were sent, by position; None or empty: the planned ones.
        account: whose key sent it; None: the run's own.
    """

    since_s: float | None = None
    server_s: float | None = None
    project_id: str | None = None
    files: int | None = None
    sent: Mapping[int, str] | None = None
    credits: float = 0.0
    billed: float = 0.0
    unbilled: float = 0.0
    account: str | None = None

    @classmethod
    def of_recheck(cls, recheck: Recheck) -> PastAttempt:
        """An attempt that an earlier retry rechecked. Its bill was taken out of the sums: the end of that recheck
        adds it again."""
        return cls(
            from_iso(recheck["since"]),
            recheck.get("server_s"),
            recheck.get("project_id"),
            count_files(recheck),
            sent_by_position(recheck.get("ranges"), recheck.get("sent_ids", ())),
            recheck.get("credits", 0.0),
            account=recheck.get("account"),
        )

    def learn_intent(self, item: Item, at_s: float, server_s: float | None) -> None:
        if self.since_s is None:
            self.since_s, self.server_s, self.project_id = at_s, server_s, item.project_id
        self.files = None if item.ranges is None else sum(stop - start for start, stop in item.ranges)
        self.credits += item.credits
        if item.sent_ids and not self.sent:
            self.sent = sent_by_position(item.ranges, item.sent_ids)

    def learn_sums(self, sums: Mapping[str, float]) -> None:
        self.credits += sums.get(CREDITS, 0.0)
        self.billed += sums.get(BILLED, 0.0)
        self.unbilled += sums.get(UNBILLED, 0.0)

    def add_known_then(self, recheck: Recheck) -> None:
        """Adds what was known before the intent, and whose it was."""
        if self.server_s is not None:
            recheck["server_s"] = self.server_s
        if self.project_id is not None:
            recheck["project_id"] = self.project_id
        if self.account is not None:
            recheck["account"] = self.account

    def add_share_of_sums(self, recheck: Recheck, files: int, chunk_size: int) -> None:
        """Adds what the sums have for so many of its files; a job whose bill is known has one."""
        share = files / (chunk_size if self.files is None else self.files)
        if self.credits:
            recheck["credits"] = round(self.credits * share, 6)
        if self.billed:
            recheck["billed"] = round(self.billed * share, 6)
        if self.unbilled:
            recheck["unbilled"] = round(self.unbilled * share, 6)


def count_files(part: WrittenPart) -> int | None:
    """None: the whole chunk."""
    ranges = part.get("ranges")
    return None if ranges is None else sum(stop - start for start, stop in ranges)


def ended_items(entry: Entry, pasts: dict[tuple[int, int], PastAttempt], account: str | None = None) -> Iterator[Item]:
    """Learns from a line what it says of each attempt; yields those that it ends. `account`: whose process wrote it."""
    ends, at_s, server_s = entry.kind in _ENDS, entry.at_s, entry.server_s
    if not ends and entry.kind is not Kind.SUBMITTING:
        return
    for item in entry.items:
        key = item.chunk, item.attempt
        past = pasts.get(key)
        if past is None:
            past = pasts[key] = PastAttempt(account=account)
        if not ends:
            past.learn_intent(item, at_s, server_s)
            continue
        if item.sums:
            past.learn_sums(item.sums)
        yield item
