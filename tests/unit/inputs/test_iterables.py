"""What a calling program holds: rows of other libraries, and how what can't be read as file IDs is refused."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

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
