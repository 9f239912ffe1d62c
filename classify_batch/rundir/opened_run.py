"""Reading a run directory as it stands: run.json, the journal, and how far the outcomes are committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from classify_batch.errors import DamagedError, InternalError, StoreError
from classify_batch.ports import RunStore
from classify_batch.rundir.journal.entry import Entry
from classify_batch.rundir.journal.line import DAMAGED_HINT
from classify_batch.rundir.journal.reader import ReplayReader
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.manifest_json import Manifest, read_manifest
from classify_batch.rundir.run_json import RunFile, read_run_file
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import Log, RunState


@dataclass(frozen=True, slots=True)
class RunOnDisk:
    """A run, read.

    Attributes:
        store: what it was read from.
        run_sha256: of run.json.
        journal_end: bytes of the journal that are good; torn_bytes: bytes behind them that are not.
        siblings: the other shards of the same run, where it is a shard.
        config, trusted: the path of the config that this process was given, and whether it was asked to trust the
            place.
        account: whose key it has; None: the run's own.
        account_credits: what that account may spend for this run, in all processes; None: any number.
    """

    store: RunStore
    run: RunFile
    run_sha256: str
    snapshot: RunSnapshot
    journal_end: int
    torn_bytes: int
    manifest: Manifest | None
    config: str | None = None
    trusted: bool = False
    siblings: Sequence[RunStore] = ()
    account: str | None = None
    account_credits: float | None = None

    @property
    def manifest_complete(self) -> bool:
        """Whether the manifest vouches for every byte: it says so last of all, and takes it back before anything else
        is written. One that is older than the journal, or another run's, since somebody put it there, vouches for
        nothing."""
        return self.manifest_claims_complete and not self.manifest_is_older and not self.manifest_is_foreign

    @property
    def manifest_claims_complete(self) -> bool:
        """Whether a reader of the manifest alone takes the run for complete."""
        return self.manifest is not None and self.manifest["state"] == RunState.COMPLETE

    @property
    def manifest_is_foreign(self) -> bool:
        """Whether the manifest is another run's."""
        return self.manifest is not None and self.manifest["run_id"] != self.run.run_id

    @property
    def manifest_is_older(self) -> bool:
        """Whether the journal went on after the manifest was written."""
        return self.manifest is not None and self.manifest["journal_seq"] < self.snapshot.seq


async def read_run(store: RunStore) -> RunOnDisk | None:
    """The run in a directory; None where there is none. Changes nothing, and is safe while a run is on.

    Raises:
        DamagedError: what was committed is not there as it was written.
        RunDirectoryError: the run was written by a newer version.
    """
    found = await read_run_file(store)
    if found is None:
        return None
    run, run_sha256 = found
    # Before the journal: while a run is on, a manifest that is read later may know lines that weren't there yet.
    manifest = await read_manifest(store)
    snapshot = RunSnapshot(run.chunks, run.first_chunk)
    if (reused := run.reused) is not None:
        snapshot.begin_with_reused(reused.chunks, reused.bytes, reused.counts, reused.types, reused.accepted)
    reader = ReplayReader(f"{Log.JOURNAL} in {store.where}")
    try:
        async with closing(store.stream(Log.JOURNAL)) as blocks:
            async for block in blocks:
                _apply_block(block, reader, snapshot, run_sha256, store)
    except FileNotFoundError:
        pass
    # What a manifest counts was on the disk.
    counted = manifest["journal_seq"] if manifest is not None and manifest["run_id"] == run.run_id else 0
    torn_bytes = reader.finish_reading(counted)
    snapshot.end_reading()
    return RunOnDisk(store, run, run_sha256, snapshot, reader.good_end, torn_bytes, manifest)


def _apply_block(block: bytes, reader: ReplayReader, snapshot: RunSnapshot, run_sha256: str, store: RunStore) -> None:
    """Applies the block's lines: the loop through which 400,000 lines of a big run come by."""
    for entry, offset in reader.read_block(block):
        try:
            snapshot.replay_line(entry, offset)
        except (InternalError, LookupError, ValueError) as error:
            raise DamagedError(
                f"{reader.name}, line {entry.seq}, byte {offset}: what it says can't follow what came before ({error})",
                hint=DAMAGED_HINT,
            ) from None
        if (
            isinstance(entry, Entry)
            and entry.opened is not None
            and entry.opened.get("run_sha256", run_sha256) != run_sha256
        ):
            raise DamagedError(
                f"run.json in {store.where} is not the one that the journal was begun with", hint=DAMAGED_HINT
            )


async def cut_off_tails(store: RunStore, found: RunOnDisk) -> None:
    """Opens the logs behind what is committed of them, so that torn and uncommitted tails are gone. Only for the lock's
    holder, before anything is appended.

    Raises:
        DamagedError: a file is shorter than what was committed of it.
        StoreError: the journal has grown since it was read. Another process is at work, which the lock didn't keep
            out: it may have sent what stands in these lines.
    """
    size = await store.size(Log.JOURNAL) or 0
    if size > found.journal_end + found.torn_bytes:
        raise StoreError(
            f"{Log.JOURNAL} in {store.where} has grown since it was read: another process is at work on this run",
            hint="stop it, then the same command goes on; between machines, mount the file system with locks",
        )
    await store.open_log(Log.JOURNAL, found.journal_end)
    await store.open_log(Log.RESULTS, found.snapshot.results_end)
    await store.open_log(Log.FAILURES, found.snapshot.failures_end)
    await store.open_log(Log.PROVISIONAL, found.snapshot.provisional_end)
    for log in (Log.RESULTS, Log.FAILURES):
        if await store.size(log) is None:
            await store.create(log, b"")  # whoever reads a run finds both, also where one is empty
