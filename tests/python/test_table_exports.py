"""Exports as Parquet and Arrow: typed, the same outcomes as in JSONL, whole or not at all, one file a partition."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from arro3.core import DataType, Table
from arro3.io import read_ipc, read_parquet

from classify_batch import RunHandle, UsageError, export, run
from classify_batch.errors import DamagedError
from classify_batch.operations.export import arrow_files, columns
from tests.support.command_line import command
from tests.support.complete_run import write_complete_run
from tests.support.sandbox_settings import IDS, two_documents

TABLES = ["out.parquet", "out.arrow", "out.feather"]


def read_table(path: Path) -> Table:
    return (read_parquet if path.suffix == ".parquet" else read_ipc)(path).read_all()


def a_run(folder: Path) -> RunHandle:
    """A run of two answered and three failed files that carries columns, one of them twice."""
    settings = two_documents(folder / "documents", plan={"carry": ["path", "size"]})
    known = [str(uuid5(NAMESPACE_URL, name)) for name in ("a.txt", "b.txt")]
    rows = [{"file_id": each, "path": f"in/{each}\ud800", "size": 7} for each in [*IDS[:3], *known, known[0]]]
    return run(settings, rows, folder / "run")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_holds_what_the_lines_hold(tmp_path: Path, name: str) -> None:
    """Every outcome with its values, typed; carried values as text, or as JSON."""
    result = a_run(tmp_path)
    exported = export(result.run_dir, tmp_path / name)
    table = read_table(tmp_path / name)
    outcomes = list(result.outcomes())
    assert (exported.files, exported.path, table.num_rows) == (5, tmp_path / name, 5)
    values = {column: table.column(column).to_pylist() for column in table.column_names}
    for key in ("file_id", "outcome", "type", "confidence", "reasoning", "mode", "job_id", "code", "message"):
        assert values[key] == [each.get(key) for each in outcomes], key
    moments = [each.ended_at[:23] for each in outcomes]
    assert [
        (answered or failed).isoformat(timespec="milliseconds")[:23]
        for answered, failed in zip(values["classified_at"], values["failed_at"], strict=True)
    ] == moments
    sizes = dict(zip(values["file_id"], values["size"], strict=True))
    twice = str(uuid5(NAMESPACE_URL, "a.txt"))
    assert sizes == dict.fromkeys([each.file_id for each in outcomes], "7") | {twice: "[7,7]"}
    assert values["path"][-1] == f"in/{outcomes[-1].file_id}\\ud800"
    category, text = DataType.dictionary(DataType.int32(), DataType.string()), DataType.string()
    types = {field.name: field.type for field in map(table.schema.field, table.column_names)}
    assert {name: types[name] for name in ("outcome", "type", "mode", "code", "counts")} == dict.fromkeys(
        ("outcome", "type", "mode", "code", "counts"), category
    )
    assert (types["file_id"], types["confidence"]) == (text, DataType.float64())
    assert types["failed_at"] == DataType.timestamp("ms", tz="UTC")


@pytest.mark.parametrize("name", TABLES)
def test_a_selection_and_nothing_at_all_are_tables(tmp_path: Path, name: str) -> None:
    """`only` selects, and where it selects nothing the file has its columns."""
    result = a_run(tmp_path)
    assert export(result.run_dir, tmp_path / name, only="failed").files == 3
    assert set(read_table(tmp_path / name).column("outcome").to_pylist()) == {"failed"}
    assert export(result.run_dir, tmp_path / name, only="unmatched").files == 0
    assert read_table(tmp_path / name).column_names[:3] == ["file_id", "outcome", "type"]


@pytest.mark.parametrize("name", TABLES)
def test_many_outcomes_come_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """More rows than a batch, or a row group, has."""
    monkeypatch.setattr(arrow_files, "ROWS_A_GROUP", 1000)
    write_complete_run(tmp_path / "run", 3_000, 1)
    exported = export(tmp_path / "run", tmp_path / name)
    table = read_table(tmp_path / name)
    assert (exported.files, table.num_rows) == (3_000, 3_000)
    lines = (tmp_path / "run" / "results.jsonl").read_bytes().splitlines()
    assert table.column("file_id").to_pylist() == [json.loads(line)["file_id"] for line in lines]


def test_a_value_that_the_journal_does_not_know_comes_into_an_arrow_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An Arrow file has one dictionary a column: it is written anew where one grows, and holds every value."""
    write_complete_run(tmp_path / "run", 3_000, 500)
    monkeypatch.setattr(columns, "first_categories", lambda _run: {"type": columns.Categories(()), **others()})
    export(tmp_path / "run", tmp_path / "out.arrow")
    assert set(read_table(tmp_path / "out.arrow").column("type").to_pylist()) == {"invoice"}


def others() -> dict[str, Any]:
    return {name: columns.Categories(()) for name in ("outcome", "mode", "code", "counts")}


def test_categories_number_more_texts_than_a_byte_has() -> None:
    """Texts come back as they went in, also after the dictionary has grown past 256, and those seen before stay."""
    categories = columns.Categories(["a"])
    assert categories.encode(["a", None, "b", "b"]).to_pylist() == ["a", None, "b", "b"]
    many = [f"type {number}" for number in range(300)]
    assert categories.encode(many).to_pylist() == many
    assert categories.encode(["b", "b"]).to_pylist() == ["b", "b"]
    assert categories.encode([None, None, None]).to_pylist() == [None] * 3
    assert len(categories) == 303


@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_run_leaves_the_existing_table(tmp_path: Path, name: str) -> None:
    """What is wrong is said as for any other export, and the file of before stays, with nothing beside it."""
    write_complete_run(tmp_path / "run", 3_000, 500)
    (tmp_path / name).write_text("old")
    results = tmp_path / "run" / "results.jsonl"
    results.write_bytes(results.read_bytes()[:-9])
    with pytest.raises(DamagedError, match=r"results.jsonl in .* has "):
        export(tmp_path / "run", tmp_path / name)
    assert (tmp_path / name).read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"run", name}


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without arro3 is shown what to install, and nothing is written."""
    write_complete_run(tmp_path / "run", 10, 5)
    monkeypatch.setitem(sys.modules, "arro3.io", None)
    monkeypatch.delitem(sys.modules, "classify_batch.operations.export.arrow_files", raising=False)
    monkeypatch.delattr("classify_batch.operations.export.arrow_files", raising=False)
    with pytest.raises(UsageError) as caught:
        export(tmp_path / "run", tmp_path / "out.parquet")
    assert "classify-batch[parquet]" in caught.value.hint
    assert not (tmp_path / "out.parquet").exists()


# --- Partitions -------------------------------------------------------------------------------------------------------


def test_a_partition_is_replaced_by_a_repetition(tmp_path: Path) -> None:
    """One file a run, in the directory of the partition; another run adds its own, and so does a selection."""
    write_complete_run(tmp_path / "run", 10, 5)
    for _ in range(2):
        done = command("export", "run", "table", "--partition", "dt=2026-11-22", "--json", folder=tmp_path, status=0)
        assert json.loads(done.stdout)["target"] == "table/dt=2026-11-22/r.parquet"
    export(tmp_path / "run", tmp_path / "table", partition=["dt=2026-11-22"], only="classified")
    export(tmp_path / "run", tmp_path / "table", partition=["dt=2026-11-23", "region=eu"])
    assert sorted(path.relative_to(tmp_path / "table").as_posix() for path in tmp_path.glob("table/**/*.*")) == [
        "dt=2026-11-22/r.classified.parquet",
        "dt=2026-11-22/r.parquet",
        "dt=2026-11-23/region=eu/r.parquet",
    ]
    assert read_table(tmp_path / "table/dt=2026-11-22/r.parquet").num_rows == 10


@pytest.mark.parametrize(
    ("target", "partitions", "words"),
    [
        ("table", ["dt"], "'dt' can't be a partition"),
        ("table", ["dt="], "'dt=' can't be a partition"),
        ("table", ["d/t=1"], "'d/t=1' can't be a partition"),
        ("table", ["dt=../x"], "'dt=../x' can't be a partition"),
        ("table", ["dt=a b"], "'dt=a b' can't be a partition"),
        ("table", ["dt=1", "dt=2"], "the partition key 'dt' is given twice"),
        ("table", ["Type=1"], "the partition key 'Type' is a column of the table"),
        ("absent/table", ["dt=1"], "there is no directory absent"),
        ("file", ["dt=1"], "file/dt=1: Not a directory"),
        ("-", ["dt=1"], "a partition is a directory, and - is stdout"),
    ],
)
def test_a_bad_partition_is_refused(tmp_path: Path, target: str, partitions: list[str], words: str) -> None:
    """Each is one message with a hint, and nothing is written."""
    write_complete_run(tmp_path / "run", 10, 5)
    (tmp_path / "file").touch()
    options = [word for each in partitions for word in ("--partition", each)]
    done = command("export", "run", target, *options, folder=tmp_path, status=2)
    assert done.stderr.startswith(f"error: {words}")
    assert "\nhint: " in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"run", "file"}
