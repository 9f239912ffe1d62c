"""What `run` prints at its end."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from classify_batch.cli.running import print_summary
from classify_batch.errors import ExitStatus
from classify_batch.operations.result import RunResult
from classify_batch.rundir.manifest_json import Manifest
from classify_batch.store import place_of
from classify_batch.vocabulary import RunState

ALREADY = "this run was complete already: nothing was called, nothing was written"


@pytest.mark.parametrize("state", list(RunState))
@pytest.mark.parametrize("called", [True, False])
def test_only_a_complete_run_was_complete_already(
    state: RunState, called: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that made no call may as well be incomplete: where others hold all of its shards, or no key is accepted."""
    manifest = {
        "state": str(state),
        "files": 2,
        "counts": {"classified": 2 if state is RunState.COMPLETE else 0, "failed": 0},
        "types": {},
        "failure_codes": {},
        "jobs": 0,
        "requests": 0,
    }
    status = ExitStatus.COMPLETE if state is RunState.COMPLETE else ExitStatus.INCOMPLETE
    result = RunResult(
        place_of(tmp_path), state, status, "its shards are held", "wait", cast("Manifest", manifest), called=called
    )
    print_summary(result, "classify-batch resume nightly")
    printed = capsys.readouterr().err.splitlines()
    assert (ALREADY in printed) == (state is RunState.COMPLETE and not called)
    assert f"state       {state}" in printed
