"""The manual's page on growing says what the simulation says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import environment

ROOT = Path(__file__).parents[2]
GROWING = (ROOT / "classify_batch" / "manual" / "growing.md").read_text("utf-8")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_table_of_workers_is_the_simulations(version: str) -> None:
    """For one worker and for ten, which take a few seconds; the rows of the page are those that are printed."""
    script = [sys.executable, "-m", "scale_model", "--version", version, "--workers", "1", "10"]
    environ = environment() | {"PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT}"}
    printed = subprocess.run(script, env=environ, capture_output=True, text=True, check=True).stdout
    rows = [line for line in printed.splitlines() if line.startswith(("| 1 |", "| 10 |", "| 1, 1 |", "| 10, 1 |"))]
    assert len(rows) == 4
    assert [row for row in rows if row not in GROWING] == []
