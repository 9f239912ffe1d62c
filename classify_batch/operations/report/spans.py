"""Spans of time, added up: in bounded number, and each second once, whatever order they come in. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from statistics import median

SPANS_MAX = 200
"""Of each kind."""

_ends = attrgetter("to_s")
_begins = attrgetter("from_s")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of time. `kind`: what it is a time of."""

    kind: str
    from_s: float
    to_s: float


@dataclass(slots=True)
class SpanTotals:
    """Spans that don't overlap, in their order. Those that do become one, with the kind of the one that ends last: the
    shards of a run are held up at the same time. Neighbours become one where there would be more than `SPANS_MAX`.

    Attributes:
        seconds: in all of them, without the gaps between those that became one.
    """

    spans: list[Span] = field(default_factory=list)
    seconds: float = 0.0

    def add_span(self, span: Span) -> None:
        """Adds a span. What it shares with others counts once."""
        first = bisect_right(self.spans, span.from_s, key=_ends)
        behind = max(first, bisect_left(self.spans, span.to_s, key=_begins))
        others = self.spans[first:behind]
        shared_s = sum(min(each.to_s, span.to_s) - max(each.from_s, span.from_s) for each in others)
        self.seconds += span.to_s - span.from_s - shared_s
        self.spans[first:behind] = [_join([span, *others])]
        if len(self.spans) > SPANS_MAX:
            self._join_neighbours()

    def copy_totals(self) -> SpanTotals:
        """The same, to be added to."""
        return SpanTotals(self.spans.copy(), self.seconds)

    def gaps_s(self) -> float:
        """The seconds between the first one's beginning and the last one's end that are in none."""
        return self.spans[-1].to_s - self.spans[0].from_s - self.seconds if self.spans else 0.0

    def _join_neighbours(self) -> None:
        """Makes one of two where they are nearest to each other, and never of more than two: time lines stay even."""
        before, self.spans = self.spans, []
        middle_s = median(after.from_s - each.to_s for each, after in pairwise(before))
        joined = True
        for span in before:
            joined = not joined and span.from_s - self.spans[-1].to_s <= middle_s
            self.spans.append(_join([self.spans.pop(), span]) if joined else span)


def _join(spans: list[Span]) -> Span:
    last = max(spans, key=_ends)
    return Span(last.kind, min(map(_begins, spans)), last.to_s)
