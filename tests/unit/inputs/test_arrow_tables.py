"""Parquet and Arrow files as inputs: recognised by content; text columns, carried values, damage."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from arro3.core import Array, DataType, Field, RecordBatch, Schema, Table, list_array
from arro3.io import write_ipc, write_parquet

from classify_batch.errors import SourceError, UsageError
from classify_batch.inputs.formats.objects import ObjectReader
from classify_batch.inputs.open import InputOptions, open_source
from classify_batch.inputs.reading import NamedReading, PlannedReadings, Reading, parse_reading
from classify_batch.inputs.text import read_rows_of_any_format

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

TEXT = DataType.string()
KINDS = ["parquet", "arrow"]


def table_of(columns: dict[str, Array]) -> Table:
    batch = RecordBatch.from_arrays(
        list(columns.values()), schema=Schema([Field(name, each.type) for name, each in columns.items()])
    )
    return Table.from_batches([batch])


def encoded(kind: str, columns: dict[str, Array]) -> bytes:
    buffer = io.BytesIO()
    if kind == "parquet":
        write_parquet(table_of(columns), buffer)
    else:
        write_ipc(table_of(columns), buffer, compression="lz4")
    return buffer.getvalue()


def ids(*values: str | None, kind: DataType = TEXT) -> Array:
    return Array(values, type=TEXT).cast(kind)


async def read(path: Path, **options: Any) -> list[str]:
    return [row async for batch in open_source(path, InputOptions(**options)) for row in batch]


async def in_pieces(data: bytes, size: int = 7) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["in", "in.csv", "in.parquet"])
async def test_the_content_tells_whatever_the_name(tmp_path: Path, kind: str, name: str) -> None:
    """A table is known by its first bytes, and run.json keeps how it was read."""
    (tmp_path / name).write_bytes(encoded(kind, {"file_id": ids("a", "b"), "x": ids("1", "2")}))
    found: list[NamedReading] = []
    assert await read(tmp_path / name, on_reading=found.append) == ["a", "b"]
    stored = [each.to_stored() for each in found]
    assert stored == [{"source": str(tmp_path / name), "format": kind}]
    assert await read(tmp_path / name, planned=PlannedReadings(stored)) == ["a", "b"]
    assert await read(tmp_path / name, reading=parse_reading(kind, None, "x")) == ["1", "2"]


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_that_come_once_are_read_too(tmp_path: Path, kind: str) -> None:
    """Stdin, an object in a store, and what is compressed by gzip."""
    data = encoded(kind, {"file_id": ids("a", "b")})
    batches = read_rows_of_any_format(in_pieces(data), Reading(), ObjectReader("stdin"), lambda _: None)
    assert [row async for batch in batches for row in batch] == ["a", "b"]
    (tmp_path / "in.gz").write_bytes(gzip.compress(data))
    assert await read(tmp_path / "in.gz") == ["a", "b"]


@pytest.mark.parametrize(
    "kind",
    [
        DataType.large_string(),
        DataType.string_view(),
        DataType.dictionary(DataType.int8(), TEXT),
        DataType.dictionary(DataType.int32(), DataType.large_string()),
    ],
    ids=["large", "view", "dictionary", "large dictionary"],
)
async def test_every_kind_of_text_is_text(tmp_path: Path, kind: DataType) -> None:
    """Writers have several types for text; all of them hold file IDs."""
    (tmp_path / "in").write_bytes(encoded("parquet", {"file_id": ids("a", "b", "a", kind=kind)}))
    assert await read(tmp_path / "in") == ["a", "b", "a"]


async def test_many_rows_come_in_their_order(tmp_path: Path) -> None:
    """Several batches: a fault in the last one is reported with its row."""
    many = [f"id-{number}" for number in range(5_000)]
    (tmp_path / "in").write_bytes(encoded("parquet", {"file_id": ids(*many)}))
    assert await read(tmp_path / "in") == many
    (tmp_path / "in").write_bytes(encoded("parquet", {"file_id": ids(*many, None)}))
    with pytest.raises(SourceError, match="row 5001: None is not a string"):
        await read(tmp_path / "in")


@pytest.mark.parametrize("kind", KINDS)
async def test_carried_columns_become_json(tmp_path: Path, kind: str) -> None:
    """Numbers stay numbers, times are ISO 8601, lists and structs are nested, null is null."""
    moment = "2026-11-22T01:02:03Z"
    columns = {
        "file_id": ids("a", "b"),
        "n": Array([1, None], type=DataType.int64()),
        "at": ids(moment, None, kind=DataType.timestamp("us", tz="UTC")),
        "bin": Array([b"\xff", None], type=DataType.binary()),
        "tags": list_array(Array([0, 1, 1], type=DataType.int32()), ids("x")),
    }
    (tmp_path / "in").write_bytes(encoded(kind, columns))
    rows = await read(tmp_path / "in", carry=("n", "at", "bin", "tags"))
    assert [(row.partition("\t")[0], json.loads(row.partition("\t")[2])) for row in rows] == [
        ("a", {"n": 1, "at": "2026-11-22T01:02:03+00:00", "bin": "/w==", "tags": ["x"]}),
        ("b", {"n": None, "at": None, "bin": None, "tags": []}),
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(90_500_000, "PT90.5S"), (-1, "-PT0.000001S"), (0, "PT0S"), (3 * 86_400_000_000, "PT259200S")],
)
async def test_spans_are_carried(tmp_path: Path, kind: str, microseconds: int, text: str) -> None:
    """The intervals of databases: ISO 8601, in seconds."""
    spans = Array([microseconds, None], type=DataType.int64()).cast(DataType.duration("us"))
    (tmp_path / "in").write_bytes(encoded(kind, {"file_id": ids("a", "b"), "span": spans}))
    rows = await read(tmp_path / "in", carry=("span",))
    assert [json.loads(row.partition("\t")[2])["span"] for row in rows] == [text, None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("column", "words"),
    [
        (Array([1, 10**12], type=DataType.int64()).cast(DataType.timestamp("s")), "year 33658"),
        (Array([1, -(10**8)], type=DataType.int32()).cast(DataType.date32()), "out of range"),
        (Array([1, 2**62], type=DataType.int64()).cast(DataType.timestamp("s")), "out of range"),
        (Array([1, 10**12], type=DataType.int64()).cast(DataType.time64("us")), "out of range"),
        (Array([1, 2**62], type=DataType.int64()).cast(DataType.duration("s")), "out of range"),
        (Array([1, 2], type=DataType.int64()).cast(DataType.timestamp("us", tz="Mars/Olympus")), "Mars/Olympus"),
    ],
    ids=["time", "date", "time of no year", "time of day", "span", "time zone"],
)
async def test_what_python_has_no_value_for_is_named(tmp_path: Path, kind: str, column: Array, words: str) -> None:
    """Seconds that were taken for milliseconds, a date that stands for no end: an error with the column and its type,
    and never null in place of the value. Whoever doesn't carry the column has nothing to do with it."""
    (tmp_path / "in").write_bytes(encoded(kind, {"file_id": ids("a", "b"), "until": column}))
    assert await read(tmp_path / "in") == ["a", "b"]
    with pytest.raises(SourceError, match=r"the column 'until' holds .* in rows 1 to 2 can't be carried") as caught:
        await read(tmp_path / "in", carry=("until",))
    assert words in str(caught.value)
    assert "cast(until as varchar)" in caught.value.hint


async def test_a_type_that_the_library_cannot_convert_is_named(tmp_path: Path) -> None:
    """It panics then, which is no error of Python's usual kinds."""
    runs = pytest.importorskip("pyarrow").RunEndEncodedArray.from_arrays([1, 2], ["x", "y"])
    (tmp_path / "in").write_bytes(encoded("arrow", {"file_id": ids("a", "b"), "x": Array.from_arrow(runs)}))
    with pytest.raises(SourceError, match="the column 'x' holds RunEndEncoded"):
        await read(tmp_path / "in", carry=("x",))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("carry", [(), ("outcome",)])
async def test_an_export_of_a_folders_run_is_no_input(tmp_path: Path, kind: str, carry: tuple[str, ...]) -> None:
    """It names contents, which the API doesn't know. Other tables may hold such IDs."""
    content = "sha256:" + "0f" * 32
    for column in ("outcome", "note"):
        columns = {"file_id": ids("a", content), column: ids("failed", "failed")}
        (tmp_path / column).write_bytes(encoded(kind, columns))
    with pytest.raises(SourceError, match=r"row 2: .* is what a run over a folder calls a document") as caught:
        await read(tmp_path / "outcome", carry=carry)
    assert caught.value.hint == "give the folder itself"
    assert await read(tmp_path / "note") == ["a", content]


async def test_uuid_columns_hold_uuids(tmp_path: Path) -> None:
    """The type that PostgreSQL's and DuckDB's UUIDs have in Parquet: 16 bytes, read as text."""
    metadata = {"ARROW:extension:name": "arrow.uuid", "ARROW:extension:metadata": ""}
    schema = Schema([Field("file_id", DataType.binary(16), metadata=metadata)])
    array = Array([bytes(15) + b"\5"], type=DataType.binary(16))
    buffer = io.BytesIO()
    write_parquet(Table.from_batches([RecordBatch.from_arrays([array], schema=schema)]), buffer)
    (tmp_path / "in").write_bytes(buffer.getvalue())
    assert await read(tmp_path / "in") == ["00000000-0000-0000-0000-000000000005"]


@pytest.mark.parametrize(
    ("columns", "reading", "carry", "words"),
    [
        ({"id": ids("a")}, Reading(), (), "no column 'file_id'; there is 'id'"),
        ({"file_id": Array([1], type=DataType.int64())}, Reading(), (), "'file_id' holds Int64, and file IDs are text"),
        ({"file_id": ids("a")}, Reading(column="fileid"), (), "no column 'fileid'; there is 'file_id'"),
        ({"file_id": ids("a")}, Reading(), ("path",), "no column 'path'; there is 'file_id'"),
        ({"file_id": ids("a b")}, Reading(), (), "row 1: 'a b' has a space in it"),
        ({"file_id": ids()}, Reading(), (), "holds no file IDs"),
        ({"file_id": ids("a")}, parse_reading("csv", None, None), (), "is parquet, and not csv"),
        ({"file_id": ids("a")}, parse_reading(None, ";", None), (), "is parquet, and not csv"),
        ({"file_id": ids("a")}, parse_reading("arrow", None, None), (), "is parquet, and not arrow"),
    ],
)
async def test_what_does_not_fit_is_one_message(
    tmp_path: Path, columns: dict[str, Array], reading: Reading, carry: Sequence[str], words: str
) -> None:
    """It names the file, the column or the row, and what to do."""
    (tmp_path / "in").write_bytes(encoded("parquet", columns))
    with pytest.raises(SourceError, match=words) as caught:
        await read(tmp_path / "in", reading=reading, carry=carry)
    assert caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
async def test_damage_of_a_table_is_described(tmp_path: Path, kind: str) -> None:
    """Cut off anywhere, or with other bytes in its middle or its footer: never a traceback, and never rows."""
    data = encoded(kind, {"file_id": ids(*(f"id-{number}" for number in range(2_000)))})
    path = tmp_path / "in"
    footer = int.from_bytes(data[-8:-4] if kind == "parquet" else data[-10:-6], "little")
    for damaged in (
        *(data[:end] for end in (8, 50, len(data) // 2, len(data) - 1)),
        data[: -footer - 10] + b"\xff" * footer + data[-10:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(SourceError, match="damaged") as caught:
            await read(path)
        assert caught.value.hint


async def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    """A suffix promises what the content must keep; a line that begins like a table is a file ID."""
    (tmp_path / "in.parquet").write_text("file_id\na\n")
    with pytest.raises(SourceError, match="is no parquet file"):
        await read(tmp_path / "in.parquet")
    (tmp_path / "in.txt").write_text("PAR1-17\n")
    assert await read(tmp_path / "in.txt") == ["PAR1-17"]


async def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without arro3 says what to install; texts are read as before."""
    (tmp_path / "in").write_bytes(encoded("parquet", {"file_id": ids("a")}))
    (tmp_path / "in.txt").write_text("a\n")
    monkeypatch.setitem(sys.modules, "arro3.io", None)
    with pytest.raises(UsageError) as caught:
        await read(tmp_path / "in")
    assert "classify-batch[parquet]" in caught.value.hint
    assert await read(tmp_path / "in.txt") == ["a"]
