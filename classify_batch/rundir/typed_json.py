"""Whether JSON is of the type that a reader counts on: a TypedDict, or a dataclass's fields.

For the few small files that `status` reads in a blink; the journal and the outcomes are read by msgspec.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

_get_hints = cache(lambda kind: get_type_hints(kind, include_extras=True))


def find_misfit(values: Mapping[str, object], kind: type) -> str | None:
    """The first key of `kind` that is missing or not what it must be, in words; None where there is none. Keys that
    `kind` doesn't know are passed over."""
    required: frozenset[str] = getattr(kind, "__required_keys__", frozenset(_get_hints(kind)))
    for name, hint in _get_hints(kind).items():
        if name not in values:
            if name in required and get_origin(hint) is not NotRequired:
                return f"{name}: missing"
        elif not fits_type(values[name], hint):
            return f"{name}: not what it must be"
    return None


def fits_type(value: object, hint: Any) -> bool:
    """Whether a JSON value is of a type: a plain one, a union, a list, a mapping from strings, or a TypedDict."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (NotRequired, Required):
        return fits_type(value, arguments[0])
    if origin in (Union, UnionType):
        return any(fits_type(value, each) for each in arguments)
    if origin is list:
        return isinstance(value, list) and all(fits_type(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits_type(each, arguments[1]) for each in value.values())
    if is_typeddict(hint):
        return isinstance(value, dict) and find_misfit(value, hint) is None
    return isinstance(value, int | float if hint is float else hint)  # of `object` is everything
