"""Shares and percentiles, made in one place, so that no two numbers on a page contradict each other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypedDict

DIGITS_MAX = 6


class Percentiles(TypedDict):
    """Of `count` values. In seconds, unless the key says otherwise."""

    count: int
    p50: float
    p95: float
    p99: float


def percentiles_of(values: Iterable[float]) -> Percentiles | None:
    """By nearest rank: each is one of the values. None of no values."""
    ranked = sorted(values)
    if not ranked:
        return None
    p50, p95, p99 = (round(ranked[math.ceil(len(ranked) * share) - 1], 3) for share in (0.5, 0.95, 0.99))
    return {"count": len(ranked), "p50": p50, "p95": p95, "p99": p99}


def format_percentage(count: int, total: int, *, apart_from: float | None = None) -> str:
    """A share as `0.9 %`, with as many digits as it takes to be true.

    Some are never `0.0 %`, not all are never `100.0 %`, and a share that differs from the bound `apart_from` (in
    percent) is never spelled like it, nor on its other side.
    """
    if not total:
        return "0.0 %"
    exact = 100 * count / total
    bounds = [0.0, 100.0] if apart_from is None else [0.0, 100.0, apart_from]
    for digits in range(1, DIGITS_MAX):
        shown = float(f"{exact:.{digits}f}")
        if all((shown > bound) == (exact > bound) and (shown < bound) == (exact < bound) for bound in bounds):
            return f"{exact:.{digits}f} %"
    return f"{exact:.{DIGITS_MAX}f} %"
