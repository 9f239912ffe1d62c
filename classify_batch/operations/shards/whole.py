"""A run with shards as a whole: what its run.json says, and where its shards are."""

from __future__ import annotations

from dataclasses import dataclass

from classify_batch.ports import RunPlace
from classify_batch.rundir.run_json import RunFile, ShardRange, read_run_file, shard_place
from classify_batch.rundir.shards import ShardSlice
from classify_batch.vocabulary import RUN_JSON

_SHARDS = b'"shards"'


@dataclass(frozen=True, slots=True)
class ShardedRun:
    """A run that has shards.

    Attributes:
        run, run_sha256: what its run.json says, and that file's SHA-256.
    """

    place: RunPlace
    run: RunFile
    run_sha256: str

    @property
    def ranges(self) -> list[ShardRange]:
        """What each shard has of the plan."""
        return self.run.shards or []

    def shard_place(self, index: int) -> RunPlace:
        """Where a shard is."""
        return shard_place(self.place, index)

    async def refuse_untrusted(self) -> None:
        """Before anything is written to a shard: raises RunDirectoryError where other users could misuse the whole
        run's directory, by a link in the place of a shard for one."""
        async with self.place.open() as store:
            await store.prepare()

    def slice_of_shard(self, index: int) -> ShardSlice:
        """What a shard takes of the run."""
        return ShardSlice(self.place.open(), self.run, self.run_sha256, index)


async def read_whole(place: RunPlace) -> ShardedRun | None:
    """The run with shards in a place; None where there is no run, or one without shards.

    Raises:
        DamagedError: run.json is not what was written.
        RunDirectoryError: a newer version wrote it.
    """
    store = place.open()
    try:
        if _SHARDS not in await store.read(RUN_JSON):  # most runs have none: what else is in it is read by others
            return None
    except FileNotFoundError:
        return None
    found = await read_run_file(store, takes_shards=True)
    return None if found is None or found[0].shards is None else ShardedRun(place, *found)
