"""The fields of a JSON body: found in real answers, and changed in one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Path = tuple[str, ...]
"""Names of fields from the body inwards; `EACH` stands for every item of a list."""

EACH = "[]"


class _Removed:
    """Takes the place of a value that a field has no more."""


REMOVED = _Removed()

Replace = Callable[[Any], object]
"""Gives what takes a value's place: the value itself, another one, or REMOVED."""


def values_by_path(bodies: Iterable[object]) -> dict[Path, list[Any]]:
    """The different values of each field in some bodies, containers and what they hold, in the order of the fields."""
    found: dict[Path, list[Any]] = {}

    def walk(value: object, path: Path) -> None:
        if path and path[-1] != EACH and value not in (values := found.setdefault(path, [])):
            values.append(value)
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, (*path, name))
        elif isinstance(value, list):
            for inner in value:
                walk(inner, (*path, EACH))

    for body in bodies:
        walk(body, ())
    return found


def replaced(body: Any, path: Path, replace: Replace) -> Any:
    """A body with the values of a field replaced; the body itself where it has none, or none of them changes."""
    if not path:
        return replace(body)
    step, rest = path[0], path[1:]
    if step == EACH:
        if not isinstance(body, list):
            return body
        items = [replaced(item, rest, replace) for item in body]
        return items if any(new is not old for new, old in zip(items, body, strict=True)) else body
    if not isinstance(body, dict) or step not in body:
        return body
    value = replaced(body[step], rest, replace)
    if value is body[step]:
        return body
    return {name: each for name, each in body.items() if name != step} if value is REMOVED else {**body, step: value}


def path_name(path: Path) -> str:
    """How a path is written in a test's name.

    >>> path_name(("items", EACH, "result", "type"))
    'items[].result.type'
    """
    return ".".join(path).replace(f".{EACH}", EACH)
