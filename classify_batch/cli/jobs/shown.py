"""What the API said: JSON where a program reads it, a table of 80 columns where a person does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from classify_batch.wire.words import clean

if TYPE_CHECKING:
    from rich.table import Table

Row = Sequence[object]

_MINUTES = len("2026-11-22T01:02")
_NOTHING = "-"


def show(body: Mapping[str, Any], table: Callable[[], Table], *, as_json: bool) -> None:
    """Prints what came. JSON is ASCII: whatever a server says can be written, and steers no terminal."""
    if as_json or not sys.stdout.isatty():
        click.echo(json.dumps(body))
        return
    from rich.console import Console

    Console().print(table())


def moment(value: object) -> str:
    """A time of the server, to the minute."""
    return word(value)[:_MINUTES].replace("T", " ")


def word(value: object) -> str:
    """A value on one line, fit for a terminal."""
    if value is None or value == "":
        return _NOTHING
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def kind(result: Mapping[str, Any] | None) -> object:
    """The type that a file was given, or why there is none."""
    if result is None:
        return "(no answer)"
    return "(no rule matched)" if result.get("type") is None else result["type"]


def listed(headings: Sequence[str], rows: Iterable[Row], *, whole: Sequence[str] = ()) -> Table:
    """A table of one line an item; the columns in `whole` are never cut, all others are folded."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=heading in whole, overflow="fold", justify="left")
    for row in rows:
        table.add_row(*(Text(word(value)) for value in row))
    return table


def described(body: Mapping[str, Any]) -> Table:
    """A table of one object: its fields that say something, in the server's order."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _fields(body):
        for number, line in enumerate(_lines(value)):
            table.add_row(Text("" if number else clean(name)), Text(line))
    return table


def _fields(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """An object's fields; those of v2's `configuration` as if they were its own, as on v1."""
    for name, value in body.items():
        if name == "configuration" and isinstance(value, Mapping):
            yield from value.items()
        else:
            yield name, value


def _lines(value: object) -> list[str]:
    """A field in words: a rule, or a setting, a line."""
    if isinstance(value, Mapping):
        return [f"{clean(str(name))} = {word(each)}" for name, each in value.items() if each is not None] or [_NOTHING]
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        return [": ".join(word(part) for part in _in_order(each)) for each in value]
    return [word(value)]


def _in_order(rule: Mapping[str, object]) -> list[object]:
    """A rule's type before its description, however the server orders them."""
    return [rule[name] for name in sorted(rule, key=lambda name: name != "type")]


def hint_of_next_page(command: str, body: Mapping[str, Any]) -> None:
    """How to have the next page, for a person."""
    token = body.get("next_page_token")
    if isinstance(token, str) and token and sys.stdout.isatty():
        import shlex

        click.echo(f"next: {command} --page-token {shlex.quote(clean(token, len(token)))}", err=True)
