"""What a caller asks of a run is carried out: of one that has shards, by its shards."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from classify_batch.engine.shutdown import Shutdown
from classify_batch.errors import UsageError
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.operations.result import RunResult
from classify_batch.operations.run import carry_out_request, is_shard
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.shards.accounts import AccountsExecutor
from classify_batch.operations.shards.run_shards import run_sharded
from classify_batch.operations.shards.whole import read_whole


async def carry_out(request: RunRequest, shutdown: Shutdown) -> RunResult:
    """Runs a request to its end, or until `shutdown` is asked to stop it.

    Raises:
        UsageError: an executor is given, and there are no shards for it, or only one is to be carried out; or accounts
            are to carry the shards out, which take neither an executor nor limits of other runs.
    """
    if request.executor is not None and request.shard is not None:
        raise UsageError(
            "an executor carries out all shards, and one shard is named",
            hint="leave the executor out, or the shard",
        )
    with_accounts = bool(request.settings.accounts) and not await is_shard(request.place)
    if with_accounts and request.executor is not None:
        raise UsageError(
            "an executor has one key, and [[accounts]] has several",
            hint="leave the executor out: one process carries the shards out with all accounts",
        )
    if with_accounts and request.shared_limits is not None:
        raise UsageError("accounts share no limits with other runs", hint="leave the shared limits out")
    divided = request.shards is not None or request.shard is not None or with_accounts
    if not divided and await read_whole(request.place) is None:
        if request.executor is not None:
            raise UsageError(
                f"an executor carries out shards, and the run in {request.place.where} has none",
                hint="say into how many a new run is divided: --shards N (shards=N)",
            )
        return await carry_out_request(request, shutdown)
    if with_accounts and request.shard is None:
        request = replace(request, executor=AccountsExecutor())
    return await run_in_own_task(partial(run_sharded, request, shutdown))
