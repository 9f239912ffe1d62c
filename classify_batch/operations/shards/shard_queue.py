"""Which account carries out which shard next: pure.

A shard in which an account has jobs goes to that account first, as nobody else can find out what became of them. Any
other shard goes to whoever is free, so that each account does as much as its limits allow. An account that has ended
(no credits, key refused) takes no more shards of others, and what it leaves goes to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping


class ShardQueue:
    """The shards that are left.

    Attributes:
        at_work: those that were taken, and are neither done nor put back.
    """

    def __init__(self, unfinished: Mapping[int, Collection[str]], accounts: Iterable[str]) -> None:
        """`unfinished`: for each shard the accounts that have jobs in it; `accounts`: that are there."""
        self._accounts = frozenset(accounts)
        self._owners = {shard: self._accounts.intersection(owners) for shard, owners in unfinished.items()}
        self._unfinished = set(unfinished)
        self._only_owners: set[int] = set()
        self._sending = set(self._accounts)
        self._collecting = set(self._accounts)
        self._tried: set[tuple[str, int]] = set()
        self.at_work: set[int] = set()

    def take_shard(self, account: str) -> int | None:
        """The shard that an account carries out next; None: there is none for it now. There may be one later, as long
        as others are at work."""
        shard = next((each for each in sorted(self._unfinished) if self._may_take(account, each, own=True)), None)
        if shard is None:
            shard = next((each for each in sorted(self._unfinished) if self._may_take(account, each, own=False)), None)
        if shard is None:
            return None
        self._unfinished.remove(shard)
        self.at_work.add(shard)
        self._tried.add((account, shard))
        return shard

    def _may_take(self, account: str, shard: int, *, own: bool) -> bool:
        if own:
            return account in self._owners[shard] and account in self._able_to_collect(shard)
        return account in self._sending and shard not in self._only_owners and not self._able_to_collect(shard)

    def _able_to_collect(self, shard: int) -> set[str]:
        """The accounts that have jobs in a shard and can find out what became of them. One that makes no more jobs
        tries each shard once."""
        return {
            account
            for account in self._owners[shard] & self._collecting
            if account in self._sending or (account, shard) not in self._tried
        }

    def finish_shard(self, shard: int) -> None:
        """Nothing is left of a shard that this process could do."""
        self.at_work.discard(shard)

    def put_shard_back(self, shard: int, owners: Collection[str], *, only_owners: bool) -> None:
        """A shard isn't done. `owners`: have jobs in it now; `only_owners`: nothing is left for anybody else."""
        self.at_work.discard(shard)
        self._unfinished.add(shard)
        self._owners[shard] = self._accounts.intersection(owners)
        if only_owners:
            self._only_owners.add(shard)
        else:  # what an owner collected may have left files that are to be sent again
            self._only_owners.discard(shard)

    def end_account(self, account: str, *, collects: bool) -> None:
        """An account makes no more jobs. `collects`: its key still shows what became of those that it made."""
        self._sending.discard(account)
        if not collects:
            self._collecting.discard(account)
