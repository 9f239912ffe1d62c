"""The manual's recipes for databases, run as they stand in the page: idempotent by file ID."""

from __future__ import annotations

import csv
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest

from tests.house.test_recipes import blocks, environment, section
from tests.support.postgres_server import serving_postgres

pytestmark = pytest.mark.slow


def run_block(language: str, block: str, folder: Path, server: Mapping[str, str] = {}) -> str:
    """Runs a block of shell or Python to its end; returns what it says on stdout."""
    command = ["sh", "-eu", "-c", block] if language == "sh" else [sys.executable, "-W", "error", "-c", block]
    values = {**environment(), **server}
    done = subprocess.run(command, cwd=folder, env=values, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the run is that all of them use."""
    ((language, block),) = blocks(section("Databases").partition("\n### ")[0])
    run_block(language, block, tmp_path)
    return tmp_path


def outcomes_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text)))


def test_postgres(folder: Path) -> None:
    """IDs out of a table, outcomes into a table; the same again, and other outcomes of the same files."""
    tables, run, copy = blocks(section("PostgreSQL"))
    ask = "psql --csv --command 'select * from outcomes order by file_id'"
    with serving_postgres() as server:
        for block in (tables, run, copy):
            run_block(*block, folder, server)
        first = outcomes_of(run_block("sh", ask, folder, server))
        assert {each["file_id"] for each in first} == {f"file-{number}" for number in range(1, 61)}
        exported = outcomes_of((folder / "outcomes.csv").read_text())
        assert {each["name"] for each in exported} == {f"{number}.pdf" for number in range(1, 61)}
        assert sum(each["reused_from"] != "" for each in exported) == 40
        assert {each["file_id"]: (each["type"], float(each["confidence"])) for each in first} == {
            each["file_id"]: (each["type"], float(each["confidence"])) for each in exported
        }
        run_block(*copy, folder, server)
        assert outcomes_of(run_block("sh", ask, folder, server)) == first
        changed = "update outcomes set outcome = $$failed$$, type = null, code = $$overdue$$ where file_id < $$file-3$$"
        run_block("sh", f"psql --command '{changed}'", folder, server)
        run_block(*copy, folder, server)
        assert outcomes_of(run_block("sh", ask, folder, server)) == first


def test_duckdb(folder: Path) -> None:
    """The outcomes of a Parquet file, however often they are written."""
    duckdb = pytest.importorskip("duckdb")
    export, write = blocks(section("DuckDB"))
    run_block(*export, folder)
    for _ in range(2):
        assert "count" in run_block(*write, folder)
    with duckdb.connect(str(folder / "outcomes.duckdb")) as database:
        assert database.execute("select count(*), count(distinct file_id) from outcomes").fetchall() == [(40, 40)]


def test_sqlite(folder: Path) -> None:
    """The outcomes of a run, however often they are written."""
    (write,) = blocks(section("SQLite"))
    for _ in range(2):
        run_block(*write, folder)
    with closing(sqlite3.connect(folder / "outcomes.db")) as database:
        assert database.execute("select count(*), count(distinct file_id) from outcomes").fetchone() == (40, 40)
