"""Each command as a function: what it returns, what it refuses, and its twin for running event loops."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

import classify_batch
from classify_batch import (
    ExitStatus,
    NotUploaded,
    Uploaded,
    UsageError,
    acheck,
    aexport,
    averify,
    check,
    diff,
    export,
    open_run,
    plan,
    resume,
    run,
    upload,
    verify,
)
from classify_batch.operations.diff.changes import Change
from tests.support.command_line import KEY, sandbox
from tests.support.sandbox_settings import IDS, sandbox_settings

TWINS = [name for name in classify_batch.__all__ if f"a{name}" in classify_batch.__all__]


def test_every_function_has_a_twin_for_running_loops() -> None:
    """All that waits has a twin with the same parameters."""
    assert set(TWINS) == {
        *("plan", "run", "resume", "check", "verify", "upload", "export", "report", "diff", "merge", "cancel"),
    }
    for name in TWINS:
        function, twin = getattr(classify_batch, name), getattr(classify_batch, f"a{name}")
        assert inspect.iscoroutinefunction(twin)
        assert inspect.signature(function).parameters == inspect.signature(twin).parameters, name


def arguments_of(name: str, folder: Path) -> tuple[Any, ...]:
    """What the public function of this name can be called with."""
    arguments: dict[str, tuple[Any, ...]] = {
        **dict.fromkeys(("plan", "run"), (sandbox_settings(), IDS, folder / "run")),
        "check": (sandbox_settings(), IDS),
        "upload": (sandbox_settings(), [folder]),
        "export": (folder, folder / "out.csv"),
        "diff": (folder, folder),
        "merge": ([folder], folder / "all"),
    }
    return arguments.get(name, (folder,))


@pytest.mark.parametrize("name", TWINS)
def test_a_running_loop_is_refused_in_words_that_name_the_twin(tmp_path: Path, name: str) -> None:
    """Whoever calls the wrong one in a notebook is shown the right one."""

    async def call() -> None:
        getattr(classify_batch, name)(*arguments_of(name, tmp_path))

    with pytest.raises(UsageError, match="running event loop") as caught:
        asyncio.run(call())
    assert f"await a{name}(" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("twin", ["", "a"])
def test_trio_is_refused_in_words(tmp_path: Path, name: str, twin: str) -> None:
    """Either twin of a function runs on asyncio only, and says how a program of trio calls it."""
    trio = pytest.importorskip("trio")

    async def call() -> None:
        called = getattr(classify_batch, f"{twin}{name}")(*arguments_of(name, tmp_path))
        if twin:
            await called

    with pytest.raises(UsageError, match=f"^{twin}{name}.* loop of ") as caught:
        trio.run(call)
    assert f"trio.to_thread.run_sync(classify_batch.{name}, " in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_thread_of_trio_runs_a_run(tmp_path: Path) -> None:
    """What the hint says works."""
    trio = pytest.importorskip("trio")
    result = trio.run(trio.to_thread.run_sync, run, sandbox_settings(), IDS, tmp_path / "run")
    assert result.state == "complete"


@pytest.mark.parametrize("to_thread", [asyncio.to_thread, anyio.to_thread.run_sync])
@pytest.mark.parametrize("run_loop", [asyncio.run, lambda call: anyio.run(lambda: call)])
def test_a_thread_of_a_loop_runs_a_run(
    tmp_path: Path, run_loop: Callable[[Any], Any], to_thread: Callable[..., Any]
) -> None:
    """Whoever runs the loop, and whether the thread has a copy of its context; the context is kept."""
    variable = ContextVar("variable", default="")
    seen: list[str] = []

    async def call() -> Any:
        variable.set("kept")
        return await to_thread(
            partial(run, sandbox_settings(), IDS, tmp_path / "run", on_progress=lambda _: seen.append(variable.get()))
        )

    assert run_loop(call()).state == "complete"
    assert set(seen) == {"kept"}


def test_a_plan_is_carried_out_by_resume(tmp_path: Path) -> None:
    """`plan` sends nothing, says what the run costs at most, and `resume` ends it."""
    planned = plan(sandbox_settings(), [*IDS, IDS[0]], tmp_path / "run")
    assert (planned.files, planned.duplicates, planned.reused, planned.chunks) == (25, 1, 0, 3)
    assert planned.credits_max == 25 * 5
    assert open_run(planned.run_dir).counts == {"classified": 0, "unmatched": 0, "failed": 0}
    assert not (tmp_path / "run" / "journal.jsonl").exists()
    assert resume(planned.run_dir).manifest["run_id"] == planned.run_id


def test_a_check_returns_what_it_finds(tmp_path: Path) -> None:
    """A bad line of the input is a finding with an exit status, and no exception; nothing is created."""
    assert check(sandbox_settings(), IDS).exit_status is ExitStatus.COMPLETE
    (tmp_path / "ids.txt").write_text("a\nb c\n")
    found = check(sandbox_settings(), tmp_path / "ids.txt")
    assert found.exit_status is ExitStatus.USAGE
    assert any("line 2" in example for each in found.findings for example in each.examples)
    assert asyncio.run(acheck(sandbox_settings(), IDS)).files == 25


def test_verify_names_what_is_damaged(tmp_path: Path) -> None:
    """A sound run has no errors; a changed byte is one, with its file."""
    run(sandbox_settings(), IDS, tmp_path / "run")
    sound = asyncio.run(averify(tmp_path / "run"))
    assert (sound.complete, sound.errors) == (True, [])
    results = tmp_path / "run" / "results.jsonl"
    results.write_bytes(results.read_bytes().replace(b"invoice", b"receipt", 1))
    assert any("results.jsonl" in error for error in verify(tmp_path / "run").errors)


def test_export_and_diff(tmp_path: Path) -> None:
    """What is exported is counted; what changed between two runs is, too, and its lines can be had."""
    run(sandbox_settings(), IDS, tmp_path / "one")
    run(sandbox_settings(), IDS[:20], tmp_path / "two")
    assert export(tmp_path / "one", tmp_path / "all.jsonl").files == 25
    assert asyncio.run(aexport(tmp_path / "one", tmp_path / "some.csv", only="failed")).files == 0
    lines: list[bytes] = []
    changed = diff(tmp_path / "one", tmp_path / "two", only="gone", sink=lines.append)
    assert changed.counts[Change.GONE] == 5
    assert sorted(json.loads(line)["file_id"] for line in b"".join(lines).splitlines()) == sorted(IDS[20:])
    with pytest.raises(UsageError, match="'lost'"):
        diff(tmp_path / "one", tmp_path / "two", only="lost")
    with pytest.raises(UsageError, match="min_confidence_change"):
        diff(tmp_path / "one", tmp_path / "two", min_confidence_change=float("nan"))


def test_uploads_are_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file's end: sent, there already, or why not; the file IDs are the input of a run."""
    (tmp_path / "inbox").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "inbox" / name).write_text(f"an invoice number and a total: {name}")
    (tmp_path / "inbox" / "gone.txt").symlink_to(tmp_path / "nowhere")
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", KEY)
    with sandbox("--ledger", str(tmp_path / "ledger")) as base_url:
        settings = sandbox_settings(api={"base_url": base_url})
        ends = upload(settings, [tmp_path / "inbox"], recursive=True)
        again = upload(settings, [tmp_path / "inbox" / "a.txt"])
        sent = [each for each in ends if isinstance(each, Uploaded)]
        assert sorted(each.path.name for each in sent) == ["a.txt", "b.txt"]
        assert [each.path.name for each in ends if isinstance(each, NotUploaded)] == ["gone.txt"]
        assert [each.sent for each in again if isinstance(each, Uploaded)] == [False]
        result = run(settings, [each.stored.id for each in sent], tmp_path / "run")
    assert result.counts["failed"] == 0
    with pytest.raises(UsageError, match="concurrency=0"):
        upload(settings, [tmp_path], concurrency=0)
