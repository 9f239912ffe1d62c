"""Carries out a run's shards with several keys at once: `[[accounts]]`.

Each account is a task that takes one shard after the other and carries it out with its own key, limits and request
gate. What an account has sent is its own business: see `RunSnapshot`. So a shard that an account leaves may be taken
over by another one, which sends what was never sent and leaves the rest alone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

import anyio

from classify_batch.engine.shutdown import Shutdown, Stop, following
from classify_batch.errors import ExitStatus, InterruptedEarlyError, LockedError
from classify_batch.limits.shared_limits import SharedLimits
from classify_batch.operations.result import RunResult
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.shard_account import credits_of, owners_of
from classify_batch.operations.shards.ending import ShardEnding
from classify_batch.operations.shards.run_shards import (
    MAX_CREDITS,
    SequentialExecutor,
    WholeProgress,
    are_complete,
    keep_tuned_limits,
    run_shard,
    tuned_limits,
)
from classify_batch.operations.shards.shard_queue import ShardQueue
from classify_batch.operations.shards.whole import ShardedRun
from classify_batch.operations.status import read_shards
from classify_batch.settings import Account, read_accounts
from classify_batch.vocabulary import RunState

log = logging.getLogger("classify_batch")


class AccountsExecutor:
    """The executor of a run with accounts: this process, with a task for each of them."""

    async def run(self, whole: ShardedRun, request: RunRequest, shutdown: Shutdown) -> Sequence[ShardEnding]:
        """Returns when every shard has ended for now, no account can go on, or `shutdown` was asked to stop.

        Raises:
            SettingsError: an account's key isn't there, or two have the same.
        """
        if await are_complete(whole, retry_failed=request.retry_failed):
            return await SequentialExecutor().run(whole, request, shutdown)  # which needs no key
        accounts = read_accounts(request.settings)
        work = _Work(whole, request, shutdown, [account.name for account in accounts])
        async with anyio.create_task_group() as tasks:
            for account in accounts:
                tasks.start_soon(work.carry_out, account)
        return work.tried_endings


class _Work:
    """What the accounts' tasks share."""

    def __init__(self, whole: ShardedRun, request: RunRequest, shutdown: Shutdown, accounts: Sequence[str]) -> None:
        shards = read_shards(whole.place, whole.run)
        self._whole = whole
        self._request = request
        self._shutdown = shutdown
        self._began_s = anyio.current_time()
        self._progress = None if request.on_progress is None else WholeProgress(whole, request.on_progress)
        self._queue = ShardQueue({index: owners_of(shard) for index, shard in enumerate(shards)}, accounts)
        self._spent = {name: [credits_of(shard, name) for shard in shards] for name in accounts}
        self._endings: dict[int, ShardEnding] = {}
        self._ended: dict[str, Stop] = {}
        self._changed = anyio.Event()

    @property
    def tried_endings(self) -> list[ShardEnding]:
        """How the shards ended that were tried, in their order."""
        return [self._endings[index] for index in sorted(self._endings)]

    async def carry_out(self, account: Account) -> None:
        """Carries out an account's share: shards, until there are none for it."""
        limits = account.settings.limits
        async with SharedLimits(
            requests_per_s=limits.requests_per_s,
            requests_in_flight=limits.requests_in_flight,
            creates_per_s=limits.creates_per_s or account.settings.api.capabilities.creates_per_s,
        ) as gate:
            while self._shutdown.stop is None:
                if (index := self._queue.take_shard(account.name)) is not None:
                    account = await self._carry_out_shard(index, account, gate)
                    self._wake_accounts()
                elif self._queue.at_work:  # an account that ends hands its shard on
                    await self._changed.wait()
                else:
                    return

    def _wake_accounts(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _carry_out_shard(self, index: int, account: Account, gate: SharedLimits) -> Account:
        """Carries out a shard, as far as the account can. Returns the account with the limits that `tune` gave it."""
        request = self._request_for(index, account, gate)
        try:
            async with following(self._shutdown) as shutdown:
                result = await run_shard(self._whole, request, index, shutdown)
        except (LockedError, InterruptedEarlyError) as error:
            called = not isinstance(error, InterruptedEarlyError)
            self._endings[index] = ShardEnding(index, error.exit_status, str(error), error.hint, called)
            self._queue.finish_shard(index)
            return account
        finally:
            if self._progress is not None:
                self._progress.end_shard(index)
        self._spent[account.name][index] = credits_of(result.manifest, account.name)
        self._take_result(index, account.name, result, shutdown)
        bound = result.manifest.get("limits", {}).get(MAX_CREDITS)
        begun_with = request.settings.limits.max_credits
        if result.called and bound is not None and begun_with == self._request.settings.limits.max_credits:
            # Else another task was given a newer one meanwhile.
            self._request = keep_tuned_limits(self._request, {MAX_CREDITS: bound}, self._whole.slice_of_shard(index))
        if not result.called or not (tuned := tuned_limits(account.settings.limits, result.manifest.get("limits", {}))):
            return account
        limits = account.settings.limits.model_copy(update=tuned)
        return replace(account, settings=account.settings.model_copy(update={"limits": limits}))

    def _request_for(self, index: int, account: Account, gate: SharedLimits) -> RunRequest:
        request = self._request
        if account.max_credits is not None:
            spent = self._spent[account.name]
            account = replace(account, max_credits=account.max_credits - sum(spent) + spent[index])
        if self._progress is not None:
            request = replace(request, on_progress=self._progress.progress_of_shard(index))
        if request.max_runtime_s is not None:
            remaining_s = request.max_runtime_s - (anyio.current_time() - self._began_s)
            request = replace(request, max_runtime_s=max(0.0, remaining_s))
        if index in self._endings:  # failed files of this call are none of an earlier one
            request = replace(request, retry_failed=False)
        return replace(request, account=account, shared_limits=gate)

    def _take_result(self, index: int, name: str, result: RunResult, shutdown: Shutdown) -> None:
        stop, complete = shutdown.stop, result.state is RunState.COMPLETE
        reason = "" if complete else f"account {name}: {result.reason}"
        self._endings[index] = ShardEnding(index, result.exit_status, reason, result.hint, result.called)
        if complete:
            self._queue.finish_shard(index)
        elif stop is None:
            owners = owners_of(result.manifest)
            self._endings[index] = self._ending_left_to_owners(owners, self._endings[index], result.reason)
            self._queue.put_shard_back(index, owners, only_owners=True)
        elif stop.of_account:
            self._ended[name] = stop
            self._queue.end_account(name, collects=stop.collects)
            self._queue.put_shard_back(index, owners_of(result.manifest), only_owners=False)
            log.warning("account %s makes no more jobs: %s", name, stop.reason)
        else:
            # What stopped it would stop the next one, too. Others that are at work are cancelled when they are asked.
            self._shutdown.request_stop(replace(stop, cancels=False))
            self._queue.finish_shard(index)

    def _ending_left_to_owners(self, owners: Collection[str], ending: ShardEnding, reason: str) -> ShardEnding:
        """How a shard ended in which nothing is left but what some accounts have sent. If these ended for a reason that
        passes by itself, so does this."""
        stops = {name: stop for name, stop in sorted(self._ended.items()) if name in owners}
        if not stops:
            return replace(ending, reason=reason)
        words = "; ".join(f"account {name} has ended: {stop.reason}" for name, stop in stops.items())
        worst = max(stops.values(), key=lambda stop: stop.status is ExitStatus.PERSON)
        status = worst.status if stops.keys() == set(owners) else ending.exit_status
        return replace(ending, exit_status=status, reason=f"{reason} ({words})", hint=worst.hint)
