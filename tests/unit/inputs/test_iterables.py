"""What a calling program holds: rows of other libraries, and how what can't be read as file IDs is refused."""

from __future__ import annotations

import csv
import dataclasses
import io
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from classify_batch.errors import SourceError
from classify_batch.inputs.open import InputOptions, SourceSpec, open_source

pytestmark = [pytest.mark.anyio, pytest.mark.any_loop]


async def read(spec: SourceSpec, **options: Any) -> list[str]:
    return [row async for batch in open_source(spec, InputOptions(**options)) for row in batch]


# --- Rows of csv.DictReader ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("carry", [[], ["name"]])
async def test_a_row_with_more_cells_than_its_header_is_a_fault(carry: list[str]) -> None:
    """A delimiter in a value that isn't quoted moves all that follows under other columns, as in a file."""
    rows = csv.DictReader(io.StringIO('name,file_id\nx,b\n"Doe, J.",c\nDoe,John,a1\n'))
    with pytest.raises(SourceError, match="item 3: 3 cells under a header of 2") as caught:
        await read(rows, carry=carry)
    assert "quote a value that holds the delimiter" in caught.value.hint


async def test_empty_cells_at_the_end_of_a_row_are_no_fault() -> None:
    """Spreadsheets end rows with them; and a row that ends early carries null."""
    rows = csv.DictReader(io.StringIO("file_id,name\na,x,, \nb\n"))
    assert await read(rows, carry=["name"]) == ['a\t{"name":"x"}', 'b\t{"name":null}']


async def test_a_column_that_is_a_number_is_shown_as_one() -> None:
    """pandas numbers the columns of a table without names; "1" is none of them."""
    row: dict[Any, Any] = {0: "a", 1: "b"}
    with pytest.raises(SourceError) as caught:
        await read([row], carry=["1"])
    assert str(caught.value).endswith("no column 'file_id'; there is 0, 1")


# --- Rows and tables that are none of these -----------------------------------------------------------------------


class Named(NamedTuple):
    """A row as pandas' itertuples gives it."""

    file_id: str = "a"


@dataclasses.dataclass
class Held:
    """A row of a program."""

    file_id: str = "a"


class Modelled(BaseModel):
    """A row of a service."""

    file_id: str = "a"


def row_of_sqlite() -> object:
    with sqlite3.connect(":memory:") as database:
        database.row_factory = sqlite3.Row
        return database.execute("select 'a' as file_id").fetchone()


HINTED_ROWS: dict[str, tuple[Any, str]] = {
    "a named tuple": (Named(), "row._asdict()"),
    "a data class": (Held(), "dataclasses.asdict(item)"),
    "a model of pydantic": (Modelled(), "item.model_dump()"),
    "a row of sqlite3": (row_of_sqlite(), "dict(row)"),
}


@pytest.mark.parametrize("row", HINTED_ROWS)
async def test_the_hint_of_a_row_gives_its_file_id(row: str) -> None:
    """What isn't a mapping is refused, and what the hint says works."""
    given, call = HINTED_ROWS[row]
    with pytest.raises(SourceError, match=r"item 1: .* is not a string") as caught:
        await read([given])
    assert caught.value.hint.startswith(f"give {call}")
    names = {"row": given, "item": given, "dataclasses": dataclasses}
    assert await read([eval(call, names)]) == ["a"]


TABLES = {
    "pyarrow.table": ["table.to_pylist()"],
    "polars.DataFrame": ['frame["file_id"]', "frame.to_dicts()"],
    "polars.LazyFrame": ['frame.collect()["file_id"]', "frame.collect().to_dicts()"],
    "pandas.DataFrame": ['frame["file_id"]', 'frame.to_dict("records")'],
    "duckdb": ['[each for (each,) in table.select("file_id").fetchall()]'],
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", TABLES)
async def test_the_hint_of_a_table_gives_its_file_ids(name: str) -> None:
    """Each library has its own words for a column and for rows."""
    module, _, make = name.partition(".")
    library: Any = pytest.importorskip(module)
    columns = {"file_id": ["a", "b"]}
    table = getattr(library, make)(columns) if make else library.sql("select unnest(['a', 'b']) file_id")
    with pytest.raises(SourceError, match="gives its columns, not its rows") as caught:
        await read(table)
    for call in TABLES[name]:
        assert call in caught.value.hint
        assert await read(eval(call, {"table": table, "frame": table})) == ["a", "b"]


async def test_values_of_arrow_and_empty_cells_have_their_hint() -> None:
    """A scalar is no string, and str() of an empty cell would be a file ID."""
    arrow = pytest.importorskip("pyarrow")
    with pytest.raises(SourceError) as caught:
        await read(arrow.array(["a"]))
    assert caught.value.hint == "give column.to_pylist()"
    pandas, numpy = pytest.importorskip("pandas"), pytest.importorskip("numpy")
    for column in (pandas.Series(["a", None], dtype="string"), numpy.ma.array(["a", "b"], mask=[0, 1])):
        with pytest.raises(SourceError, match="item 2: ") as caught:
            await read(column)
        assert caught.value.hint == "leave rows without a file ID out"


async def test_the_lines_of_an_open_file_have_their_hint() -> None:
    """Each ends with its line end, which no editor shows: the message says so, and names the way out."""
    with pytest.raises(SourceError, match=r"item 1: 'a\\n' has a line end behind it") as caught:
        await read(io.StringIO("a\nb\n"))
    assert "line.strip()" in caught.value.hint


async def test_what_only_seems_to_be_a_list_is_refused() -> None:
    """An array of no dimension; and an object is asked for nothing but what it gives."""
    with pytest.raises(SourceError, match="the given file IDs: iteration over a 0-d array"):
        await read(pytest.importorskip("numpy").array("a"))

    class Asked:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

        def __iter__(self) -> Iterator[str]:
            return iter(["a"])

    assert await read(Asked()) == ["a"]
