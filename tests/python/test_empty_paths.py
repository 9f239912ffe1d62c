"""The empty string is no path: an unset variable of a program must not mean the working directory."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import classify_batch
from classify_batch import ExitStatus, Settings, UsageError, run, stream, upload
from classify_batch.errors import SettingsError, SourceError
from classify_batch.inputs.open import SeveralSources
from classify_batch.operations.tune import tune
from classify_batch.settings.limit_changes import Tuning
from tests.support.sandbox_settings import IDS, sandbox_settings

EMPTY = r"it is empty \(is a variable not set\?\)"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds a document, which nobody asked to upload."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "private.txt").write_text("an invoice number and a total")
    monkeypatch.chdir(folder)
    return folder


def assert_untouched(folder: Path) -> None:
    assert [each.name for each in folder.iterdir()] == ["private.txt"]


def call_to_its_end(function: Callable[..., Any], *arguments: Any) -> None:
    returned = function(*arguments)
    if inspect.iscoroutine(returned):
        asyncio.run(returned)


async def read_stream(*arguments: Any) -> None:
    async with stream(*arguments) as outcomes:
        async for _ in outcomes:
            pass


@pytest.mark.parametrize("name", ["run", "arun", "plan", "aplan", "check", "acheck", "stream"])
@pytest.mark.parametrize("source", ["", SeveralSources(("", "private.txt"))])
def test_an_empty_input_uploads_nothing(folder: Path, tmp_path: Path, name: str, source: Any) -> None:
    """The working directory is no input that somebody asked for: nothing of it is uploaded, and no run is made."""
    function = read_stream if name == "stream" else getattr(classify_batch, name)
    with pytest.raises(SourceError, match=f"the input: {EMPTY}") as caught:
        call_to_its_end(function, sandbox_settings(), source, tmp_path / "run")
    assert caught.value.exit_status is ExitStatus.USAGE
    assert caught.value.hint
    assert_untouched(folder)
    assert not (tmp_path / "run").exists()


def test_an_empty_input_of_a_run_with_shards_makes_no_run(folder: Path, tmp_path: Path) -> None:
    """A run that is divided refuses it as well, before anything is written."""
    with pytest.raises(SourceError, match=EMPTY):
        run(sandbox_settings(), "", tmp_path / "run", shards=2)
    assert_untouched(folder)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda empty: run(sandbox_settings(), IDS, empty),
        lambda empty: asyncio.run(read_stream(sandbox_settings(), IDS, empty)),
        lambda empty: classify_batch.plan(sandbox_settings(), IDS, empty),
        lambda empty: classify_batch.check(sandbox_settings(), IDS, empty),
        classify_batch.resume,
        classify_batch.cancel,
        classify_batch.open_run,
        classify_batch.verify,
        classify_batch.report,
        lambda empty: classify_batch.report([empty, "other"]),
        lambda empty: classify_batch.export(empty, "out.csv"),
        lambda empty: classify_batch.diff(empty, "other"),
        lambda empty: classify_batch.merge([empty, "other"], "all"),
        lambda empty: classify_batch.merge(["one", "other"], empty),
        lambda empty: asyncio.run(tune(empty, Tuning(jobs_in_flight=2))),
        lambda empty: run(sandbox_settings(), IDS, "run", reuse=[empty]),
        lambda empty: run(sandbox_settings(), IDS, "run", reuse=empty),
    ],
)
@pytest.mark.parametrize("holds_run", [False, True])
def test_an_empty_run_directory_is_refused(folder: Path, call: Callable[[Any], Any], holds_run: bool) -> None:
    """Whatever takes a run directory refuses it, also where the working directory holds a run."""
    if holds_run:
        run(sandbox_settings(), IDS, ".")
    before = sorted(folder.iterdir())
    with pytest.raises(UsageError, match=EMPTY) as caught:
        call("")
    assert caught.value.hint
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("paths", ["", [""], ["private.txt", ""]])
def test_an_empty_path_uploads_nothing(folder: Path, paths: Any) -> None:
    """Not even the paths beside it are sent."""
    with pytest.raises(UsageError, match=EMPTY):
        upload(sandbox_settings(), paths, recursive=True)
    assert_untouched(folder)


def test_an_empty_target_is_refused(folder: Path, tmp_path: Path) -> None:
    """Neither an export nor a partition nor a report is written into the working directory."""
    run(sandbox_settings(), IDS, tmp_path / "run")
    calls: list[Callable[[], object]] = [
        lambda: classify_batch.export(tmp_path / "run", ""),
        lambda: classify_batch.export(tmp_path / "run", "", partition=["dt=2026-11-28"]),
        lambda: classify_batch.report(tmp_path / "run", ""),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=f"the target: {EMPTY}"):
            call()
    assert_untouched(folder)


def test_an_empty_path_in_settings_is_refused(folder: Path) -> None:
    """Neither a config nor a folder of documents to practise with is the working directory."""
    with pytest.raises(SettingsError, match=f"the config: {EMPTY}"):
        Settings.load("")
    with pytest.raises(SettingsError, match=f"sandbox.documents: {EMPTY}"):
        sandbox_settings(sandbox={"documents": ""})
    assert_untouched(folder)


def test_a_dot_and_a_blank_are_paths(folder: Path) -> None:
    """Only the empty string is refused: the working directory can be named, and a folder may be called by a blank."""
    assert run(sandbox_settings(), ".", " ").manifest["files"] == 1
    assert (folder / " " / "run.json").exists()
