"""A program that changes its working directory while a run is on: what it named by relative paths is still meant."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classify_batch import Progress, RunResult, Settings, arun, export, open_run, plan, resume, run, stream

RULES = [{"type": "invoice", "description": "has an invoice number and a total"}]
IDS = [f"file-{number}" for number in range(25)]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the program goes; it begins in another folder, which has its input and its documents."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, here / "inbox", there):
        folder.mkdir()
    (here / "ids.txt").write_text("\n".join(IDS))
    for number in range(5):
        (here / "inbox" / f"{number}.txt").write_text(f"Invoice number {number}, total 12.00")
    monkeypatch.chdir(here)
    return there


def going(there: Path) -> Callable[[Progress], None]:
    """An `on_progress` that changes the working directory."""
    return lambda _progress: os.chdir(there)


def settings_with(**values: Any) -> Settings:
    limits = {"requests_per_s": 500.0, "settle_s": 0.1}
    common = {"api": {"base_url": "sandbox"}, "job": {"rules": RULES}, "plan": {"files_per_job": 10}, "limits": limits}
    return Settings(**{**common, **values})


def refuse_bad(result: RunResult, files: int, there: Path) -> None:
    """What was written is where the directory was when it was named, and can be read from wherever the program is."""
    assert Path.cwd() == there
    assert (result.state, sum(result.counts.values())) == ("complete", files)
    assert len(list(result.outcomes())) == files
    assert result.run_dir == there.parent / "here" / "run"
    assert str(result.run_dir) in result.manifest.get("next", "")
    assert list(there.iterdir()) == []


@pytest.mark.parametrize("shards", [None, 2])
@pytest.mark.parametrize(("source", "files"), [("ids.txt", 25), ("inbox", 5), (IDS, 25)])
def test_a_run_goes_on_where_it_was(elsewhere: Path, source: str | list[str], files: int, shards: int | None) -> None:
    """Whatever the input is, and however many shards are carried out one after the other."""
    result = run(settings_with(), source, "run", on_progress=going(elsewhere), shards=shards)
    refuse_bad(result, files, elsewhere)


def test_a_resumed_run_goes_on_where_it_was(elsewhere: Path) -> None:
    """`resume`, with documents of the embedded sandbox that were named by a relative path, too."""
    plan(settings_with(sandbox={"documents": "inbox"}), "ids.txt", "run")
    refuse_bad(resume("run", on_progress=going(elsewhere)), 25, elsewhere)


def test_a_stream_goes_on_where_it_was(elsewhere: Path) -> None:
    """The loop that reads the outcomes is elsewhere from the first one on."""

    async def read() -> RunResult:
        async with stream(settings_with(), "ids.txt", "run") as outcomes:
            async for _ in outcomes:
                os.chdir(elsewhere)
        return outcomes.result

    refuse_bad(asyncio.run(read()), 25, elsewhere)


def test_another_task_may_go_elsewhere(elsewhere: Path) -> None:
    """Before the run has even read its input."""

    async def go_at_once() -> RunResult:
        running = asyncio.create_task(arun(settings_with(), "ids.txt", "run"))
        await asyncio.sleep(0)
        os.chdir(elsewhere)
        return await running

    refuse_bad(asyncio.run(go_at_once()), 25, elsewhere)


def test_an_opened_run_is_read_from_elsewhere(elsewhere: Path) -> None:
    """A handle knows its directory from the root."""
    run(settings_with(), "ids.txt", "run")
    opened = open_run("run")
    os.chdir(elsewhere)
    assert len(list(opened.outcomes())) == 25
    assert opened.state == "complete"
    with pytest.raises(Exception, match="holds no run"):
        export("run", "outcomes.jsonl")
