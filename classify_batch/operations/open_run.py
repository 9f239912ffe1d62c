"""Opens a run directory to read it. Nothing is changed, and a process may be running the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from classify_batch.operations.shards.whole import ShardedRun, read_whole
from classify_batch.operations.status import no_run_error
from classify_batch.ports import RunStore
from classify_batch.run_records import StoredSettings
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.opened_run import RunOnDisk, read_run
from classify_batch.rundir.run_json import RunFile, read_run_file
from classify_batch.store import Location, open_store, place_of
from classify_batch.vocabulary import RUN_JSON


async def read_run_settings(run_dir: Location) -> StoredSettings:
    """The settings that a run was planned with. Raises RunDirectoryError where there is no run."""
    store = open_store(run_dir)
    found = await read_run_file(store, takes_shards=True)
    if found is None:
        raise no_run_error(store.where, await store.holder())
    return found[0].settings


async def refuse_no_run(store: RunStore) -> None:
    """For whoever speaks to the process that runs a run.

    Raises:
        RunDirectoryError: there is no run.
        WorldError: a process is just planning one, and hears nothing yet.
    """
    if await store.size(RUN_JSON) is not None:
        return
    raise no_run_error(store.where, await store.holder())


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """A run to read, whether it has shards or not.

    Attributes:
        where: how a person names its place.
        run: its run.json.
        parts: where its outcomes are: itself; or what it reused, and each of its shards that was begun. The first
            one's store is the run's own, which has the whole plan.
    """

    where: str
    run: RunFile
    parts: Sequence[RunOnDisk]

    @property
    def outcomes(self) -> int:
        """Files that have their outcome."""
        return sum(part.snapshot.outcomes.total() for part in self.parts)

    @property
    def counts(self) -> Counter[str]:
        """Files by outcome."""
        total = Counter[str]()
        for part in self.parts:
            total.update(part.snapshot.outcomes)
        return total

    @property
    def shards(self) -> Sequence[RunOnDisk]:
        """Its shards that were begun; none of a run without shards."""
        return self.parts[1:] if self.run.shards is not None else []

    @property
    def complete(self) -> bool:
        """Whether every file has its outcome, and none is being retried."""
        if self.run.shards is None:
            return self.parts[0].snapshot.complete
        return self.outcomes == self.run.files and all(shard.snapshot.complete for shard in self.shards)


async def open_with_shards(run_dir: Location) -> OpenedRun:
    """The run in a directory, with all its shards. Raises RunDirectoryError where there is no run."""
    place = place_of(run_dir)
    whole = await read_whole(place)
    if whole is None:
        store, found = await open_run(place)
        return OpenedRun(store.where, found.run, [found])
    shards = [await read_run(whole.shard_place(index).open()) for index in range(len(whole.ranges))]
    begun = [shard for shard in shards if shard is not None]
    return OpenedRun(place.where, whole.run, [reused_part(whole), *begun])


def reused_part(whole: ShardedRun) -> RunOnDisk:
    """What a run with shards reused, as a run that has nothing else: its results.jsonl holds it."""
    snapshot = RunSnapshot(whole.run.chunks)
    if (reused := whole.run.reused) is not None:
        snapshot.begin_with_reused(reused.chunks, reused.bytes, reused.counts, reused.types, reused.accepted)
    return RunOnDisk(whole.place.open(), whole.run, whole.run_sha256, snapshot, 0, 0, None)


async def open_run(run_dir: Location) -> tuple[RunStore, RunOnDisk]:
    """The run in a directory, and its store. Raises RunDirectoryError where there is no run."""
    store = open_store(run_dir)
    run = await read_run(store)
    if run is None:
        raise no_run_error(store.where, await store.holder())
    return store, run
