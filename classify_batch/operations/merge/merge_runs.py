"""Writes the merged run: results, plan, run.json, then the failures with a journal that says they were never sent.

Until run.json is there, there is no run, and the same command begins again; from then on it goes on behind what is
committed. No other command sends anything for a merged run: what was ambiguous in a source can be found there only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast
from zlib import crc32

import msgspec

from classify_batch.clock import SystemClock
from classify_batch.engine.sessions import process_here
from classify_batch.errors import RunDirectoryError, UsageError
from classify_batch.lifecycle import Closed, Ended, Opened, Submitting, Tally
from classify_batch.model import AttemptKey, Part
from classify_batch.operations.merge.sources import (
    CompleteRun,
    open_complete_run,
    read_proven_failures,
    refuse_different_questions,
    refuse_missing_shards,
    refuse_overlaps,
    stream_file,
)
from classify_batch.operations.new_loop import refuse_no_asyncio, run_in_new_loop
from classify_batch.operations.plan import read_existing_run, refuse_orphaned_files
from classify_batch.operations.result import RunResult
from classify_batch.operations.reuse.copied_lines import copy_lines
from classify_batch.operations.reuse.count_accepted import count_accepted
from classify_batch.operations.reuse.earlier_outcomes import EarlierRun, parse_file_ids, read_whole_lines
from classify_batch.operations.reuse.earlier_runs import Reuse, find_run_places
from classify_batch.operations.reuse.outcome_answers import AnswerCounts
from classify_batch.operations.run_resources import lock_run_directory
from classify_batch.ports import Clock, RunPlace, RunStore
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.rundir.manifest_json import Manifest, exit_status_of, manifest_of, write_manifest
from classify_batch.rundir.next_step import tolerated_percentage
from classify_batch.rundir.opened_run import RunOnDisk, cut_off_tails, read_run
from classify_batch.rundir.plan import write_plan
from classify_batch.rundir.run_json import MergedRun, Reused, RunFile, create_run_file, identity_of_run, merged_run_file
from classify_batch.settings import TriageSettings
from classify_batch.store import Location, place_of
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import LIMITS, Spool
from classify_batch.vocabulary import FILES_PER_JOB_MAX, PATHS_JSONL, Kind, Log, OutcomeKind, RunState

if TYPE_CHECKING:
    from classify_batch.run_records import RunIdentity, StoredSettings

_LINES_TOGETHER = 4096
"""So many lines are written at once: each write switches to a thread."""


def merge(run_dirs: Reuse, output: Location, *, trust_run_dir: bool = False) -> RunResult:
    """Makes one run of complete runs of different files: all of their outcomes. Nothing is called, and the runs stay as
    they are.

    The merged run can be read like any other, by `open_run`, `export`, `diff` and as `reuse` of a new run. It sends
    nothing itself: failures are tried again in the runs that were merged.

    Args:
        run_dirs: at least two run directories, or folders of them; or one such folder. A run may have shards.
        output: the directory of the merged run; the same call goes on with what an interrupted one has left.
        trust_run_dir: see `run`; for `output`.

    Raises:
        UsageError: a run isn't complete, or was asked something else than the others; a file is in two of them; the
            output holds another run; or it was called inside a running event loop (use `await amerge(…)` there).
        WorldError: another process is merging into the output, or the disk refuses a write.
    """
    return run_in_new_loop("merge", partial(amerge, run_dirs, output, trust_run_dir=trust_run_dir))


async def amerge(run_dirs: Reuse, output: Location, *, trust_run_dir: bool = False) -> RunResult:
    """`merge` inside an event loop."""
    refuse_no_asyncio("amerge")
    place = place_of(output, trusted=trust_run_dir)
    async with AsyncExitStack() as stack:
        places = find_run_places(run_dirs, place)
        runs = [await open_complete_run(each) for each in places]
        if len(runs) < 2:
            raise UsageError(
                "there is only one run to merge" if runs else "there is no run to merge",
                hint="name at least two run directories, or a folder that holds them",
            )
        parts = [part for run in runs for part in run.parts]
        refuse_different_questions(parts)
        refuse_missing_shards(parts)
        store = await lock_run_directory(place, stack)
        found = await read_run(store)
        if found is None:
            await refuse_orphaned_files(store)
            await _plan_merged_run(store, runs, parts, place.folder)
            found = await read_existing_run(store)
        _refuse_another_run(found.run, runs, place)
        was_complete = found.manifest_complete
        manifest = found.manifest if was_complete else None
        if manifest is None:
            manifest = await _write_failures(store, found, parts)
        status = exit_status_of(found.snapshot.outcomes, tolerated_percentage({}, found.run))
        return RunResult(place, RunState.COMPLETE, status, "", "", manifest, called=not was_complete)


def _refuse_another_run(run: RunFile, runs: Sequence[CompleteRun], place: RunPlace) -> None:
    """Raises RunDirectoryError where the output holds a run that was not merged of just these runs."""
    merged = {(each["run_id"], each["journal_seq"]) for each in run.merged or ()}
    if merged != {(each["run_id"], each["journal_seq"]) for each in _merged_of(runs)}:
        raise RunDirectoryError(
            f"{place.where} holds another run", hint="name a new directory to --output, or the runs of this one"
        )


def _merged_of(runs: Sequence[CompleteRun]) -> list[MergedRun]:
    return [
        {
            "run_id": each.run.run_id,
            "run_dir": str(Path(each.place.where).absolute()),
            "files": each.run.files,
            "journal_seq": sum(part.run.snapshot.seq for part in each.parts),
        }
        for each in runs
    ]


# --- What makes it a run ----------------------------------------------------------------------------------------------


async def _plan_merged_run(
    store: RunStore, runs: Sequence[CompleteRun], parts: Sequence[EarlierRun], directory: Path | None
) -> None:
    await refuse_overlaps(parts, directory)
    identity, settings = _common_identity(parts), _common_settings(parts)
    with Spool(directory, LIMITS) as chunks:
        answers = _CopiedAnswers(parts, chunks)
        await store.replace(Log.RESULTS, answers.merged_blocks())
        triage = settings.get("triage")
        accepted = await count_accepted(store, None if triage is None else TriageSettings.model_validate(triage))
        plan = await write_plan(store, _plan_chunks(chunks, parts))
    if any([await source.store.size(PATHS_JSONL) is not None for source in parts]):
        await store.replace(PATHS_JSONL, _stream_joined_files(parts, PATHS_JSONL))
    run = merged_run_file(
        settings,
        identity,
        plan,
        sum(source.run.run.duplicates for source in parts),
        SystemClock(),
        answers.summarize(accepted),
        _merged_of(runs),
    )
    await create_run_file(store, run)


def _common_identity(runs: Sequence[EarlierRun]) -> RunIdentity:
    """The first run's; without what others have otherwise, and with the columns that any of them carries."""
    identities = [identity_of_run(source.run.run) for source in runs]
    common = {key: value for key, value in identities[0].items() if all(each.get(key) == value for each in identities)}
    for setting in ("mode", "rules", "parsing_configuration", "escalation"):
        if setting in identities[0]:  # these may be spelled otherwise, and mean the same
            common[setting] = identities[0].get(setting)
    common["carry"] = _carried_columns(runs)
    return cast("RunIdentity", common)


def _common_settings(runs: Sequence[EarlierRun]) -> StoredSettings:
    """The first run's, as far as they say anything of a run that sends nothing."""
    settings = [source.run.run.settings for source in runs]
    first = dict(settings[0])
    first["job"] = {key: value for key, value in settings[0].get("job", {}).items() if not key.startswith("webhook")}
    first["plan"] = {**settings[0].get("plan", {}), "carry": _carried_columns(runs)}
    if any(each.get("triage") != settings[0].get("triage") for each in settings):
        first.pop("triage", None)
    return cast("StoredSettings", first)


def _carried_columns(runs: Sequence[EarlierRun]) -> list[str]:
    return list(dict.fromkeys(name for source in runs for name in source.run.run.identity.get("carry") or ()))


class _CopiedAnswers:
    """Copies the results of all runs, a chunk at a time; a chunk never holds lines of two runs."""

    def __init__(self, runs: Sequence[EarlierRun], chunks: Spool) -> None:
        self._runs = runs
        self._chunks = chunks
        self._count = self._bytes = self._crc = 0
        self._answers = AnswerCounts()

    async def merged_blocks(self) -> AsyncGenerator[bytes, None]:
        for source in self._runs:
            lines: list[bytes] = []
            file_ids: list[str] = []
            snapshot = source.run.snapshot
            answered = {kind: files for kind, files in snapshot.outcomes.items() if kind != OutcomeKind.FAILED}
            self._answers.add_counts(answered, snapshot.types)
            async with closing(read_whole_lines(source.store, snapshot.results_end, parse_file_ids)) as stream:
                async for data, ids, _ in stream:
                    lines += data.split(b"\n")
                    lines.pop()  # the empty string behind the last newline
                    file_ids += ids
                    if len(lines) >= _LINES_TOGETHER:
                        whole = len(lines) - len(lines) % FILES_PER_JOB_MAX
                        yield self._copy_lines(source, lines[:whole], file_ids[:whole])
                        del lines[:whole], file_ids[:whole]
            if lines:
                yield self._copy_lines(source, lines, file_ids)

    def _copy_lines(self, source: EarlierRun, lines: list[bytes], file_ids: list[str]) -> bytes:
        copied = []
        for start in range(0, len(lines), FILES_PER_JOB_MAX):
            end = start + FILES_PER_JOB_MAX
            self._chunks.add_ids(file_ids[start:end])
            copied.append(copy_lines(lines[start:end], self._count, source.run.run.run_id))
            self._count += 1
        data = b"".join(copied)
        self._bytes += len(data)
        self._crc = crc32(data, self._crc)
        return data

    def summarize(self, accepted: int) -> Reused:
        counts, types = self._answers.totals
        return Reused(
            chunks=self._count,
            files=sum(counts.values()),
            bytes=self._bytes,
            crc=self._crc,
            counts=counts,
            types=types,
            accepted=accepted,
            runs=[
                {"run_id": source.run.run.run_id, "run_dir": source.store.where, "files": answered}
                for source in self._runs
                if (answered := _answered_files(source))
            ],
        )


def _answered_files(source: EarlierRun) -> int:
    return source.run.snapshot.outcomes.total() - source.run.snapshot.outcomes[OutcomeKind.FAILED]


async def _plan_chunks(answered: Spool, runs: Sequence[EarlierRun]) -> AsyncGenerator[Sequence[str], None]:
    for file_ids in answered.replay_ids():
        yield file_ids
    async with closing(_failed_chunks(runs)) as chunks:
        async for _, _, failed_ids in chunks:
            yield failed_ids


async def _failed_chunks(runs: Sequence[EarlierRun]) -> AsyncGenerator[tuple[EarlierRun, list[bytes], list[str]], None]:
    """The failures of all runs, a chunk at a time; a chunk never holds lines of two runs."""
    for source in runs:
        lines: list[bytes] = []
        file_ids: list[str] = []
        async with closing(read_proven_failures(source)) as stream:
            async for some in stream:
                lines += some.lines
                file_ids += some.file_ids
                while len(lines) >= FILES_PER_JOB_MAX:
                    yield source, lines[:FILES_PER_JOB_MAX], file_ids[:FILES_PER_JOB_MAX]
                    del lines[:FILES_PER_JOB_MAX], file_ids[:FILES_PER_JOB_MAX]
        if lines:
            yield source, lines, file_ids


async def _stream_joined_files(runs: Sequence[EarlierRun], name: str) -> AsyncIterator[bytes]:
    for source in runs:
        async with closing(stream_file(source, name)) as blocks:
            async for block in blocks:
                yield block


# --- Failures, journal and manifest -----------------------------------------------------------------------------------


class _Code(msgspec.Struct):
    code: str


async def _write_failures(store: RunStore, found: RunOnDisk, runs: Sequence[EarlierRun]) -> Manifest:
    """Commits the failures that aren't yet, and ends the run. Only for the lock's holder."""
    clock, run, snapshot = SystemClock(), found.run, found.snapshot
    started_at_s = clock.wall_s()
    await cut_off_tails(store, found)
    journal = JournalWriter(store, snapshot, clock)
    opened = {"run_sha256": found.run_sha256, "limits": run.settings.get("limits", {}), **process_here()}
    journal.record_about_run(Kind.OPENED, cast(Opened, opened))
    chunk = 0 if run.reused is None else run.reused.chunks
    async with closing(_failed_chunks(runs)) as chunks:
        async for source, lines, _ in chunks:
            if not snapshot.is_done(chunk):
                _end_chunk(journal, clock, chunk, lines, source.run.run.run_id)
                await journal.wait_durable()
            chunk += 1
    status = exit_status_of(snapshot.outcomes, tolerated_percentage({}, run))
    closed: Closed = {"state": RunState.COMPLETE, "reason": None, "exit_status": int(status), "requests": 0}
    journal.record_about_run(Kind.CLOSED, closed)
    await journal.wait_durable()
    manifest = manifest_of(
        run,
        snapshot,
        state=RunState.COMPLETE,
        requests=0,
        started_at_s=started_at_s,
        stopped_at_s=clock.wall_s(),
        exit_status=status,
    )
    return await write_manifest(store, run, snapshot, manifest)


def _end_chunk(journal: JournalWriter, clock: Clock, chunk: int, lines: list[bytes], run_id: str) -> None:
    """A chunk of failed files: intended and ended in one breath, so that for every reader it was never sent."""
    key, codes = AttemptKey(chunk, 1), Counter(msgspec.json.decode(line, type=_Code).code for line in lines)
    journal.record(Submitting(key, Part(chunk), clock.wall_s()))
    segment = journal.append(Log.FAILURES, copy_lines(lines, chunk, run_id))
    tally = Tally({OutcomeKind.FAILED.value: len(lines)}, codes=dict(codes))
    journal.record(Ended(key, Kind.REJECTED, failures=segment, tally=tally))
