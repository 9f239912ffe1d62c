"""`stream(…).tables()`: outcomes as Arrow tables while the run is on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arro3.core import Table

from classify_batch import OutcomeStream, Settings, UsageError, open_run, stream
from tests.support.command_line import KEY, asked, sandbox
from tests.support.sandbox_settings import sandbox_settings

ROWS = [{"file_id": f"file-{number}", "size": number} for number in range(60)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A sandbox on a socket, whose jobs take 20 ms."""
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", KEY)
    with sandbox() as base_url:
        yield base_url


def small_jobs(base_url: str) -> Settings:
    """A file a job, two of them in flight, and a carried column."""
    return sandbox_settings(
        api={"base_url": base_url},
        plan={"files_per_job": 1, "carry": ["size"]},
        limits={"requests_per_s": 500.0, "jobs_in_flight": 2, "settle_s": 1.0},
    )


async def read(outcomes: OutcomeStream, **options: Any) -> list[Table]:
    async with outcomes:
        return [table async for table in outcomes.tables(**options)]


def test_tables_come_while_the_run_is_on(tmp_path: Path, server: str) -> None:
    """The first is there before the last job exists; together they are the run, each with all of its columns."""

    async def main() -> tuple[list[Table], int]:
        tables = []
        async with stream(small_jobs(server), ROWS, tmp_path / "run", ahead=5) as outcomes:
            async for table in outcomes.tables(rows=7):
                tables.append(table)
                if len(tables) == 1:
                    created = asked(server)["creates_accepted"]
        return tables, created

    tables, created = asyncio.run(main())
    assert created < len(ROWS)
    whole = open_run(tmp_path / "run").to_arrow()
    assert [table.num_rows for table in tables] == [7] * 8 + [4]
    assert {str(table.schema) for table in tables} == {str(whole.schema)}
    read_ids = [each for table in tables for each in table.column("file_id").to_pylist()]
    assert sorted(read_ids) == sorted(str(row["file_id"]) for row in ROWS)
    sizes = [each for table in tables for each in table.column("size").to_pylist()]
    assert sorted(sizes) == sorted(str(row["size"]) for row in ROWS)


def test_an_outcome_waits_only_so_long_for_others(tmp_path: Path, server: str) -> None:
    """A slow run gives small tables, and loses nothing by not having waited."""
    tables = asyncio.run(read(stream(small_jobs(server), ROWS, tmp_path / "run"), rows=1000, within_s=0.05))
    assert len(tables) > 2
    assert sum(table.num_rows for table in tables) == len(ROWS)


def test_what_cannot_be_is_said_in_words(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are no number of rows, no extra, and an input that isn't there."""
    settings = small_jobs(server)
    with pytest.raises(UsageError, match="rows=0"):
        asyncio.run(read(stream(settings, ROWS, tmp_path / "a"), rows=0))
    with pytest.raises(UsageError, match="can't be read"):
        asyncio.run(read(stream(settings, "absent.txt", tmp_path / "b")))
    monkeypatch.delitem(sys.modules, "classify_batch.operations.arrow_table", raising=False)
    monkeypatch.setitem(sys.modules, "arro3.core", None)
    with pytest.raises(UsageError, match="tables need arro3"):
        asyncio.run(read(stream(settings, ROWS, tmp_path / "c")))
