"""Which source stands behind which spec, and the sources that are no files."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from classify_batch.errors import SourceError
from classify_batch.inputs import iterables
from classify_batch.inputs.iterables import BATCH_IDS, Item
from classify_batch.inputs.open import (
    InputOptions,
    SeveralSources,
    SourceSpec,
    is_read_once,
    is_repeatable,
    name_of,
    needs_project,
    open_source,
)
from classify_batch.inputs.reading import Format, NamedReading, PlannedReadings, Reading, parse_reading
from classify_batch.streams.closing import closing

pytestmark = [pytest.mark.anyio, pytest.mark.any_loop]


async def read(spec: SourceSpec, **options: Any) -> list[str]:
    return [file_id async for batch in open_source(spec, InputOptions(**options)) for file_id in batch]


async def counted(stop: int) -> AsyncIterator[str]:
    for number in range(stop):
        yield f"f{number}"


# --- What the calling program holds -----------------------------------------------------------------------------


async def test_iterables_of_both_kinds_are_sources() -> None:
    """Lists, generators and asynchronous generators give the same IDs in the same order, over many batches."""
    expected = [f"f{number}" for number in range(2 * BATCH_IDS + 1)]
    assert await read(expected) == expected
    assert await read(iter(expected)) == expected
    assert await read(counted(len(expected))) == expected


@pytest.mark.parametrize("bad", ["", "a b", "a\n", "x" * 201, 7, None, b"a"])
async def test_faults_of_iterables_name_the_item(bad: Any) -> None:
    """Items are counted from 1 over all batches."""

    async def then_bad() -> AsyncIterator[str]:
        async for file_id in counted(BATCH_IDS):
            yield file_id
        yield bad

    for spec in (["f"] * BATCH_IDS + [bad], then_bad()):
        with pytest.raises(SourceError, match=f"the given file IDs, item {BATCH_IDS + 1}: ") as caught:
            await read(spec)
        assert str(caught.value).isprintable()


async def test_nothing_is_taken_before_it_is_asked_for() -> None:
    """A source pulls one batch ahead of its reader at the most, however long the iterable is."""
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"f{taken}"

    async with closing(open_source(endless())) as source:
        assert taken == 0
        await anext(source)
        assert 0 < taken <= BATCH_IDS


async def test_a_slow_generator_gives_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop, which hears of Ctrl-C, waits for one batch: it ends by the clock, and loses no item."""
    now_s = 0.0

    def slow() -> Iterator[str]:
        nonlocal now_s
        for number in range(40):
            now_s += iterables.BATCH_S / 3 if number < 30 else 10 * iterables.BATCH_S
            yield f"f{number}"

    monkeypatch.setattr(iterables, "monotonic", lambda: now_s)
    sizes = [len(batch) async for batch in open_source(slow())]
    assert sum(sizes) == 40
    assert max(sizes) <= 4
    assert sizes[-9:] == [1] * 9


async def test_an_input_has_a_name_for_messages() -> None:
    """As it was given, without control characters; of many the first few."""
    specs: list[SourceSpec] = ["a.csv", Path("x/b"), "a\x1b", "-", "project:", ["a"], counted(1), "s3://bucket/key"]
    names = ["a.csv", "x/b", r"'a\x1b'", "stdin", "project:", *["the given file IDs"] * 2, "s3://bucket/key"]
    assert list(map(name_of, specs)) == names
    assert name_of(SeveralSources(("a", Path("b"), "-"))) == "a, b, stdin"
    assert name_of(SeveralSources(("a", "b", "c", "d"))) == "a, b, c, …"


@pytest.mark.parametrize("spec", [[], iter(())])
async def test_an_empty_iterable_is_refused(spec: Any) -> None:
    """A run over nothing is a mistake upstream."""
    with pytest.raises(SourceError, match="the given file IDs holds no file IDs"):
        await read(spec)


# --- Files ------------------------------------------------------------------------------------------------------


@pytest.mark.real_time
async def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    """Missing, a folder without documents, an impossible name: one SourceError, without control characters."""
    for path, reason in ((tmp_path / "no\x1bne", "No such file"), (tmp_path, "no documents"), ("a\0", "null byte")):
        with pytest.raises(SourceError, match=reason) as caught:
            await read(path)
        assert str(caught.value).isprintable()


async def test_what_cannot_be_meant_is_refused_before_anything_is_read() -> None:
    """project: without the API, and a table of a program fail at once, each with a hint."""

    class Frame:
        columns = ("file_id",)

        def __iter__(self) -> Iterator[str]:
            return iter(self.columns)

    for spec, message in (
        ("project:", "needs the API"),
        (Frame(), "a Frame gives its columns, not its rows"),
        ({"file_id": "a"}, "one mapping, where a list of them is expected"),
        (b"abc", "bytes, where a list"),
    ):
        with pytest.raises(SourceError, match=message) as caught:
            open_source(spec)  # type: ignore[arg-type]
        assert caught.value.hint


async def test_only_what_can_be_read_again_is_repeatable(tmp_path: Path) -> None:
    """Stdin and the project's list may differ the next time; files and iterables are taken at their word."""
    assert [is_repeatable(spec) for spec in ("-", "project:", tmp_path, "a.txt", ["a"])] == [0, 0, 1, 1, 1]
    several = [SeveralSources(specs) for specs in (("a", "-"), ("project:", "a"), ("a", "b"))]
    assert list(map(is_repeatable, several)) == [0, 0, 1]
    assert list(map(needs_project, [*several, "project:", "a", ["project:"]])) == [0, 1, 0, 1, 0, 0]


async def test_a_named_pipe_and_a_generator_are_read_once(tmp_path: Path) -> None:
    """They are compared with a plan in one reading; a file, and a list, may be read twice."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "ids").write_text("a")
    specs: list[SourceSpec] = [tmp_path / "pipe", iter("a"), tmp_path / "ids", ["a"], tmp_path / "none", "a\0"]
    assert list(map(is_read_once, specs)) == [1, 1, 0, 0, 0, 0]
    assert is_read_once(SeveralSources((tmp_path / "ids", tmp_path / "pipe")))


@pytest.mark.real_time
async def test_several_sources_are_one_input_in_order(tmp_path: Path) -> None:
    """Each is read in its own format, and an empty one among them is a mistake upstream."""
    (tmp_path / "a.txt").write_text("a\nb\n")
    (tmp_path / "b.csv").write_text("n,file_id\n1,c\n")
    (tmp_path / "c.json").write_text('["d", "a"]')
    (tmp_path / "none").write_text("")
    readings: list[NamedReading] = []
    given = SeveralSources((tmp_path / "a.txt", str(tmp_path / "b.csv"), tmp_path / "c.json"))
    assert await read(given, on_reading=readings.append) == ["a", "b", "c", "d", "a"]
    assert [each.reading.format for each in readings] == [Format.LINES, Format.CSV, Format.JSON]
    with pytest.raises(SourceError, match="none holds no file IDs"):
        await read(SeveralSources((tmp_path / "a.txt", tmp_path / "none")))


# --- A run that exists ------------------------------------------------------------------------------------------


@pytest.mark.real_time
async def test_a_planned_reading_is_that_of_the_file_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative or from the root, by a link, from another folder: it is read as it was planned. An older run kept the
    name alone."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a" / "q.csv").write_text("x\n")
    (tmp_path / "link").symlink_to(tmp_path / "a" / "q.csv")
    monkeypatch.chdir(tmp_path / "a")
    found: list[NamedReading] = []
    assert await read("q.csv", reading=Reading(Format.LINES), on_reading=found.append) == ["x"]
    stored = [each.to_stored() for each in found]
    assert stored == [{"source": "q.csv", "format": "lines", "path": str(tmp_path / "a" / "q.csv")}]
    absolute = str(tmp_path / "a" / "q.csv")
    older = [{"source": "q.csv", "format": "lines"}]
    for planned in (stored, older, [{"source": absolute, "format": "lines"}]):
        for spec in ("q.csv", absolute, Path("../a/q.csv"), tmp_path / "link"):
            assert await read(spec, planned=PlannedReadings(planned)) == ["x"]
    monkeypatch.chdir(tmp_path / "b")
    for spec in (absolute, "../a/q.csv", tmp_path / "link"):
        assert await read(spec, planned=PlannedReadings(stored)) == ["x"]
    (tmp_path / "b" / "other.csv").write_text("file_id\ny\n")
    assert await read("other.csv", planned=PlannedReadings(stored)) == ["y"]


@pytest.mark.real_time
async def test_names_that_are_no_paths_are_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory that is gone, a name with a zero byte, or one that is no text."""
    (tmp_path / "ids").write_text("a\n")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    planned = PlannedReadings([{"source": "x", "format": "csv"}])
    assert await read(tmp_path / "ids", planned=planned) == ["a"]
    for name in ("ids", "a\0"):
        with pytest.raises(SourceError, match=r"ids|null byte"):
            await read(name, planned=planned)
    monkeypatch.chdir(tmp_path)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/i\xff"))
    odd.write_text("a\n")
    found: list[NamedReading] = []
    assert await read(odd.name, on_reading=found.append) == ["a"]
    assert "path" not in found[0].to_stored()


@pytest.mark.real_time
async def test_a_run_keeps_the_reading_it_was_planned_with(tmp_path: Path) -> None:
    """What was written down counts before the content, and an option before what was written down."""
    path = tmp_path / "ids.txt"
    path.write_text("a,b\n")
    lines = PlannedReadings([NamedReading(str(path), Reading(Format.LINES)).to_stored()])
    assert await read(path, planned=lines) == ["a,b"]
    path.write_text("id;x\na;1\n")
    stored = [{"source": str(path), "format": "csv", "delimiter": ";", "column": "id", "later": 1}]
    assert await read(path, planned=PlannedReadings(stored)) == ["a"]
    found: list[NamedReading] = []
    quoted = tmp_path / "quoted"
    quoted.write_text('"a"\n')
    assert await read(quoted, on_reading=found.append) == ["a"]
    assert await read(quoted, planned=PlannedReadings([each.to_stored() for each in found])) == ["a"]
    assert await read(quoted, planned=PlannedReadings([]), reading=Reading(Format.LINES)) == ['"a"']
    asked = Reading(Format.CSV, column="x")
    assert await read(path, planned=PlannedReadings(stored), reading=asked) == ["1"]
    assert await read(path, planned=lines, reading=asked) == ["1"]
    for newer in ({"source": str(path), "format": "avro"}, {"source": "another"}, {"source": 7, "format": []}):
        assert await read(path, planned=PlannedReadings([newer]), reading=Reading(column="id")) == ["a"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [("ids.txt", "a,b\n", ["a,b"]), ("ids.json", '["a"]\n', ['["a"]']), ("ids.tsv", "file_id\n", ["file_id"])],
)
@pytest.mark.real_time
async def test_a_run_of_an_older_version_keeps_its_reading_by_suffix(
    tmp_path: Path, name: str, text: str, expected: list[str]
) -> None:
    """It wrote down nothing, and took each line of such files for a file ID."""
    (tmp_path / name).write_text(text)
    assert await read(tmp_path / name, planned=PlannedReadings(None)) == expected
    (tmp_path / "ids.csv").write_text("file_id,x\nc,1\n")
    (tmp_path / "ids.jsonl").write_text('{"file_id": "d"}\n')
    given = SeveralSources((tmp_path / "ids.csv", tmp_path / "ids.jsonl"))
    assert await read(given, planned=PlannedReadings(None)) == ["c", "d"]


# --- Stdin ------------------------------------------------------------------------------------------------------


async def test_stdin_is_text_that_may_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe is read to its end, also when a line arrives in two parts."""
    reading, writing = os.pipe()
    os.write(writing, b"\xef\xbb\xbfa\n# x\nb")
    with os.fdopen(reading, "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
        source = open_source("-")
        assert await anext(source) == ["a"]
        os.write(writing, b"b\r\n")
        os.close(writing)
        assert [batch async for batch in source] == [["bb"]]


async def test_stdin_may_be_anything_with_a_buffer_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replaced stdin without a descriptor is read; a closed one is reported; errors name the line of stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    assert await read("-") == ["a", "b"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb c\n")))
    with pytest.raises(SourceError, match="stdin, line 2: "):
        await read("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="stdin is closed"):
        await read("-")


# --- The project's list -----------------------------------------------------------------------------------------


async def test_the_project_is_read_page_by_page() -> None:
    """Tokens are handed back as they came, a page may be empty, and the page without a token is the last."""
    contents = {None: (["a", "b"], "t1"), "t1": ([], "t2"), "t2": (["c"], None)}

    async def pages(token: str | None) -> tuple[list[str], str | None]:
        return contents[token]

    assert await read("project:", pages=pages) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("file_id", "token", "message"),
    [
        ("f{0}", "same", "a next_page_token came twice"),
        ("f{0}", "t{1}", "a next_page_token came twice"),
        ("same", "t{0}", "the same page came twice"),
        (None, "t{0}", "pages in a row were empty"),
    ],
)
async def test_a_list_that_never_ends_is_recognised(file_id: str | None, token: str, message: str) -> None:
    """Tokens in a circle of one or of seven, the same page again, empty pages: each ends with an error that says so."""
    calls = 0

    async def pages(_: str | None) -> tuple[list[str], str | None]:
        nonlocal calls
        calls += 1
        page = [] if file_id is None else [file_id.format(calls)]
        return page, token.format(calls, calls % 7)

    with pytest.raises(SourceError, match=message):
        await read("project:", pages=pages)
    assert calls <= 102


async def test_what_the_server_calls_an_id_is_checked_too() -> None:
    """A server's ID that could not stand in a plan is a fault like any other."""

    async def pages(_: str | None) -> tuple[list[str], str | None]:
        return ["a", "b\x1b"], None

    with pytest.raises(SourceError, match="project:, item 2: "):
        await read("project:", pages=pages)


FILES = [{"id": "a", "name": "x.pdf", "external_file_id": None}, {"id": "b", "name": "y.pdf"}]


async def test_the_columns_of_the_file_list_are_carried() -> None:
    """A field that the server leaves out is null; one that no file list has is an error."""

    async def pages(_: str | None) -> tuple[list[Any], str | None]:
        return FILES, None

    rows = await read("project:", pages=pages, carry=["name", "external_file_id"])
    assert rows == [
        'a\t{"name":"x.pdf","external_file_id":null}',
        'b\t{"name":"y.pdf","external_file_id":null}',
    ]
    assert await read("project:", pages=pages, reading=Reading(column="name")) == ["x.pdf", "y.pdf"]
    with pytest.raises(SourceError, match="project:, item 1: no column 'nmae'"):
        await read("project:", pages=pages, carry=["nmae"])


# --- What programs give -----------------------------------------------------------------------------------------


async def test_mappings_are_items_too() -> None:
    """Their file ID stands under the column; what else they have is carried."""
    rows: list[Item] = [{"file_id": "a", "path": "x", "n": 1}, {"file_id": "b", "path": None, "n": 2}]
    assert await read(rows) == ["a", "b"]
    assert await read([*rows, "c"]) == ["a", "b", "c"]
    assert await read(iter(rows), carry=["path"]) == ['a\t{"path":"x"}', 'b\t{"path":null}']
    assert await read([{"id": "z"}], reading=Reading(column="id")) == ["z"]


class Shown(str):
    """A string that shows itself, and judges itself, as another one."""

    def __str__(self) -> str:
        return "x y\nz"

    __repr__ = __format__ = __str__  # type: ignore[assignment]

    def __len__(self) -> int:
        return 1

    def isprintable(self) -> bool:
        return True

    def __contains__(self, part: object) -> bool:
        return False


class Name(str, Enum):  # noqa: UP042 - a StrEnum prints as its value
    """Names for file IDs, as a program has them."""

    A = "ea"


@pytest.mark.parametrize("value", [Shown("ea"), Name.A])
@pytest.mark.parametrize("neighbours", [[], ["b"], [{"file_id": "b"}]])
async def test_a_string_of_a_subclass_is_the_string_that_it_holds(value: str, neighbours: list[Item]) -> None:
    """An enumeration's member prints as its name; its value is planned, whatever stands beside it."""

    async def items(item: Item) -> AsyncIterator[Item]:
        for each in [*neighbours, item]:
            yield each

    others = ["b"] * len(neighbours)
    for item in (value, {"file_id": value}):
        for spec in ([*neighbours, item], iter([*neighbours, item]), items(item)):
            found = await read(spec)
            assert "".join(map(format, found)) == "".join([*others, "ea"])
            assert set(map(type, found)) == {str}
    row = {"file_id": value, "path": value}
    assert await read([row], carry=["path"]) == ['ea\t{"path":"ea"}']


async def test_a_column_of_a_subclass_is_kept_as_the_string_that_it_holds() -> None:
    """run.json names the column by which a run is read again, and not a program's name for it."""
    stored = parse_reading("csv", None, Name.A).to_stored()
    assert stored == {"format": "csv", "column": "ea"}


@pytest.mark.parametrize("bad", ["a b", "a\n", "x" * 201, ""])
async def test_a_subclass_does_not_judge_itself(bad: str) -> None:
    """What a subclass says of its length and its characters counts for nothing."""
    for item in (Shown(bad), {"file_id": Shown(bad)}):
        with pytest.raises(SourceError, match="item 1: ") as caught:
            await read([item])
        assert str(caught.value).isprintable()
        assert "x y" not in str(caught.value)


class float32:  # noqa: N801 - as NumPy's
    """No number that JSON has."""


CIRCLE: dict[str, Any] = {}
CIRCLE["itself"] = CIRCLE


@pytest.mark.parametrize(
    ("item", "message", "hint"),
    [
        ({"id": "a"}, "no column 'file_id'; there is 'id'", "--column"),
        ("a", "'a' is a file ID alone, and carries no 'path'", "every item is an object"),
        ({"file_id": "a", "path": object}, "carries a value that JSON doesn't have", "str()"),
        (
            {"file_id": "a", "path": float32()},
            "carries a value that JSON doesn't have (Object of type float32",
            "str()",
        ),
        ({"file_id": "a", "path": float("nan")}, "carries a number that JSON doesn't have (NaN or Infinity)", "null"),
        ({"file_id": "a", "path": [CIRCLE]}, "file ID a carries a value that holds itself", "a key"),
        ({"file_id": "a", "path": 10**6000}, "carries a number too long to be written (Exceeds the limit (43", "hex("),
        ({"file_id": UUID(int=7), "path": 1}, "is not a string", "str(id)"),
        (("a",), "('a',) is not a string", "str(id)"),
        (UUID(int=7), "is not a string", "str(id)"),
        (7, "7 is not a string", "str(id)"),
        (float("nan"), "nan is not a string", "leave rows"),
    ],
)
async def test_what_an_item_lacks_is_reported_with_what_to_do(item: Any, message: str, hint: str) -> None:
    """UUIDs, rows of a database, numbers, empty cells: the item's number, and the call that makes it right."""
    with pytest.raises(SourceError) as caught:
        await read([{"file_id": "z", "path": 1}, item], carry=["path"])
    assert "the given file IDs, item 2: " in str(caught.value)
    assert message in str(caught.value)
    assert hint in caught.value.hint


async def test_numpy_and_pandas_are_iterables_like_any_other() -> None:
    """They compare themselves with a string item by item, so nothing may compare them."""
    numpy = pytest.importorskip("numpy")
    array = numpy.array(["a", "b"])
    assert await read(array) == ["a", "b"]
    assert [needs_project(array), is_repeatable(array), is_read_once(array)] == [False, True, False]
    assert await read(numpy.array(["a", "b"], dtype=object)) == ["a", "b"]
    with pytest.raises(SourceError, match="item 1: ") as caught:
        await read(numpy.array([["a", "b"], ["c", "d"]] * 9))
    assert str(caught.value).isprintable()
    pandas = pytest.importorskip("pandas")
    assert await read(pandas.Series(["a", "b"])) == ["a", "b"]
    with pytest.raises(SourceError, match="a DataFrame gives its columns"):
        await read(pandas.DataFrame({"file_id": ["a"]}))
