"""Exported tables as pyarrow, polars and DuckDB read them, and tables that they write as inputs.

They live in an environment of their own, since together they take half a gigabyte.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from classify_batch import export, open_run, run
from tests.support.sandbox_settings import IDS, sandbox_settings
from tests.support.vendor_sdk import python_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]

READERS = {
    "pyarrow": """
import pyarrow.dataset, pyarrow.feather, pyarrow.parquet
tables = [pyarrow.parquet.read_table("out.parquet"), pyarrow.feather.read_table("out.arrow"),
          pyarrow.dataset.dataset("table", partitioning="hive").to_table()]
rows = [table.to_pylist() for table in tables]
assert str(tables[0].schema.field("type").type).startswith("dictionary"), tables[0].schema
assert str(tables[0].schema.field("classified_at").type) == "timestamp[ms, tz=UTC]"
""",
    "polars": """
import polars
frames = [polars.read_parquet("out.parquet"), polars.read_ipc("out.arrow"),
          polars.read_parquet("table", hive_partitioning=True)]
rows = [frame.to_dicts() for frame in frames]
assert frames[0]["confidence"].dtype == polars.Float64
""",
    "duckdb": """
import duckdb
def read(query):
    found = duckdb.sql(query)
    return [dict(zip(found.columns, row)) for row in found.fetchall()]
rows = [read("select * exclude (classified_at, failed_at) from 'out.parquet'"),
        read("select * exclude (classified_at, failed_at) "
             "from read_parquet('table/**/*.parquet', hive_partitioning=true)")]
kinds = duckdb.sql("select distinct typeof(classified_at) from 'out.parquet'").fetchall()
assert kinds == [("TIMESTAMP WITH TIME ZONE",)], kinds
""",
}
SHOW = """
import json
keys = ("file_id", "type", "confidence")
print(json.dumps([[[str(row.get("dt")), *(row[key] for key in keys)] for row in table] for table in rows]))
"""
WRITERS = """
import json, sys
import duckdb, polars, pyarrow, pyarrow.feather, pyarrow.parquet
ids = json.loads(sys.argv[1])
pyarrow.parquet.write_table(pyarrow.table({"file_id": ids}), "pyarrow.parquet", compression="snappy")
pyarrow.feather.write_feather(pyarrow.table({"file_id": pyarrow.array(ids).dictionary_encode()}), "pyarrow.arrow")
polars.DataFrame({"file_id": ids}).write_parquet("polars.parquet")
polars.DataFrame({"file_id": ids}).write_ipc("polars.arrow", compression="zstd")
duckdb.sql("copy (select unnest(?) as file_id) to 'duckdb.parquet'", params=[ids])
print("null")
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter that has the three libraries."""
    return python_of(".venv-readers", "pyarrow polars duckdb pytz")


def printed_in(python: Path, folder: Path, text: str, *arguments: str) -> Any:
    command = [str(python), "-c", text, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("library", READERS)
def test_others_read_what_is_exported(tmp_path: Path, python: Path, library: str) -> None:
    """Every outcome with its type and confidence, from either file and from the directory of partitions."""
    result = run(sandbox_settings(), IDS, tmp_path / "run")
    for name in ("out.parquet", "out.arrow"):
        export(result.run_dir, tmp_path / name)
    export(result.run_dir, tmp_path / "table", partition=["dt=2026-11-22"])
    tables = printed_in(python, tmp_path, READERS[library] + SHOW)
    expected = [[each.file_id, each.type, each.confidence] for each in open_run(result.run_dir).outcomes()]
    for table in tables:
        assert [row[1:] for row in table] == expected
    assert {row[0] for row in tables[-1]} == {"2026-11-22"}


def test_what_others_write_is_an_input(tmp_path: Path, python: Path) -> None:
    """Parquet of all three, and the Arrow files of pyarrow and polars, with their own ways to hold text."""
    printed_in(python, tmp_path, WRITERS, json.dumps(IDS))
    for path in sorted([*tmp_path.glob("*.parquet"), *tmp_path.glob("*.arrow")]):
        result = run(sandbox_settings(), path, tmp_path / f"run-{path.name}")
        assert sorted(each.file_id for each in result.outcomes()) == sorted(IDS), path
