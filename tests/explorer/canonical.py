"""Copies and keys of the decisions' own state, whatever class holds it.

A key tells states apart only by what can make a difference: times count from now, and the order of a dictionary doesn't
matter. Every time of a model lies near `START_S`, which is larger than any span of time in it, so that times can be
known from spans.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import inf
from operator import attrgetter, itemgetter
from typing import Any

from classify_batch.engine.reconciler.evidence import Evidence
from classify_batch.model import Attempt, JobView

START_S = 1000
"""When a model begins."""

_TIMES_FROM = START_S / 2

_CONSTANT = frozenset({"_specs", "_settle_s", "_clock_spread_s"})


def since(value: float | None, now: int) -> float | None:
    """A time, as it is seen from now; a span of time as it is."""
    return value if value is None or not _TIMES_FROM < value < inf else value - now


# --- Copies -----------------------------------------------------------------------------------------------------------


def copy_of(value: Any) -> Any:
    """A copy that shares nothing that can change."""
    kind = type(value)
    copier = _COPIERS.get(kind) or _copier_of(kind)
    return copier(value)


def _copier_of(kind: type) -> Callable[[Any], Any]:
    copier: Callable[[Any], Any] = _same
    if issubclass(kind, Evidence):
        copier = _copy_evidence
    elif _changes(kind):
        copier = _copy_of_fields(kind)
    _COPIERS[kind] = copier
    return copier


def _same(value: Any) -> Any:
    return value


def _copy_mapping(value: Any) -> Any:
    if not value:
        return type(value)()
    return type(value)([(name, copy_of(each)) for name, each in value.items()])


def _copy_evidence(value: Evidence) -> Evidence:
    copy = object.__new__(type(value))
    copy.__dict__.update({name: copy_of(each) for name, each in value.__dict__.items()})
    return copy


def _copy_of_fields(kind: type) -> Callable[[Any], Any]:
    names = tuple(each.name for each in fields(kind))

    def copier(value: Any) -> Any:
        copy: Any = object.__new__(kind)
        for name in names:
            setattr(copy, name, copy_of(getattr(value, name)))
        return copy

    return copier


_COPIERS: dict[type, Callable[[Any], Any]] = {
    dict: _copy_mapping,
    OrderedDict: _copy_mapping,
    list: lambda value: [copy_of(each) for each in value],
    set: set,
}

# --- Keys -------------------------------------------------------------------------------------------------------------


def key_of(value: Any, now: int) -> Hashable:
    """Equal for values that make no difference from now on."""
    kind = type(value)
    keyer = _KEYERS.get(kind) or _keyer_of(kind)
    return keyer(value, now)


def _keyer_of(kind: type) -> Callable[[Any, int], Hashable]:
    keyer: Callable[[Any, int], Hashable] = _key_of_constant
    if issubclass(kind, Evidence):
        keyer = _key_of_evidence
    elif issubclass(kind, tuple):
        keyer = _key_of_tuple
    elif _changes(kind):
        keyer = _key_of_fields(kind)
    _KEYERS[kind] = keyer
    return keyer


def _key_of_constant(value: Any, _now: int) -> Hashable:
    result: Hashable = value
    return result


def _key_of_evidence(value: Evidence, now: int) -> Hashable:
    return tuple([key_of(each, now) for name, each in value.__dict__.items() if name not in _CONSTANT])


def _key_of_tuple(value: Sequence[Any], now: int) -> Hashable:
    return tuple([key_of(each, now) for each in value])


def _key_of_fields(kind: type) -> Callable[[Any, int], Hashable]:
    get = attrgetter(*(each.name for each in fields(kind)))
    return lambda value, now: _key_of_tuple(get(value), now)


def _key_of_mapping(value: Mapping[Any, Any], now: int) -> Hashable:
    if len(value) < 2:
        return tuple([(name, key_of(each, now)) for name, each in value.items()])
    return tuple(sorted([(name, key_of(each, now)) for name, each in value.items()], key=itemgetter(0)))


def _key_of_view(view: JobView, now: int) -> Hashable:
    return view.job_id, view.status, view.mode, since(view.created_at_s, now)


def _key_of_attempt(attempt: Attempt, now: int) -> Hashable:
    times = (attempt.since_s, attempt.waits_since_s, attempt.server_s, attempt.intended_s)
    return attempt.key, attempt.part, attempt.ambiguous, *[since(each, now) for each in times]


_KEYERS: dict[type, Callable[[Any, int], Hashable]] = {
    int: since,
    float: since,
    dict: _key_of_mapping,
    OrderedDict: _key_of_mapping,
    list: _key_of_tuple,
    set: lambda value, _: frozenset(value),
    array: lambda value, _: tuple(value),
    JobView: _key_of_view,
    Attempt: _key_of_attempt,
}


def _changes(kind: type) -> bool:
    """Whether the objects of a dataclass can change."""
    return is_dataclass(kind) and not kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
