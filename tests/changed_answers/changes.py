"""What can become of a field, and of a whole answer. Each change has a name, and is a pure function.

A change that changes nothing, since the value was so before, is no case.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import httpx

from classify_batch.clock import from_iso, to_iso
from tests.changed_answers.fields import REMOVED

HUGE_CHARACTERS = 100_000
HUGE_COUNT = 100
HUGE_NUMBER = 10**400
"""No float holds it, and JSON can spell it."""

OTHER_ZONE_S = 7 * 3600.0


# --- Fields -----------------------------------------------------------------------------------------------------------


def emptied(value: Any) -> object:
    """The empty value of the same type."""
    return value if value is None else type(value)()


def in_other_case(value: Any) -> object:
    if not isinstance(value, str):
        return value
    return value.upper() if value != value.upper() else value.lower()


def blanks_around(value: Any) -> object:
    return f" {value}\n" if isinstance(value, str) else value


def huge(value: Any) -> object:
    """A value of the same type that is too large for its purpose."""
    match value:
        case bool() | None:
            return value
        case str():
            return value + "x" * HUGE_CHARACTERS
        case int() | float():
            return HUGE_NUMBER
        case list():
            return value * HUGE_COUNT
        case _:
            return value | {f"more-{number}": number for number in range(HUGE_COUNT)}


def one_less(value: Any) -> object:
    return value - 1 if isinstance(value, int | float) and not isinstance(value, bool) else value


def moved_in_time(value: Any, by_s: float) -> object:
    """A time that another clock would have stamped; all else stays."""
    if not isinstance(value, str) or (time_s := from_iso(value)) is None:
        return value
    return to_iso(time_s + by_s)


def as_text(value: Any) -> object:
    return value if value is None or isinstance(value, str) else json.dumps(value)


FIELD_CHANGES: Mapping[str, Callable[[Any], object]] = {
    "removed": lambda _: REMOVED,
    "null": lambda _: None,
    "number": lambda _: 7,
    "text": lambda _: "x",
    "truth": lambda _: True,
    "object": lambda _: {"x": 1},
    "list": lambda _: ["x"],
    "in a list": lambda value: [value],
    "as text": as_text,
    "empty": emptied,
    "other case": in_other_case,
    "blanks": blanks_around,
    "huge": huge,
    "one less": one_less,
    "earlier": partial(moved_in_time, by_s=-OTHER_ZONE_S),
    "later": partial(moved_in_time, by_s=OTHER_ZONE_S),
}
"""By its name, what takes the place of a field's value."""

OTHER_JOB, OTHER_FILE = "of another job", "of another file"
"""Further changes of a field: it has the value that it had for another job, or for another file of the same job."""


def is_same(old: object, new: object) -> bool:
    """Whether two values are the same JSON: `True` and 1 are not."""
    return old is new or (type(old) is type(new) and old == new)


# --- Whole answers ----------------------------------------------------------------------------------------------------


class Unreadable(NamedTuple):
    """A body that is no JSON."""

    text: str


class Given(NamedTuple):
    """An answer of the sandbox.

    Attributes:
        call: create, get, list, results or files.
        owner: the ID of the job that it is about.
    """

    call: str
    url: httpx.URL
    owner: str | None
    body: Any


@dataclass
class Memory:
    """What was given before, as the sandbox gave it."""

    previous: dict[str, Any] = field(default_factory=dict)
    """The last answer to each call."""
    first: dict[str, Any] = field(default_factory=dict)
    """The first answer to each URL."""
    about: dict[str, list[tuple[str | None, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Answers to each call, each with its owner."""
    page_before: dict[str, Any] = field(default_factory=dict)
    """The last page of each list and each job's results."""
    repeated: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Of each list, the URLs that were answered with the page before since a reading began."""

    tokens: list[str] = field(default_factory=list)
    """The page tokens that became numbers: each is the place of its own, counted from 1."""

    def add(self, given: Given) -> None:
        self.previous[given.call] = given.body
        self.first.setdefault(str(given.url), given.body)
        self.about[given.call].append((given.owner, given.body))
        self.page_before[pages_of(given)] = given.body


BodyChange = Callable[[Given, Memory], object]

EMPTY_PAGE = "empty-page"
"""The token of an empty page. Behind it is the first page."""


def pages_of(given: Given) -> str:
    return str(given.url.copy_remove_param("page_token"))


def has_token(given: Given) -> bool:
    return "page_token" in given.url.params


def with_items(change: Callable[[list[Any]], list[Any]]) -> BodyChange:
    """Changes the items of a page that has any."""

    def change_items(given: Given, _: Memory) -> object:
        items = given.body.get("items")
        return given.body | {"items": change(items)} if items else given.body

    return change_items


def none_in_total(given: Given, _: Memory) -> object:
    return given.body | {"items": [], "total_size": 0} if given.body.get("items") else given.body


def empty_page_first(given: Given, _: Memory) -> object:
    if has_token(given) or not given.body.get("items"):
        return given.body
    return given.body | {"items": [], "next_page_token": EMPTY_PAGE}


def page_twice(given: Given, memory: Memory) -> object:
    """The page before, with its token, in the place of a page behind it; when that is asked for again, the page."""
    pages, url = pages_of(given), str(given.url)
    if not has_token(given):  # a reading begins
        memory.repeated[pages] = set()
    if not has_token(given) or url in memory.repeated[pages]:
        return given.body
    memory.repeated[pages].add(url)
    return memory.page_before[pages]


def numbered_pages(given: Given, memory: Memory) -> object:
    """Tokens are numbers, which are taken back as the tokens that they stand for."""
    if not (token := given.body.get("next_page_token")):
        return given.body
    if token not in memory.tokens:
        memory.tokens.append(token)
    return given.body | {"next_page_token": memory.tokens.index(token) + 1}


def total_of_page(given: Given, _: Memory) -> object:
    return given.body | {"total_size": len(given.body["items"])} if "items" in given.body else given.body


def page_twice_and_its_total(given: Given, memory: Memory) -> object:
    return total_of_page(given._replace(body=page_twice(given, memory)), memory)


def of_another_job(given: Given, memory: Memory) -> object:
    others = (body for owner, body in memory.about[given.call] if owner not in {None, given.owner})
    return next(others, given.body)


def previous_answer(given: Given, memory: Memory) -> object:
    return memory.previous.get(given.call, given.body)


def first_answer(given: Given, memory: Memory) -> object:
    return memory.first.get(str(given.url), given.body)


def half(given: Given, _: Memory) -> object:
    text = json.dumps(given.body)
    return Unreadable(text[: len(text) // 2])


BODY_CHANGES: Mapping[str, BodyChange] = {
    "items doubled": with_items(lambda items: items * 2),
    "items reversed": with_items(lambda items: items[::-1]),
    "first item dropped": with_items(lambda items: items[1:]),
    "last item dropped": with_items(lambda items: items[:-1]),
    "no items": with_items(lambda _: []),
    "no items, and none in total": none_in_total,
    "empty page first": empty_page_first,
    "each page twice": page_twice,
    "numbered pages": numbered_pages,
    "total of the page": total_of_page,
    "each page twice, total of the page": page_twice_and_its_total,
    "of another job": of_another_job,
    "of the request before": previous_answer,
    "cached": first_answer,
    "no fields": lambda *_: {},
    "a list": lambda *_: [],
    "null": lambda *_: None,
    "a text": lambda *_: "x",
    "nothing": lambda *_: Unreadable(""),
    "half": half,
    "no JSON": lambda *_: Unreadable("<html>busy</html>"),
}
"""By its name, what takes the place of an answer."""
