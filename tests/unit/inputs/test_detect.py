"""What an input is, recognised by its content: read right, or refused with what it is and what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import pickle
import sys
import tarfile
import threading
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from classify_batch.errors import ExitStatus, SourceError, UsageError
from classify_batch.inputs import decompress
from classify_batch.inputs.formats.objects import ObjectReader
from classify_batch.inputs.open import InputOptions, SourceSpec, make_sources, open_source
from classify_batch.inputs.reading import FORMATS, Format, NamedReading, PlannedReadings, Reading, parse_reading
from classify_batch.inputs.text import read_rows_of_any_format

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

UUID = "{6BA7B810-9DAD-11D1-80B4-00C04FD430C8}"


async def read(spec: SourceSpec, options: InputOptions | None = None) -> list[str]:
    return [row async for batch in open_source(spec, options or InputOptions()) for row in batch]


def written(folder: Path, data: str | bytes, name: str = "ids") -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


TEXTS = {
    "lines": "a\nb\n",
    "quoted lines": '"a"\r\n"b"\r\n',
    "single quotes": "'a'\n'b'\n",
    "json lines": '\n{"x": 1, "file_id": "a"}\n{"file_id": "b"}\n',
    "json array of IDs": '["a","b"]',
    "json array over lines": '[\n  "a",\n  "b"\n]\n',
    "json array of objects": ' [ {"file_id": "a", "n": [1, {}]}, {"file_id": "b"} ]',
    "csv": "n,file_id\n1,a\n2,b\n",
    "one column": "file_id\na\nb\n",
    "one quoted column": '"file_id"\n"a"\n"b"\n',
    "tsv": "n\tfile_id\n1\ta\n2\tb\n",
    "an empty first cell": "\tfile_id\nx\ta\n\tb\n",
    "semicolons": "n;file_id\n1,5;a\n2,5;b\n",
    "pipes": "n|file_id\n1|a\n2|b\n",
    "sep=": 'sep=;\r\n"n";"file_id"\r\n"1";"a"\r\n"2";"b"\r\n',
    "comments before a header": "# made by, a tool\n\n# today\nfile_id,n\na,1\nb,2\n",
    "header like a comment": "#n,file_id\n1,a\n2,b\n",
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "byte-order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "UTF-16 without a mark": lambda data: data.decode().encode("utf-16-be"),
    "UTF-32": lambda data: data.decode().encode("utf-32"),
    "UTF-32 without a mark": lambda data: data.decode().encode("utf-32-le"),
    "UTF-32, big-endian, without a mark": lambda data: data.decode().encode("utf-32-be"),
    "CR": lambda data: data.replace(b"\r\n", b"\n").replace(b"\n", b"\r"),
    "gzip": gzip.compress,
    "gzip of two members": lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:]) + bytes(512),
    "zstd": zstandard.compress,
    "zstd of two frames": lambda data: zstandard.compress(data[:9]) + zstandard.compress(data[9:]),
    "zstd behind a frame without text": lambda data: b"\x5a*M\x18\3\0\0\0abc" + zstandard.compress(data),
    "gzip in zstd, UTF-16": lambda data: zstandard.compress(gzip.compress(data.decode().encode("utf-16"))),
}


@pytest.mark.parametrize("name", ["i", "i.csv"])
async def test_spaces_behind_delimiters_belong_to_no_name_where_the_header_has_them(tmp_path: Path, name: str) -> None:
    """`name, file_id` is written for people: the columns are found without the spaces, and the values are without."""
    path = written(tmp_path, '# for people\nname, file_id, "n, m"\nx,  a, 1\n"y ""z""", "b", " 2"\nz,c\n', name)
    assert await read(path) == ["a", "b", "c"]
    carry = InputOptions(carry=["name", "n, m"])
    assert await read(path, carry) == [
        'a\t{"name":"x","n, m":"1"}',
        'b\t{"name":"y \\"z\\"","n, m":" 2"}',
        'c\t{"name":"z","n, m":null}',
    ]
    assert await read(written(tmp_path, "n; id\n1; a\n", name), InputOptions(Reading(column="id"))) == ["a"]


async def test_spaces_in_values_and_in_names_that_are_asked_for_stay(tmp_path: Path) -> None:
    """A header without such spaces says nothing of them, and a column may be named with its space."""
    path = written(tmp_path, "file_id,name\na, x\n")
    assert await read(path, InputOptions(carry=["name"])) == ['a\t{"name":" x"}']
    path = written(tmp_path, "file_id, name\na, x\n")
    assert await read(path, InputOptions(carry=[" name"])) == ['a\t{" name":" x"}']
    path = written(tmp_path, "n, id\n1,a\n")
    assert await read(path, InputOptions(Reading(column=" id"))) == ["a"]


RETURNS = {
    "a quoted newline": 'file_id,name\r"a1","x\ny"\ra2,z\r',
    "a quoted newline in the header": '\ufeff"na\nme, ""x""\n",file_id,name\r1,a1,"x\ny"\r2,a2,z',
    "quoted line ends of Windows": 'file_id,name\ra1,"x\r\ny"\r\na2,z\r\r',
    "a quote in a comment": '# 5 "inch\rfile_id,name\ra1,"x\ry"\ra2,z\r',
    "objects": '{"file_id": "a1", "name": "x\\ny"}\r{"file_id": "a2", "name": "z"}\r',
}


@pytest.mark.parametrize("size", [1, 7, 9_999])
@pytest.mark.parametrize("text", RETURNS)
async def test_the_end_of_the_first_line_tells_what_ends_lines(text: str, size: int) -> None:
    """Lines that end at a carriage return alone may hold newlines in quotes, wherever a block ends."""

    async def blocks() -> AsyncIterator[bytes]:
        data = RETURNS[text].encode()
        for start in range(0, len(data), size):
            yield data[start : start + size]

    reader = ObjectReader("i.csv", carry=["name"])
    batches = read_rows_of_any_format(blocks(), Reading(), reader, lambda _reading: None)
    assert [row async for batch in batches for row in batch] == ['a1\t{"name":"x\\ny"}', 'a2\t{"name":"z"}']


async def test_line_ends_of_two_kinds_are_read_or_named(tmp_path: Path) -> None:
    """A carriage return that ends the first line ends others, too; one in the middle of a later line is an error."""
    assert await read(written(tmp_path, "a1\ra2\na3\r\na4")) == ["a1", "a2", "a3", "a4"]
    assert await read(written(tmp_path, "a1\r\r\na2\r\n")) == ["a1", "a2"]
    assert await read(written(tmp_path, "a1\r")) == ["a1"]
    for text in ("a1\na2\ra3\n", 'file_id\n"a2\r\na3"\n'):
        with pytest.raises(SourceError, match=r"line 2: 'a2.*a3' has a carriage return in it") as caught:
            await read(written(tmp_path, text))
        assert "end all lines alike" in caught.value.hint


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("text", TEXTS)
async def test_the_content_tells_how_it_is_read(tmp_path: Path, text: str, packed: str) -> None:
    """Each format in each packing under a name that tells nothing; and the suffix changes nothing of it."""
    data = PACKED[packed](TEXTS[text].encode())
    assert await read(written(tmp_path, data)) == ["a", "b"]
    assert await read(written(tmp_path, data, "ids.txt")) == ["a", "b"]
    if "lines" not in text and text != "single quotes":
        assert await read(written(tmp_path, data, "ids.csv.gz")) == ["a", "b"]


@pytest.mark.parametrize("text", TEXTS)
async def test_a_pipe_and_stdin_are_read_by_their_content(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither has a suffix, and neither can be read twice; its bytes come one by one."""
    data = TEXTS[text].encode()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def write_slowly() -> None:
        with fifo.open("wb", buffering=0) as pipe:
            for at in range(len(data)):
                pipe.write(data[at : at + 1])

    writer = threading.Thread(target=write_slowly)
    writer.start()
    assert await read(fifo) == ["a", "b"]
    writer.join()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert await read("-") == ["a", "b"]


@given(text=st.sampled_from(sorted(TEXTS)), packed=st.sampled_from(sorted(PACKED)), size=st.integers(1, 40))
async def test_where_blocks_end_does_not_matter_to_what_is_found_out(text: str, packed: str, size: int) -> None:
    """A block may end in the middle of a mark, a magic number, a header or a compressed frame."""
    data = PACKED[packed](TEXTS[text].encode())

    async def cut() -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    found: list[NamedReading] = []
    batches = read_rows_of_any_format(cut(), Reading(), ObjectReader("ids"), found.append)
    assert [row async for batch in batches for row in batch] == ["a", "b"]
    assert len(found) == 1


@pytest.mark.parametrize("name", ["json lines", "json array of objects", "csv", "tsv", "sep=", "semicolons"])
async def test_columns_are_carried_from_every_format_that_has_them(tmp_path: Path, name: str) -> None:
    """`--column` and `--carry` mean the same everywhere."""
    text = TEXTS[name].replace('{"file_id": "b"', '{"n": 2, "file_id": "b"').replace('"x": 1', '"n": 1')
    rows = await read(written(tmp_path, text), InputOptions(carry=["n"]))
    assert [row.partition("\t")[0] for row in rows] == ["a", "b"]
    assert [list(json.loads(row.partition("\t")[2])) for row in rows] == [["n"], ["n"]]
    other = await read(written(tmp_path, text.replace("file_id", "ID")), InputOptions(Reading(column="ID")))
    assert other == ["a", "b"]


# --- What is refused --------------------------------------------------------------------------------------------


def tar_of(text: bytes) -> bytes:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as archive:
        info = tarfile.TarInfo("ids.txt")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    return into.getvalue()


def zip_of(text: bytes) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        archive.writestr("ids.txt", text)
    return into.getvalue()


REFUSED: list[tuple[str | bytes, str, str]] = [
    ("id,name\na,x\n", "line 1: this looks like a table with commas between its columns", "--column"),
    ("a,b\n", "has no column 'file_id'; there is 'a', 'b'", "--format lines"),
    ("a\tb\n", "a table with tabs", "--delimiter"),
    ("a;b\n", "a table with semicolons", "--delimiter"),
    ("a|b\n", "a table with |", "--delimiter"),
    ('"a",\n"b",\n', "a table with commas", "--format"),
    ("a\nb,c\n", "line 2: 'b,c' looks like a row of a table", "--format lines"),
    ("a\nb;c\n", "line 2: 'b;c' looks like a row of a table", "--format lines"),
    ('a\n["b"]\n', "line 2: '[\"b\"]' looks like JSON", "--format lines"),
    ('a\n{"file_id":"b"}\n', 'line 2: \'{"file_id":"b"}\' looks like JSON', "--format lines"),
    ('a\n"b\n', "line 2: '\"b' has a quote without its end", "--format lines"),
    ("['a','b']\n", "line 1: \"['a','b']\" looks like JSON", "--format lines"),
    ("<html>\n", "line 1: '<html>' looks like HTML", "an error saved"),
    ("FILE_ID\na\n", "line 1: no column 'file_id'; there is 'FILE_ID'", "--column"),
    ("File_Id;n\na;1\n", "a table with semicolons between its columns, and its header has no", "--column"),
    ('{\n  "file_ids": ["a"]\n}\n', "line 1: '{' is not JSON", "jq -c"),
    ('{"file_ids": ["a"]}', "line 1: no column 'file_id'; there is 'file_ids'", "--column"),
    ('["a", 5]', "item 2: 5 is not a string", "quotes"),
    ('[{"id": "a"}]', "item 1: no column 'file_id'; there is 'id'", "--column"),
    ('["a b"]', "item 1: 'a b' has a space", "one file ID"),
    ('["a",]', "item 2: a comma stands before the array's end", "a JSON array is"),
    ('["a" "b"]', "no comma behind an item", "a JSON array is"),
    ('["a","b"', "item 2: the array ends in the middle", "a JSON array is"),
    ('["a"]\n["b"]\n', "something stands behind the array's end", "a JSON array is"),
    ("[" * 100_000, "item 1: not JSON on line 1: '[[[", "a JSON array is"),
    ('["' + "x" * 3_000_000, "item 1: ", "a JSON array is"),
    ("[]", "holds no file IDs", "written to its end"),
    ("[\n]", "holds no file IDs", "written to its end"),
    ("# a, b\n", "holds no file IDs", "written to its end"),
    (gzip.compress(b"a\n" * 999)[:-9], "ends in the middle of its gzip data", "once more"),
    (gzip.compress(b"a\n" * 999)[:10] + b"\xff" * 99, "can't be unpacked (gzip)", "once more"),
    (zstandard.compress(os.urandom(999).hex().encode())[:-9], "ends in the middle of its zstd data", "once more"),
    (zstandard.compress(b"a\n" * 999)[:9] + b"x" * 99, "can't be unpacked (zstd)", "once more"),
    (b"\x28\xb5\x2f\xfd\0\xa8\x11\0\0a\n", "can't be unpacked (zstd)", "zstd -dc --long=31"),
    (b"\x28\xb5\x2f\xfd\1\0\5\x11\0\0a\n", "can't be unpacked (zstd)", "zstd -dc -D DICTIONARY"),
    (b"\x5a*M\x18\3\0\0\0a", "ends in the middle of its zstd data", "once more"),
    ("a\nb".encode("utf-16")[:-1], "is not UTF-16-LE", "UTF-8"),
    (bz2.compress(b"a\n"), "is compressed by bzip2", "unpack"),
    (b"\x1f\x9d\x90a\xc4", "is compressed by compress (.Z)", "unpack"),
    (b"Rar!\x1a\x07\x01\0", "is a RAR archive", "unpack"),
    (pickle.dumps(["a", "b"]), "is a pickle of Python", "CSV or JSONL"),
    (b"FEA1\0\0\0\0\1\xff", "is a Feather file of version 1", "version 2"),
    (b"\x89HDF\r\n\x1a\n\0", "is an HDF5 file", "CSV or JSONL"),
    (zip_of(b"a\n"), "an Excel workbook (.xlsx) or a ZIP archive", "CSV UTF-8"),
    (tar_of(b"a\n"), "is a tar archive", "unpack"),
    (gzip.compress(tar_of(b"a\n")), "is a tar archive", "unpack"),
    (b"PAR1\x15\x04", "has no end (Parquet): it is cut off", "written to its end"),
    (b"PARE\x15\x04", "is encrypted Parquet", "CSV or JSONL"),
    (b"\xff\xff\xff\xff\x90\x05", "is a stream of Arrow batches", "Parquet"),
    (b"%PDF-1.7\n%\xe2", "is a PDF", "files upload"),
    (b"SQLite format 3\0", "is an SQLite database", "CSV or JSONL"),
]
"""What a file holds, what the error says of it, and a word of the hint."""


@pytest.mark.parametrize(
    ("data", "message", "hint"), REFUSED, ids=[f"{at} {each[1]}" for at, each in enumerate(REFUSED)]
)
async def test_what_is_no_list_of_ids_is_refused_by_what_it_is(
    tmp_path: Path, data: str | bytes, message: str, hint: str
) -> None:
    """No whole line of JSON, of a table or of quotes is ever a file ID; the hint says what to do."""
    with pytest.raises(SourceError) as caught:
        await read(written(tmp_path, data))
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert str(caught.value).isprintable()
    assert caught.value.exit_status is ExitStatus.USAGE


async def test_lines_always_means_lines(tmp_path: Path) -> None:
    """With `--format lines` nothing is guessed: commas, quotes and brackets are part of an ID."""
    lines = ["a,b", '"c"', '["d"]', '{"file_id":"e"}', "f;g", "file_id", "sep=,", "<h>"]
    path = written(tmp_path, "\n".join(lines), "ids.csv")
    assert await read(path, InputOptions(parse_reading("lines", None, None))) == lines
    with pytest.raises(SourceError, match="'p' can't be carried"):
        await read(path, InputOptions(Reading(Format.LINES), carry=["p"]))


async def test_ids_that_only_look_odd_are_ids(tmp_path: Path) -> None:
    """A UUID in braces, `urn:uuid:`, and letters of magic numbers: nothing of it is taken for a format."""
    for file_id in (
        UUID,
        "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "PAR1",
        "ORC-7",
        "BZh9",
        "Obj",
        "a'b",
        "x[0]",
    ):
        assert await read(written(tmp_path, f"{file_id}\n")) == [file_id]


async def test_a_format_that_is_named_wins(tmp_path: Path) -> None:
    """The delimiter, the format and the column of the caller count before the content."""
    table = written(tmp_path, "a;x,file_id;y\n1;2,3;4\n")
    with pytest.raises(SourceError, match="has no column 'file_id'"):
        await read(table)
    assert await read(table, InputOptions(parse_reading(None, "semicolon", "a"))) == ["1"]
    assert await read(table, InputOptions(parse_reading("csv", None, "y"))) == ["4"]
    assert await read(written(tmp_path, "x\tfile_id\n1\ta\n"), InputOptions(parse_reading("tsv", None, None))) == ["a"]
    assert await read(written(tmp_path, '["a"]'), InputOptions(parse_reading("json", None, None))) == ["a"]
    with pytest.raises(SourceError, match="is no JSON array"):
        await read(written(tmp_path, "a\n"), InputOptions(parse_reading("json", None, None)))
    with pytest.raises(SourceError, match="is not JSON"):
        await read(written(tmp_path, "a\n"), InputOptions(parse_reading("jsonl", None, None)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("xml", None, None), "'xml' is no format"),
        (("lines", ";", None), "the format lines has no delimiter"),
        (("jsonl", "tab", None), "the format jsonl has no delimiter"),
        (("tsv", ";", None), "can't be the delimiter"),
        ((None, ";;", None), "can't be the delimiter"),
        ((None, '"', None), "can't be the delimiter"),
        ((None, "", None), "can't be the delimiter"),
        ((None, None, ""), "the name of the column is empty"),
        (("lines", None, "id"), "lines have no columns"),
    ],
)
def test_what_no_input_can_be_is_refused(given: tuple[str | None, ...], message: str) -> None:
    """Before anything is read, with a hint."""
    with pytest.raises(UsageError, match=message) as caught:
        parse_reading(*given)
    assert caught.value.hint


def test_every_format_can_be_named() -> None:
    """`auto` and `tsv` beside the four."""
    assert {parse_reading(each, None, None).format for each in FORMATS} == {None, *Format}


def test_stdin_is_named_once() -> None:
    """It can be read once."""
    assert make_sources(["-"]) == "-"
    with pytest.raises(SourceError, match="stdin is named twice"):
        make_sources(["-", "a", "-"])


# --- Bounds -----------------------------------------------------------------------------------------------------


async def test_a_bomb_is_unpacked_piece_by_piece(tmp_path: Path) -> None:
    """A gigabyte of nothing in a few kilobytes is refused at the longest line allowed, not when memory is full."""
    empty = bytes(1 << 20)
    packer = zstandard.ZstdCompressor().compressobj()
    bomb = b"".join([packer.compress(b"x" * len(empty)) for _ in range(300)] + [packer.flush()])
    for data in (gzip.compress(b"x" * 300_000_000, 1), bomb):
        with pytest.raises(SourceError, match="longer than 1048576 bytes"):
            await read(written(tmp_path, data))
    nested = b"a\n"
    for _ in range(9):
        nested = gzip.compress(nested)
    with pytest.raises(SourceError, match="compressed more than 3 times"):
        await read(written(tmp_path, nested))


async def test_without_a_library_for_zstd_the_hint_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Python 3.14, zstd needs a package, which is an extra."""

    def not_installed(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(decompress, "import_module", not_installed)
    with pytest.raises(SourceError, match="which this installation can't read") as caught:
        await read(written(tmp_path, zstandard.compress(b"a\n")))
    assert "classify-batch[zstd]" in caught.value.hint


# --- What spreadsheets, databases and documents write in the place of a value -----------------------------------------

AS_TABLES = ("file_id,n\nx,1\n{},2\n", "n;file_id\n1;x\n2;{}\n", "n\tfile_id\n1\tx\n2\t{}\n", "file_id\nx\n{}\n")


QUOTED = ('="a1"', '"=""a1"""', "'a1'", "`a1`", "“a1”", "„a1“", "‘a1’", "«a1»", '"“a1”"')


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, value) for text in ("x\n{}\n", *AS_TABLES) for value in QUOTED),
        *((text, '"""a1"""') for text in AS_TABLES),
    ],
)
async def test_quotes_around_an_id_are_taken_off(tmp_path: Path, text: str, value: str) -> None:
    """In a table as in lines, also Excel's ="…", and those of documents and chats."""
    assert await read(written(tmp_path, text.format(value))) == ["x", "a1"]


@pytest.mark.parametrize("text", ["x\n{}\n", *AS_TABLES])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("'a1", "quote"),
        ("“a1", "quote"),
        ("a1”", "quote"),
        ("=A1", "formula"),
        ('=CONCAT("a1")', "formula"),
        ('="a"&"1"', "formula"),
        ("1.23E+10", "rounded"),
        ("5e+07", "rounded"),
        ("#N/A", "spreadsheet's error"),
        ("#REF!", "spreadsheet's error"),
        ("NULL", "no value"),
        ("\\N", "no value"),
        ("nan", "no value"),
        ("<NA>", "no value"),
        ("a1\u00a0", "NO-BREAK SPACE"),
        ("\u200ba1", "ZERO WIDTH SPACE"),
        ("a\ufeff1", "ZERO WIDTH NO-BREAK SPACE"),
    ],
)
async def test_what_stands_in_place_of_an_id_is_refused(tmp_path: Path, text: str, value: str, words: str) -> None:
    """With the file, the line, the value and what to do, and what comes behind it is refused, too."""
    with pytest.raises(SourceError) as caught:
        await read(written(tmp_path, text.format(value)))
    line = text.count("\n")
    assert f"ids, line {line}: " in str(caught.value)
    assert repr(value) in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["{}\n", *AS_TABLES])
@pytest.mark.parametrize("value", ["a=", "a+b/c==", "O'Neill", "12e5", "1E10", "none-1", "a#N/A", "nUll", "a\\N"])
async def test_an_id_with_such_signs_in_it_is_an_id(tmp_path: Path, text: str, value: str) -> None:
    """Only what a program writes in place of a value is refused."""
    assert (await read(written(tmp_path, text.format(value))))[-1] == value


@pytest.mark.parametrize("text", ['="file_id",="n"\n="a1",="1"\n', '="file_id"\n="a1"\n', "'n';'file_id'\n'1';'a1'\n"])
async def test_a_header_in_such_quotes_is_a_header(tmp_path: Path, text: str) -> None:
    """A program that writes each cell so writes the header so."""
    assert await read(written(tmp_path, text)) == ["a1"]


async def test_what_is_carried_keeps_its_quotes_but_excels(tmp_path: Path) -> None:
    """Quotes may be a part of a text; ="…" never is."""
    path = written(tmp_path, '="file_id",="n"\n="a1",="x y"\n="a2",\'z\'\n')
    assert await read(path, InputOptions(carry=("n",))) == ['a1\t{"n":"x y"}', """a2\t{"n":"'z'"}"""]


@pytest.mark.parametrize(("text", "value"), [("x\n{}\n", '="a1"'), ("x\n{}\n", "NULL"), (AS_TABLES[0], "NULL")])
async def test_what_a_run_was_planned_with_stays_its_id(tmp_path: Path, text: str, value: str) -> None:
    """Lines that are called lines hold nothing but IDs; nor do the cells of a run of an older version change."""
    path = written(tmp_path, text.format(value), "ids.csv" if "," in text else "ids.txt")
    older = InputOptions(planned=PlannedReadings(None if "," in text else [{"source": str(path), "format": "lines"}]))
    assert await read(path, older) == ["x", value]
    stored = InputOptions(planned=PlannedReadings([{"source": str(path), "format": "csv", "delimiter": ","}]))
    if "," in text:
        assert await read(path, stored) == ["x", value]
        assert await read(path, replace(stored, reading=parse_reading("csv", None, None))) == ["x", value]
    else:
        assert await read(path, InputOptions(parse_reading("lines", None, None))) == ["x", value]
