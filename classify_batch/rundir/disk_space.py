"""How much space on a disk a run takes: an estimate, from what measured runs took.

    plan.jsonl       each file ID once more, with what it carries
    results.jsonl    a line an answer, mostly its reasoning, and what its file carries; failures take less
    provisional      with a second look, the first answers once more, at most
    journal.jsonl    a few lines a job, which share what is written together

Planning and `export` take more for a short time, and jobs that are tried again take a little more: this is what a
complete run without trouble leaves behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from classify_batch.protocol.sanitize import printable_line
from classify_batch.settings import Settings

PLAN_BYTES = 3
"""Of a file in the plan, beside its ID: quotes and a comma."""
PLAN_BYTES_PER_JOB = 32
"""Of a line of the plan, beside its files: keys and number."""
ANSWER_BYTES = 1_000
"""Of a line of results.jsonl: 250 without its reasoning, and real reasonings have some hundred characters."""
JOURNAL_BYTES_PER_JOB = 850
"""Measured with 20,000 jobs of 500 files: 680 to 840, by how many of them share a line."""
JOURNAL_BYTES_PER_JOB_OF_ONE = 800
"""Four lines, of 770 bytes where nothing shares them: a create seldom does. Measured at 40 to 60 creates a second: 595
to 665, by how many ends and results were written together."""

NO_SPACE_HINT = "make room, or name a run directory on another disk; a full disk stops a run (75), and loses nothing"


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """What a run is estimated to take, in bytes.

    Attributes:
        plan, answers, journal: what each part takes, of all files together.
        bytes: all of them; left: all but the plan, where it is written already.
    """

    plan: int
    answers: int
    journal: int

    @property
    def total_bytes(self) -> int:
        return self.plan + self.bytes_besides_plan

    @property
    def bytes_besides_plan(self) -> int:
        return self.answers + self.journal


def estimate_disk_space(
    files: int, jobs: int, settings: Settings, *, id_bytes: int, carried_bytes: int = 0
) -> DiskSpace:
    """The space of a run of so many files and jobs. `id_bytes`, `carried_bytes`: of all its file IDs, and of all that
    they carry."""
    looks = 1 if settings.escalation is None else 2
    per_job = JOURNAL_BYTES_PER_JOB_OF_ONE if settings.files_per_job == 1 else JOURNAL_BYTES_PER_JOB
    return DiskSpace(
        plan=id_bytes + files * PLAN_BYTES + jobs * PLAN_BYTES_PER_JOB + carried_bytes,
        answers=looks * files * ANSWER_BYTES + carried_bytes,
        journal=looks * jobs * per_job,
    )


class FreeSpace(NamedTuple):
    """What is free.

    Attributes:
        folder: where it was asked for: the directory, or the nearest folder above it that is there.
    """

    folder: Path
    bytes: int


def free_disk_space(directory: Path) -> FreeSpace | None:
    """What this user may still write where the directory is, or will be. None: the file system doesn't tell. It knows
    of no quota."""
    try:
        absolute = directory.absolute()
    except FileNotFoundError:  # the working directory is gone
        return None
    for level in (directory, *absolute.parents):
        try:
            status = os.statvfs(level)
        except OSError:
            continue
        # f_bavail, not f_bfree: some blocks are kept for root.
        return (
            FreeSpace(level if level.name else level.absolute(), status.f_bavail * status.f_frsize)
            if status.f_blocks
            else None
        )
    return None


def format_disk_space(space: DiskSpace, files: int, free: FreeSpace | None, *, planned: bool = False) -> Iterator[str]:
    """Lines for a person: the estimate, how it came about, and what is free. `planned`: the plan is there already."""
    needed, more = (space.bytes_besides_plan, " more") if planned else (space.total_bytes, "")
    there = "" if free is None else f"; {format_bytes(free.bytes)} are free in {printable_line(str(free.folder))}"
    yield f"disk        about {format_bytes(needed)}{more}{there}"
    if files:
        parts = [f"{space.answers / files:,.4g} bytes of answers", f"{space.journal / files:,.3g} of the journal"]
        if not planned:
            parts.insert(1, f"{space.plan / files:,.3g} of the plan")
        yield f"            (estimated; a file takes {', '.join(parts)})"


def describe_missing_space(needed: int, free: FreeSpace | None) -> str:
    """What is said where there is less than is needed; empty where there is enough, or nobody knows."""
    if free is None or free.bytes >= needed:
        return ""
    return (
        f"the run needs about {format_bytes(needed)} of disk space, and {format_bytes(free.bytes)} are free in "
        f"{printable_line(str(free.folder))}"
    )


def format_bytes(count: float) -> str:
    """A number of bytes in the unit that suits it.

    >>> format_bytes(999), format_bytes(1_050_000), format_bytes(2_500_000_000)
    ('999 B', '1.1 MB', '2.5 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
