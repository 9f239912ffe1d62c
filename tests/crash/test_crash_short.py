"""The proof by killing, in short: what `scripts/crash` does by the thousand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SEED = "1"


@pytest.mark.slow
def test_runs_that_are_killed_lose_nothing_and_pay_nothing_twice() -> None:
    """Real processes under faults, killed, stopped, cancelled and cut at a sample of all moments: zero, zero, zero."""
    command = [sys.executable, "-m", "crash_suite", "--short", "--seed", SEED, "--json"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (SCRIPTS, SCRIPTS.parent)))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    suites = {line["suite"]: line for line in map(json.loads, done.stdout.splitlines())}
    everything = suites["all"]
    bad = [everything[name] for name in ("files lost", "files twice", "paid twice", "other faults")]
    assert bad == [0, 0, 0, 0], done.stdout + done.stderr
    assert everything["kills"] >= 5
    assert everything["stops"] >= 1
    assert suites["journal cut"]["runs"] >= 20
