"""Carries a run out on a medium of objects that never change, in a process of its own that may kill itself.

python -m tests.conformance.run_on_segments CONFIG IDS BUCKET KILL_AT
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from classify_batch.engine.shutdown import Shutdown
from classify_batch.operations.run import carry_out_request
from classify_batch.operations.run_request import RunRequest
from classify_batch.settings import Settings
from tests.conformance.segment_store import SegmentPlace


async def run(*words: str) -> int:
    """Returns the exit status. See `Bucket` for `kill_at`."""
    config, ids, bucket, kill_at = words
    request = RunRequest(Settings.load(config), Path(ids), SegmentPlace(Path(bucket), int(kill_at)))
    return int((await carry_out_request(request, Shutdown())).exit_status)


if __name__ == "__main__":
    sys.exit(anyio.run(run, *sys.argv[1:]))
