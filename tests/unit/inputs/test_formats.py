"""Text, JSONL and CSV: what is normal, and what is a fault that names its line."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_batch.errors import ExitStatus, SourceError
from classify_batch.inputs import lines
from classify_batch.inputs.folder import CONTENT_PREFIX, UNREAD_PREFIX
from classify_batch.inputs.formats.json_array import read_json_array
from classify_batch.inputs.formats.json_lines import read_json_lines
from classify_batch.inputs.formats.objects import ObjectReader
from classify_batch.inputs.formats.plain_lines import read_plain_lines
from classify_batch.inputs.formats.table import read_table
from classify_batch.inputs.ids import Fault
from classify_batch.inputs.open import InputOptions, open_source
from classify_batch.inputs.reading import Reading
from classify_batch.streams import blocks

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]
CODE_POINTS_THAT_END_LINES_ELSEWHERE = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


async def read(path: Path, data: str | bytes, column: str | None = None) -> list[str]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    options = InputOptions(Reading(column=column))
    return [file_id async for batch in open_source(path, options) for file_id in batch]


async def fault(path: Path, data: str | bytes, column: str | None = None) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await read(path, data, column)
    assert caught.value.hint
    assert str(caught.value).isprintable()
    assert caught.value.exit_status is ExitStatus.USAGE
    return caught.value


# --- Text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        "a\nb\nc\n",
        "a\nb\nc",
        "a\r\nb\r\nc\r\n",
        "\ufeffa\nb\nc\n",
        "\n  \n\t\r\na\n\n b \n\tc\t\n\n",
        "# who goes first\na\n  # and then\nb\n#c\nc\n",
        "\ufeff# BOM and comment\r\na\r\nb\r\nc",
    ],
)
async def test_text_is_read_with_all_that_is_normal_in_text(tmp_path: Path, data: str) -> None:
    """CRLF, a byte-order mark, blank lines, comments, blanks around an ID and a missing last newline are normal."""
    assert await read(tmp_path / "ids.txt", data) == ["a", "b", "c"]


async def test_repeats_and_order_are_left_alone(tmp_path: Path) -> None:
    """A source neither sorts nor removes anything."""
    assert await read(tmp_path / "ids.list", "b\na\nb\n") == ["b", "a", "b"]


async def test_letters_of_every_script_are_printable(tmp_path: Path) -> None:
    """An ID needn't be ASCII, and 200 characters are allowed however many bytes they take."""
    file_ids = ["Größe-é", "文件", "файл#1", "𝒳" * 200]
    assert await read(tmp_path / "ids.txt", "\n".join(file_ids)) == file_ids


@pytest.mark.parametrize("character", CODE_POINTS_THAT_END_LINES_ELSEWHERE + "\x00\x1b\x7f\u00a0\u200b")
async def test_only_a_newline_ends_a_line(tmp_path: Path, character: str) -> None:
    """A character that can't be printed is a fault of its line, and never shifts the lines behind it."""
    error = await fault(tmp_path / "ids.txt", f"a\n\nb{character}c\nd\n")
    assert "ids.txt, line 3: " in str(error)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a\nb c\n", "line 2: 'b c' has a space"),
        ("# x\r\n\r\na\r\nb\tc\r\n", r"line 4: 'b\tc' looks like a row of a table"),
        ("a\n" + "x" * 201, "line 2: '" + "x" * 59 + "…' has 201 characters"),
        (b"a\nbc\xffd\n", "line 2: not UTF-8: byte 0xff at byte 3 of the line"),
        (b"\xffa", "line 1: not UTF-8: byte 0xff at byte 1 of the line"),
        ("", "holds no file IDs"),
        ("\ufeff\n# nothing\n\n", "holds no file IDs"),
    ],
)
async def test_faults_of_text_name_their_line(tmp_path: Path, data: str | bytes, message: str) -> None:
    """What is not an ID is reported with its file, its line and the value, cut short."""
    assert message in str(await fault(tmp_path / "ids.txt", data))


# --- JSONL ----------------------------------------------------------------------------------------------------


async def test_jsonl_takes_the_file_id_of_every_object(tmp_path: Path) -> None:
    """Blank lines are skipped, other keys ignored, and `.ndjson` is the same format."""
    data = '\ufeff{"file_id": "a"}\r\n\r\n {"x": [1, {}], "file_id": "b\\u00e9"} \n'
    assert await read(tmp_path / "ids.ndjson", data) == ["a", "bé"]
    assert await read(tmp_path / "ids.jsonl", '{"id": "a", "file_id": "b"}', column="id") == ["a"]


async def test_the_dead_letters_of_a_run_are_an_input(tmp_path: Path) -> None:
    """Lines of failures.jsonl are read as they are."""
    line = {"file_id": "f1", "outcome": "failed", "code": "job_error", "message": "x y", "job_id": None, "chunk": 0}
    assert await read(tmp_path / "failures.jsonl", json.dumps(line) + "\n") == ["f1"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"file_id": 5}', "5 is not a string"),
        ('{"file_id": null}', "None is not a string"),
        ('{"file_id": ""}', "an empty file ID"),
        ('{"file_id": "a b"}', "'a b' has a space"),
        ('{"file_id": "a\\ud800"}', r"'a\ud800' has a character"),
        ('{"id": "a", "x": 1}', "no column 'file_id'; there is 'id', 'x'"),
        ("{}", "no column 'file_id'; there is none"),
        ('"abc"', "'abc' is not a JSON object"),
        ('["file_id"]', "['file_id'] is not a JSON object"),
        ("abc", "'abc' is not JSON"),
        ('{"file_id": "a"},{"file_id": "b"}', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
async def test_faults_of_jsonl_name_their_line(tmp_path: Path, bad: str, message: str) -> None:
    """Each way in which a line can fail to hold an ID is reported with the line's number."""
    error = await fault(tmp_path / "ids.jsonl", f'{{"file_id": "a"}}\n\n{bad}\n{{"file_id": "z"}}\n')
    assert "ids.jsonl, line 3: " in str(error)
    assert message in str(error)


@pytest.mark.parametrize("end", ["", ', "meta": {}', ', "file_id": "c"'])
@pytest.mark.parametrize("key", ["file_id", "größe"])
@pytest.mark.parametrize("name", ["in.jsonl", "in.json"])
async def test_a_key_that_comes_twice_in_an_object_is_a_fault(tmp_path: Path, name: str, key: str, end: str) -> None:
    """Decoders take the last one, or the first: a file would be paid that nobody meant. Keys that nobody wants, and
    those of objects inside, may come as they like."""
    options = InputOptions(carry=("größe",) if key == "größe" else ())

    async def read_items(*items: str) -> list[str]:
        text = "\n".join(items) if name == "in.jsonl" else f"[{', '.join(items)}]"
        (tmp_path / name).write_text(text)
        return [row async for batch in open_source(tmp_path / name, options) for row in batch]

    sound = '{"file_id": "a", "größe": 1, "x": 1, "x": 2, "carried": {"file_id": "b", "file_id": "b"}}'
    assert [row.partition("\t")[0] for row in await read_items(sound, sound)] == ["a", "a"]
    with pytest.raises(SourceError, match=r"(line|item) 3: the key '.*' comes more than once in one object") as caught:
        await read_items(sound, sound, f'{{"file_id": "b", "größe": 2, "{key}": "b"{end}}}')
    assert caught.value.hint


@pytest.mark.parametrize("name", ["in.jsonl", "in.json"])
@pytest.mark.parametrize(
    ("key", "written"), [("größe", "gr\\u00f6\\u00dfe"), ("größe", "gr\\u00F6\\u00DFe"), ("a/b", "a\\/b")]
)
async def test_a_key_that_comes_twice_may_be_escaped(tmp_path: Path, name: str, key: str, written: str) -> None:
    """As Python's and Java's encoders write umlauts, and PHP's a slash."""
    sound, twice = f'{{"{written}": "a"}}', f'{{"{written}": "b", "{written}": "c"}}'
    text = f"{sound}\n{twice}\n" if name == "in.jsonl" else f"[{sound}, {twice}]"
    with pytest.raises(SourceError, match=r"2: the key .* comes more than once in one object"):
        await read(tmp_path / name, text, key)
    assert await read(tmp_path / name, text.replace(twice, sound), key) == ["a", "a"]


async def test_ids_beside_objects_hide_no_key_that_comes_twice(tmp_path: Path) -> None:
    """An array may hold both."""
    with pytest.raises(SourceError, match="item 2: the key 'file_id' comes more than once"):
        await read(tmp_path / "in", '["a", {"file_id": "b", "file_id": "c"}]')


@pytest.mark.parametrize(("column", "hint"), [("sent_id", "--column sent_id"), ("path", "give the folder itself")])
@pytest.mark.parametrize("name", ["in.csv", "in.tsv"])
@pytest.mark.parametrize("carry", [(), ("outcome",)])
async def test_an_export_of_a_folders_run_is_no_input(
    tmp_path: Path, name: str, column: str, hint: str, carry: tuple[str, ...]
) -> None:
    """Its table names contents, too. The hint names a column only if it is there; other tables may hold such IDs."""
    content = CONTENT_PREFIX + "0f" * 32
    rows = [["file_id", "outcome", column], ["a", "failed", "f-1"], [content, "failed", "f-2"]]
    text = "".join(("," if name == "in.csv" else "\t").join(row) + "\n" for row in rows)
    (tmp_path / name).write_text(text)
    options = InputOptions(carry=carry)
    with pytest.raises(SourceError, match=r"line 3: .* is what a run over a folder calls a document") as caught:
        [row async for batch in open_source(tmp_path / name, options) for row in batch]
    assert caught.value.hint.endswith(hint) or f"{hint}," in caught.value.hint
    assert await read(tmp_path / name, text, column) == ["f-1", "f-2"]
    assert await read(tmp_path / name, text.replace("outcome", "note")) == ["a", content]


@pytest.mark.parametrize("prefix", [CONTENT_PREFIX, UNREAD_PREFIX])
@pytest.mark.parametrize("key", ["outcome", "change"])
async def test_a_document_of_a_folder_is_no_file_of_the_project(tmp_path: Path, prefix: str, key: str) -> None:
    """The outcomes of a run over a folder name contents, which the API doesn't know; the files that were sent are IDs.
    Whoever calls files of a project so may."""
    content = prefix + "0f" * 32
    line = f'{{"file_id": "{content}", "{key}": "failed", "sent_id": "f-1"}}\n'
    with pytest.raises(SourceError, match=r"line 1: .* is what a run over a folder calls a document") as caught:
        await read(tmp_path / "in.jsonl", line)
    assert "--column sent_id" in caught.value.hint
    assert await read(tmp_path / "in.jsonl", line, "sent_id") == ["f-1"]
    assert await read(tmp_path / "in.jsonl", f'{{"file_id": "{content}"}}\n') == [content]


async def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    """Blocks are not collected beyond the longest line allowed."""
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += blocks.BLOCK_BYTES
            yield b"x" * blocks.BLOCK_BYTES

    with pytest.raises(SourceError, match="line 1: longer than"):
        [batch async for batch in read_json_lines(endless(), ObjectReader("ids"))]
    assert taken <= lines.LINE_BYTES_MAX + blocks.BLOCK_BYTES


# --- JSON arrays ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('["a1",\n a2, "a3"]', "item 2: not JSON on line 2: 'a2, \"a3\"]': expecting value"),
        (
            '[{"file_id": "a"},\n{"file_id": "b",\n{"file_id": "c"}]',
            'item 2: not JSON on line 3: \'{"file_id": "c"}]\': ',
        ),
        ('[{"file_id": "a"', "item 1: the array ends in the middle"),
        ('[{"file_id": "a"]', "item 1: not JSON on line 1: ']': expecting ',' delimiter"),
        ('["a1",\n\n"a\t2"]', "item 2: not JSON on line 3: '\\t2\"]': invalid control character"),
        ('["a1", // c\n"a2"]', "item 2: not JSON on line 1: '// c\\n\"a2\"]': expecting value"),
        ("[" + "9" * 5_000 + "]", "…': exceeds the limit (4300 digits) for integer string conversion"),
        ('["a1",\n"a2, "a3]', "item 2: '\"a2, \"a3]': no comma behind an item"),
        ('["a1",\n"a2]', "item 2: a string without an end begins on line 2: '\"a2]'"),
        ('["a1",\n"' + "x" * (1 << 21), "item 2: a string without an end begins on line 2: '\"xxx"),
        ('["a1",\na2,' + '"x",' * (1 << 19), 'item 2: not JSON on line 2: \'a2,"x"'),
        ('["a1",\n{' + '"x":"y",' * (1 << 18), "is not JSON, or longer than"),
        ('["a1", "a2",\n', "item 3: the array ends in the middle"),
        ('["a1", "a2",', "item 3: the array ends in the middle"),
        ('["a1", "a2"', "item 2: the array ends in the middle"),
        ("[", "item 1: the array ends in the middle"),
    ],
)
async def test_what_of_an_array_is_not_json_is_told_with_its_line(tmp_path: Path, data: str, message: str) -> None:
    """A whole file with a bad item isn't cut off: its line, its text and the decoder's reason find the mistake."""
    error = await fault(tmp_path / "ids.json", data)
    assert message in str(error)
    assert len(str(error)) < 300 + len(str(tmp_path))


# --- CSV ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["file_id", "file_id,name", "name,file_id"])
async def test_a_header_that_comes_again_is_no_file_id(tmp_path: Path, header: str) -> None:
    """`cat *.csv` repeats it: the line is named. A value that is called like the column is one all the same."""
    row = header.replace("file_id", "a{}").replace("name", "file_id")
    table = "".join(f"{line}\n" for line in (header, row.format(1), row.format(2)))
    assert await read(tmp_path / "one.csv", table) == ["a1", "a2"]
    error = await fault(tmp_path / "two.csv", table + table)
    assert str(error).endswith("two.csv, line 4: the table's header once more")


async def test_a_table_with_tabs_loses_no_rows_to_a_quote(tmp_path: Path) -> None:
    """Databases write tabs without quoting: a value that begins with a quote must not take the next rows in."""
    swallowing = 'file_id\tname\na1\tx\na2\t"report\na3\ty\na4\tfinal"\na5\tz\n'
    error = await fault(tmp_path / "ids.tsv", swallowing)
    assert "ids.tsv, line 3: a quote opens here, and 3 lines with tabs in them lie before the next" in str(error)
    quoted = 'file_id\tname\na1\t"two\nlines"\na2\t"a\ttab"\na3\tx"y\n'
    assert await read(tmp_path / "quoted.tsv", quoted) == ["a1", "a2", "a3"]


@pytest.mark.parametrize("blank", ["", "\n\n"])
@pytest.mark.parametrize(
    "rows",
    [
        'a1\t"a\ttab\nand a line"\na2\tx\n',
        'a1\t"a line\nand\ttwo\ttabs"\r\na2\tx\r\n',
        '"a1"\t"three\nlines\n\t\tand ""tabs"""\n"a2"\t"x"\n',
    ],
)
async def test_a_quoted_cell_with_tabs_and_line_ends_is_a_cell(tmp_path: Path, rows: str, blank: str) -> None:
    """None of its lines can be a row: a row has as many cells as the header."""
    data = f"{blank}file_id\tname\n{rows}"
    assert await read(tmp_path / "ids.tsv", data) == ["a1", "a2"]


@pytest.mark.parametrize(
    "rows",
    [
        'a1\tx\t"b\na2\ty\tc"\n',  # each line is a row
        'a1\t"b\tx\na2\ty\tc"\n',  # the quotes stand in different columns
        'a1\t"b\na2\tc"\tz\n',  # the first row ends early
        'a1\t"b\tx\na2\nc"\tz\tx\n',
    ],
)
async def test_a_cell_whose_lines_may_be_rows_is_refused(tmp_path: Path, rows: str) -> None:
    """A file that is left out would be missed by nobody."""
    error = await fault(tmp_path / "ids.tsv", f"file_id\tm\tn\n{rows}a9\tx\ty\n")
    assert "ids.tsv, line 2: a quote opens here" in str(error)


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
async def test_a_name_that_only_looks_like_the_wanted_one_is_told(tmp_path: Path, name: str) -> None:
    """macOS writes an accent behind its letter: both names look alike, so their characters are shown."""
    data = "gro\u0308\u00dfe,n\na,1\n" if name == "in.csv" else '{"gro\u0308\u00dfe": "a"}\n'
    with pytest.raises(SourceError) as caught:
        await read(tmp_path / name, data, "gr\u00f6\u00dfe")
    assert r"did you mean 'gro\u0308\xdfe'? It only looks like 'gr\xf6\xdfe'" in str(caught.value)


async def test_csv_takes_the_named_column(tmp_path: Path) -> None:
    """Quotes, CRLF, a byte-order mark, empty lines and newlines in other columns are read as CSV."""
    data = '\ufeffnote,file_id\r\n"x, ""y""\r\nz",a\r\n\r\n,"b"\r\n'
    assert await read(tmp_path / "ids.csv", data) == ["a", "b"]
    assert await read(tmp_path / "ids.csv", "id,file_id\nc,d\n", column="id") == ["c"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("id,name\na,b\n", "line 1: no column 'file_id'; there is 'id', 'name'"),
        ("file_id,file_id\na,b\n", "line 1: more than one column 'file_id'"),
        ('n,file_id\n"1\n2\n3",a\nx,b c\n', "line 5: 'b c' has a space"),
        ('file_id\n"a\nb"\n', r"line 2: 'a\nb' has a character"),
        ("n,file_id\nx,a\nx\n", "line 3: an empty file ID"),
        ("n,file_id\nx,a\nx,\n", "line 3: an empty file ID"),
        ('n,file_id\nx,a\n"x,b\ny,c\n', "line 3: not CSV: unexpected end of data"),
        ('n,file_id\nx,a\n"x"y,b\ny,c\n', "line 3: not CSV: "),
        ('n,file_id\n"' + "x\n" * 200_000, "line 2: not CSV: unexpected end of data"),
        ('n,file_id\nx,a\n"' + "x\n" * 600_000, "line 3: a row longer than 1048576 bytes"),
        ("file_id\n", "holds no file IDs"),
        ("", "holds no file IDs"),
        (b"file_id\n\xe9\n", "line 2: not UTF-8"),
    ],
)
async def test_faults_of_csv_name_the_first_line_of_their_row(tmp_path: Path, data: str | bytes, message: str) -> None:
    """Lines are counted in the file, not in rows: an editor finds them."""
    assert message in str(await fault(tmp_path / "ids.csv", data))


@pytest.mark.parametrize("rows", ["x\n", "x,a\n" * 40_000, "x" * 99 + "\n" * 999_999])
async def test_a_quote_without_an_end_is_named_as_such(tmp_path: Path, rows: str) -> None:
    """However much is behind it."""
    error = await fault(tmp_path / "ids.csv", f'n,file_id\nx,a\n"{rows}')
    assert "ids.csv, line 3: " in str(error)
    assert "is a quote opened and never closed?" in error.hint


async def test_a_cell_may_be_as_long_as_a_line(tmp_path: Path) -> None:
    """Texts stand in tables; the bound that a program has for its own tables is neither lowered nor in the way."""
    before = csv.field_size_limit(1000)
    try:
        assert await read(tmp_path / "ids.csv", f'n,file_id\n"{"x y" * 300_000}",a\n') == ["a"]
        csv.field_size_limit(1 << 22)
        assert await read(tmp_path / "ids.csv", "n,file_id\nx,a\n") == ["a"]
        assert csv.field_size_limit() == 1 << 22
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize("column", ["file_id", "name"])
async def test_a_row_with_more_cells_than_its_header_is_a_fault(tmp_path: Path, column: str) -> None:
    """A delimiter in a value that isn't quoted moves all that follows under other columns: nothing of it is taken."""
    data = 'name,file_id,n\nx,b,"1\n2"\nDoe,John,a1,7\n'
    error = await fault(tmp_path / "ids.csv", data, column=column)
    assert "ids.csv, line 4: 4 cells under a header of 3" in str(error)
    assert "quote a value that holds the delimiter" in error.hint


async def test_rows_of_other_lengths_are_judged_by_what_is_in_them(tmp_path: Path) -> None:
    """Empty cells at a row's end are normal in spreadsheets, and so are rows that end early."""
    data = "file_id,path,n\na,x,1,,\nb, \nc,y,2, ,\n"
    assert await read(tmp_path / "ids.csv", data) == ["a", "b", "c"]
    (tmp_path / "ids.csv").write_text(data + "d,Doe, John.pdf,7\n")
    faults: list[Fault] = []
    options = InputOptions(carry=["n"], on_fault=faults.append)
    rows = [row async for batch in open_source(tmp_path / "ids.csv", options) for row in batch]
    assert rows == ['a\t{"n":"1"}', 'b\t{"n":null}', 'c\t{"n":"2"}']
    assert [(each.place, each.what) for each in faults] == [("line 5", "4 cells under a header of 3")]


# --- All of them ----------------------------------------------------------------------------------------------

IDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=5)


@given(file_ids=st.lists(IDS.filter(lambda file_id: file_id[0] != "#"), min_size=1), size=st.integers(1, 9))
async def test_where_blocks_end_does_not_matter(file_ids: list[str], size: int) -> None:
    """A block may end in the middle of a character, a line or a quoted value: the IDs are the same."""

    async def cut(text: str) -> AsyncIterator[bytes]:
        data = text.encode()
        for start in range(0, len(data), size):
            yield data[start : start + size]

    texts = "".join(f"{file_id}\r\n" for file_id in file_ids)
    objects = "".join(json.dumps({"file_id": file_id}) + "\n" for file_id in file_ids)
    rows = "n,file_id\n" + "".join('"1\n2","{}"\n'.format(file_id.replace('"', '""')) for file_id in file_ids)
    for batches in (
        read_plain_lines(cut(texts), "t"),
        read_json_lines(cut(objects), ObjectReader("j")),
        read_json_array(cut(json.dumps(file_ids, ensure_ascii=False)), ObjectReader("a", bare=True)),
        read_json_array(cut(f"\ufeff[{','.join(objects.splitlines())}]\r\n"), ObjectReader("a", bare=True)),
        read_table(cut(rows), ObjectReader("c")),
    ):
        assert [file_id async for batch in batches for file_id in batch] == file_ids
