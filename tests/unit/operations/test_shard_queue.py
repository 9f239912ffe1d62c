"""Which account takes which shard next, and what becomes of the shards of one that ends."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from classify_batch.operations.shards.shard_queue import ShardQueue


def test_a_shard_goes_first_to_the_account_that_has_jobs_in_it() -> None:
    """An account takes the shards in which it has jobs before any other, and no other account takes these."""
    queue = ShardQueue({0: (), 1: {"west"}, 2: {"east"}}, ["east", "west"])
    assert queue.take_shard("east") == 2
    assert queue.take_shard("west") == 1
    assert queue.take_shard("east") == 0
    assert queue.take_shard("west") is None
    assert queue.at_work == {0, 1, 2}
    queue.put_shard_back(0, {"west"}, only_owners=False)
    assert queue.take_shard("east") is None  # it waits for the one that has jobs in it
    assert queue.take_shard("west") == 0


def test_jobs_of_an_account_that_is_not_there_keep_nobody_from_the_rest() -> None:
    """A shard with jobs of an unknown account goes to whoever is free; once nothing else is left of it, to nobody."""
    queue = ShardQueue({0: {"north"}}, ["east", "west"])
    assert queue.take_shard("west") == 0
    queue.put_shard_back(0, {"north"}, only_owners=True)
    assert queue.take_shard("east") is None
    assert not queue.at_work


def test_what_an_account_leaves_goes_to_the_others() -> None:
    """An account that ended takes no more shards of others, and what it puts back goes to them, even if its jobs are
    still in it."""
    queue = ShardQueue({0: (), 1: ()}, ["east", "west"])
    assert queue.take_shard("east") == 0
    queue.end_account("east", collects=False)
    queue.put_shard_back(0, {"east"}, only_owners=False)
    assert queue.take_shard("east") is None
    assert [queue.take_shard("west"), queue.take_shard("west")] == [0, 1]
    queue.put_shard_back(0, {"east"}, only_owners=True)
    assert queue.take_shard("west") is queue.take_shard("east") is None


def test_an_account_without_credits_still_collects_what_it_has_elsewhere() -> None:
    """An account that makes no more jobs, and whose key still reads, takes each shard in which it has jobs once; then
    the others may."""
    queue = ShardQueue({0: (), 1: {"east"}, 2: {"east"}}, ["east", "west"])
    assert queue.take_shard("east") == 1
    queue.end_account("east", collects=True)
    queue.put_shard_back(1, (), only_owners=False)
    assert queue.take_shard("west") == 0
    assert queue.take_shard("east") == 2
    queue.put_shard_back(2, {"east"}, only_owners=False)
    assert queue.take_shard("east") is None
    assert [queue.take_shard("west"), queue.take_shard("west"), queue.take_shard("west")] == [1, 2, None]


@given(st.integers(0, 2**32))
def test_every_shard_is_tried_and_nobody_turns_in_circles(seed: int) -> None:
    """Accounts that work and end in any order: no shard is at two of them at once, each shard ends or was tried by an
    account that could send, as long as there was one, and it all comes to an end."""
    rng = Random(seed)
    accounts = ["a", "b", "c"][: rng.randint(1, 3)]
    names = [*accounts, "gone"]
    jobs = {shard: {name for name in names if rng.random() < 0.3} for shard in range(rng.randint(0, 6))}
    unsent = dict.fromkeys(jobs, True)
    queue, sending, reading = ShardQueue(jobs, accounts), set(accounts), set(accounts)
    at_work: dict[str, int] = {}
    for _ in range(1000):
        takes = {
            name: shard for name in accounts if name not in at_work and (shard := queue.take_shard(name)) is not None
        }
        assert len({*takes.values(), *at_work.values()}) == len(takes) + len(at_work)
        at_work |= takes
        if not at_work:
            break
        name = rng.choice(sorted(at_work))
        shard = at_work.pop(name)
        if name in sending and rng.random() < 0.2:
            sending.discard(name)
            if rng.random() < 0.5:
                reading.discard(name)
            queue.end_account(name, collects=name in reading)
        if name in reading:
            jobs[shard].discard(name)
        elif rng.random() < 0.5:
            jobs[shard].add(name)
        if name in sending:
            unsent[shard] = False
        if not unsent[shard] and not jobs[shard]:
            queue.finish_shard(shard)
        else:
            queue.put_shard_back(shard, jobs[shard], only_owners=not unsent[shard])
    else:
        raise AssertionError("it goes on for ever")
    if sending:
        assert not any(unsent.values())
    assert all(name not in jobs[shard] for shard in jobs for name in sending)


def test_what_an_owner_leaves_unsent_goes_to_the_others() -> None:
    """A shard in which only one account's jobs were left is anybody's again once these left files to be sent again."""
    queue = ShardQueue({0: {"west"}}, ["east", "west"])
    assert queue.take_shard("west") == 0
    queue.put_shard_back(0, {"west"}, only_owners=True)
    assert queue.take_shard("west") == 0
    queue.end_account("west", collects=True)
    queue.put_shard_back(0, (), only_owners=False)
    assert queue.take_shard("east") == 0
