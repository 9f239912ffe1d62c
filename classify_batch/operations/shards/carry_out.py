"""What a caller asks of a run is carried out: of one that has shards, by its shards."""

from __future__ import annotations

from functools import partial

from classify_batch.engine.shutdown import Shutdown
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.operations.result import RunResult
from classify_batch.operations.run import carry_out_request
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.shards.run_shards import run_sharded
from classify_batch.operations.shards.whole import read_whole


async def carry_out(request: RunRequest, shutdown: Shutdown) -> RunResult:
    """Runs a request to its end, or until `shutdown` is asked to stop it."""
    if request.shards is None and request.shard is None and await read_whole(request.place) is None:
        return await carry_out_request(request, shutdown)
    return await run_in_own_task(partial(run_sharded, request, shutdown))
