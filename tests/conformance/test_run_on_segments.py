"""Whole runs on objects that never change: no operation needs more of its medium than `ports.RunStore` says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from classify_batch import RunResult, Settings
from classify_batch.engine.shutdown import Shutdown
from classify_batch.operations.diff.diff_runs import diff_runs
from classify_batch.operations.export.export_run import export_lines
from classify_batch.operations.run import carry_out_request
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.shards.verify_run import verify_run
from classify_batch.operations.status import read_status
from classify_batch.operations.tune import tune
from classify_batch.ports import RunPlace
from classify_batch.settings.limit_changes import Tuning
from classify_batch.store import place_of
from tests.conformance.segment_store import Bucket, SegmentPlace, Segments
from tests.support.command_line import KEY, PATIENCE_S, asked, environment, sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.real_time, pytest.mark.slow]

FILES = 40
CONFIG = """
[api]
base_url = "{url}"
timeout_s = 1

[job]
rules = [{{ type = "invoice", description = "has line items and a total" }}]

[plan]
files_per_job = 4

[limits]
jobs_in_flight = 4
requests_per_s = 500
settle_s = 0.3
accept_s = 1
"""


def write_config(folder: Path, url: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(CONFIG.format(url=url))
    (folder / "ids.txt").write_text("".join(f"file-{n}\n" for n in range(FILES)))
    return folder / "config.toml"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", KEY)
    with sandbox("--job-duration-s", "0.1") as url:
        yield write_config(tmp_path / "work", url)


def carry_out(config: Path, bucket: Path, kill_at: int = 0) -> int:
    """Runs, or goes on, in a process of its own; its exit status."""
    words = [config, config.with_name("ids.txt"), bucket, kill_at]
    command = [sys.executable, "-m", "tests.conformance.run_on_segments", *map(str, words)]
    return subprocess.run(command, check=False, timeout=PATIENCE_S, env=environment()).returncode


async def run_here(config: Path, place: RunPlace, reuse: tuple[RunPlace, ...] = (), files: int = FILES) -> RunResult:
    file_ids = [f"file-{n}" for n in range(files)]
    return await carry_out_request(RunRequest(Settings.load(config), file_ids, place, reuse=reuse), Shutdown())


async def outcomes_of(place: RunPlace) -> list[tuple[str, str | None]]:
    lines: list[bytes] = []
    await export_lines(place, lines.append)
    found = [json.loads(line) for line in b"".join(lines).splitlines()]
    return sorted((line["file_id"], line.get("type")) for line in found)


async def test_a_killed_run_goes_on(config: Path, tmp_path: Path) -> None:
    """Killed before or after an object is put: what is there is sound, the same command ends with the same outcomes,
    and no file is paid twice."""
    undisturbed = SegmentPlace(tmp_path / "undisturbed")
    assert carry_out(config, undisturbed.root) == 0
    puts = len(Bucket(undisturbed.root).list())
    expected = await outcomes_of(undisturbed)
    assert len(expected) == FILES
    killed = [
        await kill_and_go_on(SegmentPlace(tmp_path / f"killed at {kill_at}"), kill_at, expected)
        for kill_at in (3, -5, 2 * puts // 3, -(puts - 3))
    ]
    assert killed[:2] == [True, True]


async def kill_and_go_on(place: SegmentPlace, kill_at: int, expected: list[tuple[str, str | None]]) -> bool:
    """Whether it was killed: on a busy machine more is put together, and a run may end with fewer objects."""
    with sandbox("--job-duration-s", "0.1") as url:
        config = write_config(place.root.with_suffix(".work"), url)
        status = carry_out(config, place.root, kill_at)
        assert status in (-signal.SIGKILL, 0)
        assert place.reader().holder() is None
        if place.reader().size("run.json") is not None:
            found = await verify_run(place)
            assert found.errors == []
        assert carry_out(config, place.root) == 0
        stats = asked(url)
    verified = await verify_run(place)
    assert (verified.errors, verified.notes, verified.complete) == ([], [], True)
    assert await outcomes_of(place) == expected
    assert (stats["files_billed"], stats["files_billed_more_than_once"]) == (FILES, [])
    return status != 0


async def test_every_operation_works_on_the_medium(config: Path, tmp_path: Path) -> None:
    """Result, status, export, diff, reuse, and the answer to a run that is complete already."""
    place, disk = SegmentPlace(tmp_path / "runs" / "today"), place_of(tmp_path / "disk")
    result, on_disk = await run_here(config, place), await run_here(config, disk)
    assert (result.exit_status, result.counts) == (on_disk.exit_status, on_disk.counts)
    assert sorted((line["file_id"], line["type"]) for line in result.results()) == await outcomes_of(disk)
    assert list(result.failures()) == []
    told = dict(result.manifest)
    assert {key: told[key] for key in read_status(place)} == read_status(place)
    assert (await diff_runs(place, disk)).counts == (await diff_runs(disk, place)).counts
    again = await run_here(config, place)
    assert (again.called, again.manifest) == (False, result.manifest)
    tomorrow = await run_here(
        config, SegmentPlace(tmp_path / "runs" / "tomorrow"), (SegmentPlace(place.root.parent),), FILES + 4
    )
    assert (tomorrow.manifest["reused"], tomorrow.manifest["jobs"]) == (FILES, 1)
    assert (await verify_run(tomorrow.place)).errors == []


async def test_limits_change_while_a_run_is_on_the_medium(config: Path, tmp_path: Path) -> None:
    """`tune` finds the process that holds the run, and is answered."""
    place = SegmentPlace(tmp_path / "run")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_here, config, place, (), 400)
        while place.reader().size("journal.jsonl") is None:
            await anyio.sleep(0.02)
        await tune(place, Tuning.from_values(jobs_in_flight=50, requests_per_s=900.0))
    journal = b"".join(Segments(Bucket(place.root)).blocks("journal.jsonl"))
    assert b'"kind":"tuned"' in journal
    assert (await verify_run(place)).complete
