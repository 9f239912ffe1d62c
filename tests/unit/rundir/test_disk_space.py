"""The disk space of a run: an estimate that real runs keep to, and what is free."""

from __future__ import annotations

import doctest
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest

import classify_batch
from classify_batch import Settings
from classify_batch.operations.check.assess import assess_disk_space
from classify_batch.operations.check.estimate import estimate_size
from classify_batch.rundir import disk_space
from classify_batch.rundir.disk_space import (
    ANSWER_BYTES,
    FreeSpace,
    describe_missing_space,
    estimate_disk_space,
    format_disk_space,
    free_disk_space,
)

RULES = [{"type": "invoice", "description": "has an invoice number"}]
HERE = Path("here")


def settings(**sections: object) -> Settings:
    return Settings(**{"job": {"rules": RULES}, **sections})


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("carry", [(), ("name",)])
def test_a_real_run_keeps_to_the_estimate(tmp_path: Path, version: str, carry: tuple[str, ...]) -> None:
    """A run of the sandbox takes what is said of plan and journal; of answers less, since its reasonings are short."""
    (tmp_path / "documents").mkdir()
    rows = []
    for number in range(300):
        name = f"{number}.txt"
        (tmp_path / "documents" / name).write_text("an invoice with a number")
        rows.append({"file_id": str(uuid5(NAMESPACE_URL, name)), "name": "n" * 200})
    told = settings(
        api={"base_url": "sandbox", "version": version},
        sandbox={"documents": tmp_path / "documents"},
        plan={"carry": carry, "files_per_job": 10},
        limits={"requests_per_s": 5000.0, "creates_per_s": 5000.0, "jobs_in_flight": 50, "settle_s": 0.5},
    )
    assert classify_batch.run(told, rows, tmp_path / "run").exit_status == 0
    jobs = 300 if version == "v2" else 30
    carried = 300 * len('{"name":""}') + 300 * 200 if carry else 0
    said = estimate_disk_space(300, jobs, told, id_bytes=300 * 36, carried_bytes=carried)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert sizes["plan.jsonl"] == pytest.approx(said.plan, rel=0.1)
    assert said.journal / 3 < sizes["journal.jsonl"] < 2 * said.journal
    assert carried < sizes["results.jsonl"] < said.answers
    assert said.total_bytes == said.plan + said.answers + said.journal == said.plan + said.bytes_besides_plan


def test_a_second_look_takes_the_answers_twice() -> None:
    """First answers wait in a file of their own."""
    once = estimate_disk_space(1000, 10, settings(), id_bytes=36_000)
    twice = estimate_disk_space(1000, 10, settings(escalation={"unmatched": True}), id_bytes=36_000)
    assert once.answers == 1000 * ANSWER_BYTES
    assert (twice.answers, twice.journal, twice.plan) == (2 * once.answers, 2 * once.journal, once.plan)


def test_little_space_is_a_warning_and_enough_is_none() -> None:
    """The warning names both figures and the place; where nobody knows what is free, nothing is said."""
    size = estimate_size(1_000_000, 0, settings(), id_bytes=36_000_000)
    needed = size.disk.total_bytes
    assert [*assess_disk_space(size, FreeSpace(HERE, needed))] == [*assess_disk_space(size, None)] == []
    (finding,) = assess_disk_space(size, FreeSpace(HERE, needed - 1))
    assert finding.code == "disk_space"
    assert finding.message == "the run needs about 1.0 GB of disk space, and 1.0 GB are free in here"
    assert "75" in finding.hint
    assert describe_missing_space(0, FreeSpace(HERE, 0)) == ""


def test_the_lines_say_how_the_estimate_came_about() -> None:
    """What a file takes of each part, and what is free where that is known."""
    space = estimate_disk_space(1_000_000, 10_000, settings(), id_bytes=36_000_000)
    assert [*format_disk_space(space, 1_000_000, FreeSpace(HERE, 52_300_000_000))] == [
        "disk        about 1.0 GB; 52.3 GB are free in here",
        "            (estimated; a file takes 1,000 bytes of answers, 39.3 of the plan, 8.5 of the journal)",
    ]
    assert [*format_disk_space(space, 1_000_000, None, planned=True)] == [
        "disk        about 1.0 GB more",
        "            (estimated; a file takes 1,000 bytes of answers, 8.5 of the journal)",
    ]
    nothing = estimate_disk_space(0, 0, settings(), id_bytes=0)
    assert [*format_disk_space(nothing, 0, None)] == ["disk        about 0 B"]


def test_free_space_is_that_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    """A run directory that isn't made yet will be where its nearest folder is."""
    found = free_disk_space(tmp_path / "nights" / "monday")
    assert found is not None
    assert found.folder == tmp_path
    status = os.statvfs(tmp_path)
    assert found.bytes == pytest.approx(status.f_bavail * status.f_frsize, rel=0.5)
    here = free_disk_space(Path())
    assert here is not None
    assert here.folder == Path.cwd()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_real_small_disk_is_too_small(small_disk: Path) -> None:
    """64 KiB are free, and 100 files need more."""
    free = free_disk_space(small_disk / "run")
    assert free == FreeSpace(small_disk, 64 * 1024)
    size = estimate_size(100, 0, settings(), id_bytes=3600)
    assert [each.code for each in assess_disk_space(size, free)] == ["disk_space"]


def test_units_suit_the_number() -> None:
    """The example in the docstring holds."""
    assert doctest.testmod(disk_space).failed == 0
    assert disk_space.format_bytes(0) == "0 B"
    assert disk_space.format_bytes(12_345_678_901_234) == "12.3 TB"
