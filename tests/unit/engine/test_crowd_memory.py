"""The memory of a process that looks for its jobs in a crowded project grows with what it holds, not with the list."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from classify_batch.engine.reconciler.evidence import CANDIDATES_MAX
from tests.support import evidence_stage

ROOT = Path(evidence_stage.__file__).parents[2]
LISTED = 8 * CANDIDATES_MAX

SHOWS_A_CROWDED_LIST = """
import sys
from pathlib import Path
from random import Random
from uuid import UUID

from tests.support.evidence_stage import EvidenceStage, ambiguous, job


def peak_mib():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


world, draw = EvidenceStage(ambiguous("a")), Random(1)
before_mib = peak_mib()
world.begin_list_reading(100.0)
for number in range(int(sys.argv[1])):
    shown = {"created_at_s": 1.7e9 + number, "project_id": "".join(list("p" * 36)), "mode": "FAST"}
    world.record_view(job(str(UUID(int=draw.getrandbits(128))), "SUCCESS", **shown), 100.0)
world.end_list_reading(complete=True)
print(len(world.candidates), peak_mib() - before_mib)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_a_process_holds_a_kilobyte_of_few_jobs_and_some_bytes_of_the_others() -> None:
    """At most a kilobyte of each that is held, and 60 bytes of each that was shown."""
    words = [sys.executable, "-c", SHOWS_A_CROWDED_LIST, str(LISTED)]
    printed = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    held, grown_mib = int(printed[0]), float(printed[1])
    assert held == CANDIDATES_MAX
    assert grown_mib < (1024 * CANDIDATES_MAX + 60 * LISTED) / 2**20
