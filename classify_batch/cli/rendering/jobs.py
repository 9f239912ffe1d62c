"""The API's answers: JSON where a program reads them, a table of 80 columns where a person does.

Where a terminal is too narrow for the table, plain lines are printed instead, which the terminal folds: no id is ever
cut, and what a person selects and copies is whole.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from classify_batch.protocol.sanitize import printable_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table
    from rich.text import Text

    from classify_batch.llamacloud.raw_bodies import Body

Row = Sequence[object]

_MINUTES = len("2026-11-22T01:02")
_NOTHING = "-"
_FOLDED_MIN = 8
"""A folded column narrower than this can't be read."""
_ID = len("182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e")


class TableOrLines:
    """A table; or its content as lines, where the terminal has fewer columns than the table needs."""

    def __init__(self, table: Table, columns: int, lines: Iterable[str]) -> None:
        self._table, self._columns, self._lines = table, columns, lines

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Table | Text]:
        from rich.text import Text

        if options.max_width >= self._columns:
            yield self._table
            return
        for line in self._lines:
            yield Text(line, no_wrap=True, overflow="ignore")


def print_body(body: Body, table: Callable[[], TableOrLines], *, as_json: bool) -> None:
    """Prints the body of an answer. JSON is ASCII: whatever the server sends can be written, and is harmless there."""
    if as_json or not sys.stdout.isatty():
        click.echo(json.dumps(body))
        return
    from rich.console import Console

    Console().print(table(), crop=False)


def format_time(value: object) -> str:
    """A time of the server, to the minute."""
    return format_value(value)[:_MINUTES].replace("T", " ")


def format_value(value: object) -> str:
    """A value on one line, fit for a terminal."""
    if value is None or value == "":
        return _NOTHING
    return printable_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def format_type(result: Body | None) -> object:
    """The type that a file got, or why it has none."""
    if result is None:
        return "(no answer)"
    return "(no rule matched)" if result.get("type") is None else result["type"]


def make_item_table(headings: Sequence[str], rows: Iterable[Row], *, whole: Sequence[str] = ()) -> TableOrLines:
    """A table with a line for each item. The columns in `whole` are never folded; the others may be.

    The first column is the item's id; where lines are printed instead, it has a line of its own.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=heading in whole, overflow="fold", justify="left")
    cells = [[format_value(value) for value in row] for row in rows]
    for row in cells:
        table.add_row(*map(Text, row))
    widths = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
    columns = sum(
        (width if heading in whole else min(width, _FOLDED_MIN)) + 1
        for heading, width in zip(headings, widths, strict=True)
    )
    lines = (
        line
        for item, *rest in cells
        for line in (item, *(f"  {name}: {value}" for name, value in zip(headings[1:], rest, strict=True)))
    )
    return TableOrLines(table, columns, lines)


def make_field_table(body: Body) -> TableOrLines:
    """A table of one object's fields, in the server's order."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = [(printable_line(name), line) for name, value in iterate_fields(body) for line in format_field(value)]
    before = ""
    for name, line in rows:
        table.add_row(Text("" if name == before else name), Text(line))
        before = name
    columns = max((cell_len(name) for name, _ in rows), default=0) + 1 + _ID
    return TableOrLines(table, columns, (f"{name}: {line}" for name, line in rows))


def iterate_fields(body: Body) -> Iterator[tuple[str, Any]]:
    """An object's fields; those of v2's `configuration` as if they were its own, as on v1."""
    for name, value in body.items():
        if name == "configuration" and isinstance(value, Mapping):
            yield from value.items()
        else:
            yield name, value


def format_field(value: object) -> list[str]:
    """A field as lines: one for each rule, or for each setting."""
    if isinstance(value, Mapping):
        return [
            f"{printable_line(str(name))} = {format_value(each)}" for name, each in value.items() if each is not None
        ] or [_NOTHING]
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        return [": ".join(format_value(part) for part in type_first(each)) for each in value]
    return [format_value(value)]


def type_first(rule: Mapping[str, object]) -> list[object]:
    """A rule's type before its description, however the server orders them."""
    return [rule[name] for name in sorted(rule, key=lambda name: name != "type")]


def print_next_page_hint(body: Body) -> None:
    """Prints the command for the next page, if there is one and a person reads."""
    token = body.get("next_page_token")
    if isinstance(token, str) and token and sys.stdout.isatty():
        from classify_batch.cli.jobs.repeat_command import next_page_command

        click.echo(f"next: {next_page_command(printable_line(token, len(token)))}", err=True)
