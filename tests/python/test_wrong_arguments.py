"""Arguments of the wrong type are refused in words, before anything is written or sent."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import classify_batch
from classify_batch import (
    RayExecutor,
    SharedLimits,
    UsageError,
    cancel,
    check,
    diff,
    merge,
    open_run,
    plan,
    run,
    stream,
    upload,
)
from classify_batch.errors import SourceError
from tests.support.sandbox_settings import IDS, sandbox_settings


async def coroutine() -> list[str]:
    return IDS


class Observing:
    async def observe(self, event: object) -> None: ...


NAN = float("nan")
WRONG: list[tuple[str, Any, str]] = [
    ("max_runtime_s", "4h", "seconds"),
    ("max_runtime_s", timedelta(hours=4), "total_seconds"),
    ("max_runtime_s", NAN, "seconds"),
    ("max_runtime_s", True, "seconds"),
    ("max_runtime_s", 10**400, "seconds"),
    ("retry_failed", "false", "True or False"),
    ("submit_only", "no", "True or False"),
    ("trust_run_dir", "0", "True or False"),
    ("until_s", "06:00", "epoch"),
    ("until_s", datetime(2026, 11, 28, tzinfo=UTC), "timestamp"),
    ("until_s", NAN, "epoch"),
    ("on_progress", "x", "function"),
    ("observer", "x", "function"),
    ("observer", Observing(), r"observers=\["),
    ("observers", None, "list"),
    ("observers", print, "observer="),
    ("observers", [print], "observer="),
    ("observers", [Observing], "observe"),
    ("observers", "x", "list"),
    ("reuse", None, "leave it out"),
    ("reuse", b"runs", "list"),
    ("reuse", 3, "list"),
    ("reuse", [None], "path"),
    ("shards", "2", "shards"),
    ("shards", 2.5, "shards"),
    ("delimiter", 3, "quotes"),
    ("column", 3, "quotes"),
    ("shared_limits", 5, "SharedLimits"),
    ("shared_limits", SharedLimits, "SharedLimits"),
    ("executor", 5, "RayExecutor"),
    ("executor", RayExecutor, "RayExecutor"),
]


@pytest.mark.parametrize(
    ("name", "argument", "value", "hint"),
    [
        (name, *wrong)
        for name in ("run", "stream", "plan")
        for wrong in WRONG
        if wrong[0] in inspect.signature(getattr(classify_batch, name)).parameters
    ],
)
def test_a_wrong_argument_is_named_with_what_is_meant(
    tmp_path: Path, name: str, argument: str, value: Any, hint: str
) -> None:
    """The error names the argument, the hint what it takes, and nothing is made."""
    with pytest.raises(UsageError, match=argument) as caught:
        getattr(classify_batch, name)(sandbox_settings(), IDS, tmp_path / "run", **{argument: value})
    assert caught.value.exit_status == 2
    assert hint.replace("\\", "") in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [None, b"run", "a\0b", 3, Path])
def test_what_is_no_run_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    """Whatever opens a run takes a path, and names what it was given."""
    monkeypatch.chdir(tmp_path)
    calls: list[Callable[[Any], Any]] = [
        lambda run_dir: run(sandbox_settings(), IDS, run_dir),
        classify_batch.resume,
        classify_batch.verify,
        cancel,
        open_run,
        lambda run_dir: merge(["a", "b"], run_dir),
        lambda run_dir: merge([run_dir, "b"], "all"),
        lambda run_dir: classify_batch.report([run_dir]),
        lambda run_dir: classify_batch.diff(run_dir, "b"),
        lambda run_dir: classify_batch.export(run_dir, "out.csv"),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="the run directory") as caught:
            call(value)
        assert caught.value.hint


@pytest.mark.parametrize(
    "call",
    [
        lambda path: run(sandbox_settings(), IDS, path),
        lambda path: run(sandbox_settings(), path, "run"),
        lambda path: check(sandbox_settings(), IDS, run_dir=path),
        lambda path: plan(sandbox_settings(), IDS, "run", reuse=path),
        lambda path: classify_batch.export(path, "out.csv"),
        classify_batch.report,
        lambda path: diff("before", path),
        lambda path: merge([path], "all"),
        lambda path: upload(sandbox_settings(), [path]),
        open_run,
    ],
)
def test_half_a_character_is_in_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], Any]
) -> None:
    """A text that JSON gives may have a lone surrogate; no file system takes it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="half a character") as caught:
        call("runs/\ud800")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_the_locale_does_not_have_is_named(tmp_path: Path) -> None:
    """Where paths are ASCII, an umlaut is no half of a character: the hint says what to set."""
    script = r"import classify_batch as c; c.export('gr\xf6\xdfe', 'out.csv')"
    environ = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert r"UsageError: the run directory: 'gr\xf6\xdfe' has characters that paths can't have here" in done.stderr
    assert "half" not in done.stderr


def test_a_path_may_have_bytes_that_are_no_text(tmp_path: Path) -> None:
    """As `os.fsdecode` gives it: with other halves of characters."""
    assert run(sandbox_settings(), IDS, tmp_path / "\udcff").state == "complete"


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: UUID(int=1), "list"),
        (lambda: 3, "list"),
        (object, "list"),
        (lambda: coroutine, "call it"),
        (lambda: list, "call it"),
        (coroutine, "await it"),
    ],
)
@pytest.mark.parametrize("name", ["run", "plan", "check"])
def test_what_gives_no_file_ids_is_refused(tmp_path: Path, name: str, make: Callable[[], Any], hint: str) -> None:
    """One ID, a function that was not called, a coroutine that was not awaited: the hint says so. A run that is there
    doesn't go on with it either."""
    for _ in range(2):
        value = make()
        with pytest.raises(SourceError, match="gives no file IDs") as caught:
            getattr(classify_batch, name)(sandbox_settings(), value, tmp_path / "run")
        assert hint in caught.value.hint
        if value.__class__.__name__ == "coroutine":
            value.close()
        plan(sandbox_settings(), IDS, tmp_path / "run")


def test_a_check_without_an_input_is_refused() -> None:
    """`run` goes on with a run where it is given none; a check has nothing to read."""
    with pytest.raises(SourceError, match="the input is None"):
        check(sandbox_settings(), None)  # type: ignore[arg-type]


def test_an_array_of_no_dimension_is_no_list(tmp_path: Path) -> None:
    """It says that it can be iterated over, and can't."""
    array = pytest.importorskip("numpy").array("runs")
    run_anything: Any = run
    for name in ("reuse", "observers"):
        with pytest.raises(UsageError, match=f"{name}=array.* is no list"):
            run_anything(sandbox_settings(), IDS, tmp_path / "run", **{name: array})
    assert not (tmp_path / "run").exists()


def test_every_iterable_is_an_input(tmp_path: Path) -> None:
    """What is iterated over by its items' numbers, as old sequences are, is as good as any other."""
    np = pytest.importorskip("numpy")

    class Numbered:
        def __getitem__(self, index: int) -> str:
            return IDS[index]

    class Counted:
        def __iter__(self) -> Iterator[str]:
            return iter(IDS)

    for number, source in enumerate((Numbered(), Counted(), np.array(IDS), dict.fromkeys(IDS).keys())):
        source_of_any_kind: Any = source
        assert plan(sandbox_settings(), source_of_any_kind, tmp_path / f"{number}").files == len(IDS)


def test_numbers_of_any_kind_are_numbers(tmp_path: Path) -> None:
    """NumPy's are, and so is infinity: no deadline."""
    np = pytest.importorskip("numpy")
    result = run(
        sandbox_settings(),
        IDS,
        tmp_path / "run",
        max_runtime_s=float("inf"),
        until_s=np.float32(4e9),
        shards=np.int64(2),
    )
    assert result.state == "complete"


def test_cancel_refuses_what_resume_refuses(tmp_path: Path) -> None:
    """Also of a run that nobody would have to be asked for."""
    plan(sandbox_settings(), IDS, tmp_path / "run")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"settings": "p.toml"}, "must be Settings"),
        ({"on_progress": "x"}, "on_progress"),
        ({"observers": None}, "observers"),
        ({"observers": [print]}, "observers"),
    ]
    for arguments, words in wrong:
        with pytest.raises(UsageError, match=words) as caught:
            cancel(tmp_path / "run", **arguments)
        assert caught.value.hint
    assert not (tmp_path / "run" / "journal.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("concurrency='4' is", lambda settings, paths: upload(settings, paths, concurrency="4")),  # type: ignore[arg-type]
        ("concurrency=2.5 is", lambda settings, paths: upload(settings, paths, concurrency=2.5)),  # type: ignore[arg-type]
        ("to upload is None", lambda settings, _: upload(settings, [None])),  # type: ignore[list-item]
        ("recursive='false' is", lambda settings, paths: upload(settings, paths, recursive="false")),  # type: ignore[arg-type]
        ("examples='no' is", lambda _, __: classify_batch.report("a", examples="no")),  # type: ignore[call-overload]
        ("paths=None is", lambda settings, _: upload(settings, None)),  # type: ignore[arg-type]
        ("ahead='5' is", lambda settings, _: stream(settings, IDS, ahead="5")),  # type: ignore[arg-type]
        ("ahead=nan is", lambda settings, _: stream(settings, IDS, ahead=NAN)),  # type: ignore[arg-type]
        ("on_progress='x'", lambda settings, _: check(settings, IDS, on_progress="x")),  # type: ignore[arg-type]
        ("requests_per_s='5'", lambda _, __: SharedLimits(requests_per_s="5")),  # type: ignore[arg-type]
        ("change=1000", lambda _, __: diff("a", "b", min_confidence_change=10**400)),
        ("change='x' is", lambda _, __: diff("a", "b", min_confidence_change="x")),  # type: ignore[arg-type]
        ("sink='x' can't be called", lambda _, __: diff("a", "b", sink="x")),  # type: ignore[arg-type]
        ("run_dirs=None is", lambda _, __: classify_batch.report(None)),  # type: ignore[call-overload]
        ("directory is None", lambda _, __: merge(None, "all")),  # type: ignore[arg-type]
    ],
)
def test_other_arguments_are_refused_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, call: Callable[[Any, Any], object]
) -> None:
    """A UsageError that names the value, with a hint; and nothing is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words) as caught:
        call(sandbox_settings(), ["absent.txt"])
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("partition", "words"), [(5, "is no list"), ([5], "is no string"), ([None], "is no string"), (b"a=b", "is no list")]
)
def test_a_partition_is_text(tmp_path: Path, partition: Any, words: str) -> None:
    """Nothing is written; the hint says how a partition is given."""
    run(sandbox_settings(), IDS, tmp_path / "run")
    with pytest.raises(UsageError, match=f"partition=.* {words}") as caught:
        classify_batch.export(tmp_path / "run", tmp_path / "table", partition=partition)
    assert caught.value.hint
    assert not (tmp_path / "table").exists()


def test_numbers_of_tables_and_followers_are_numbers(tmp_path: Path) -> None:
    """They are refused when they are given, and not at the first pause."""
    run(sandbox_settings(), IDS, tmp_path / "run")

    async def read_tables(**numbers: Any) -> None:
        async with stream(sandbox_settings(), IDS, tmp_path / "run") as outcomes:
            async for _ in outcomes.tables(**numbers):
                pass

    for numbers in ({"rows": "5"}, {"within_s": "5"}):
        with pytest.raises(UsageError, match=next(iter(numbers))):
            asyncio.run(read_tables(**numbers))
    wrong: Any = "1"
    with pytest.raises(UsageError, match="poll_every_s"):
        open_run(tmp_path / "run").follow(poll_every_s=wrong)


def test_one_folder_of_runs_is_merged(tmp_path: Path) -> None:
    """One string is one directory, and not a list of letters."""
    for name, file_ids in (("a", IDS[:10]), ("b", IDS[10:])):
        run(sandbox_settings(), file_ids, tmp_path / "runs" / name)
    merged = merge(str(tmp_path / "runs"), tmp_path / "all")
    assert sum(merged.counts.values()) == len(IDS)
    with pytest.raises(UsageError, match="only one run to merge"):
        merge(tmp_path / "runs" / "a", tmp_path / "other")
