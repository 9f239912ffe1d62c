"""Which account carries out a shard that is carried out alone, and what accounts have to do with a shard so far."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from classify_batch.errors import UsageError
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.status import read_status
from classify_batch.ports import RunPlace
from classify_batch.rundir.manifest_json import Manifest
from classify_batch.rundir.run_json import read_run_file, shard_name
from classify_batch.settings import Account, read_accounts
from classify_batch.vocabulary import RUN_JSON, RunState


async def take_account(request: RunRequest, without: Collection[str] = ()) -> RunRequest:
    """The request with the account that carries it out, where there are any: one that has jobs in the shard, or else
    that whose turn it is by the shard's number. What the account spent in other shards counts, as far as these have
    written it down. `without`: accounts that count as if they had no jobs in it.

    Raises:
        SettingsError: an account's key isn't there, or two have the same.
        UsageError: the run has no shards among which accounts could be chosen.
    """
    if not request.settings.accounts or request.account is not None:
        return request
    index, count = await _which_shard(request)
    accounts = read_accounts(request.settings)
    account = account_for(index, accounts, owners_of(read_if_begun(request.place)) - set(without))
    if account.max_credits is not None:
        siblings = [request.place.sibling(shard_name(each)) for each in range(count) if each != index]
        others = sum(credits_of(read_if_begun(sibling), account.name) for sibling in siblings)
        account = replace(account, max_credits=account.max_credits - others)
    return replace(request, account=account)


async def _which_shard(request: RunRequest) -> tuple[int, int]:
    """The shard's number, and how many there are."""
    if request.slice is not None:
        return request.slice.index, len(request.slice.run.shards or ())
    found = await read_run_file(request.place.open())
    if found is None or (shard := found[0].shard) is None:
        raise UsageError(
            f"accounts carry out shards, and the run in {request.place.where} has none",
            hint="leave [[accounts]] out, or name a new run directory",
        )
    return shard["index"], shard["count"]


def read_if_begun(place: RunPlace) -> Manifest | None:
    """The status of a shard; None: it was never begun."""
    return None if place.reader().size(RUN_JSON) is None else read_status(place)


def account_for(index: int, accounts: Sequence[Account], owners: Collection[str]) -> Account:
    """The account by which one shard is carried out alone."""
    return next((each for each in accounts if each.name in owners), accounts[index % len(accounts)])


def owners_of(shard: Manifest | None) -> set[str]:
    """The accounts that have jobs in a shard, or may have: what a killed process left is known by the next one only."""
    if shard is None or shard["state"] == RunState.COMPLETE:
        return set()
    owners = {name for name, share in shard.get("accounts", {}).items() if share["open"]}
    last = next(iter(reversed(shard.get("starts", []))), None)
    if last is not None and last["stopped_at"] is None and (name := last.get("account")) is not None:
        owners.add(name)
    return owners


def credits_of(shard: Manifest | None, account: str) -> float:
    """What an account has spent in a shard, or set aside."""
    return 0.0 if shard is None or account not in (shares := shard.get("accounts", {})) else shares[account]["credits"]
