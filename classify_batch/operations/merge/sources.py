"""The runs that are merged: which may be, and their outcomes as they were committed.

The outcomes of a run with shards are in several places. So most of this is about the parts of runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from classify_batch.errors import DamagedError, RunDirectoryError
from classify_batch.file_keys import file_key, file_keys
from classify_batch.inputs.dedupe import distinct
from classify_batch.operations.open_run import reused_part
from classify_batch.operations.reuse.earlier_outcomes import (
    EarlierRun,
    parse_each_line,
    read_proven_lines,
)
from classify_batch.operations.shards.whole import read_whole
from classify_batch.operations.status import no_run_error
from classify_batch.ports import RunPlace
from classify_batch.rundir.identity import differing_for_answers
from classify_batch.rundir.manifest_json import Manifest
from classify_batch.rundir.next_step import next_command
from classify_batch.rundir.opened_run import read_run
from classify_batch.rundir.outcome_ids import outcome_file_id, outcome_file_ids
from classify_batch.rundir.run_json import RunFile, identity_of_run
from classify_batch.shell_words import command_of
from classify_batch.store import open_store
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import RUN_JSON, Log

_HINT = "`classify-batch verify` names all damage; put the file back from a copy, and merge then"
_EXAMPLES_MAX = 3


@dataclass(frozen=True, slots=True)
class CompleteRun:
    """A run that is merged.

    Attributes:
        run: its run.json.
        parts: where its outcomes are: itself; or what it reused, and each of its shards.
    """

    place: RunPlace
    run: RunFile
    parts: Sequence[EarlierRun]


async def open_complete_run(place: RunPlace) -> CompleteRun:
    """The run in a directory, with all its shards.

    Raises:
        RunDirectoryError: there is none, or some of its files have no outcome yet.
        DamagedError: what was committed is not there as it was written.
    """
    whole = await read_whole(place)
    if whole is None:
        one = await _open_complete_part(place)
        return CompleteRun(place, one.run.run, [one])
    parts = [EarlierRun(place.open(), reused_part(whole))]
    for index, planned in enumerate(whole.ranges):
        shard = whole.shard_place(index)
        if shard.reader().size(RUN_JSON) is not None:
            parts.append(await _open_complete_part(shard))
        elif planned["files"]:
            raise RunDirectoryError(
                f"{place.where} is incomplete: its shard {index} was never begun, and a merged run has no holes",
                hint=f"let it go on to its end first: {command_of('resume', place.where)}",
            )
    return CompleteRun(place, whole.run, parts)


async def _open_complete_part(place: RunPlace) -> EarlierRun:
    store = open_store(place)
    found = await read_run(store)
    if found is None:
        raise no_run_error(place.where, await store.holder())
    if not (found.snapshot.complete and found.manifest_complete):
        if found.snapshot.complete:
            raise RunDirectoryError(
                f"{place.where} has all outcomes, and its manifest.json is not that of its end: its last process was "
                "killed, or an older copy was put back",
                hint=f"let `{command_of('resume', Path(place.where).absolute())}` write it anew first",
            )
        done = found.snapshot.outcomes.total()
        command = "" if found.manifest is None else f": {next_command(found.manifest, found.run, place.where)}"
        raise RunDirectoryError(
            f"{place.where} is incomplete: {done:,} of its {found.run.files:,} files have an outcome, and a merged run "
            "has no holes",
            hint=f"let it go on to its end first{command}",
        )
    return EarlierRun(store, found)


def refuse_different_questions(runs: Sequence[EarlierRun]) -> None:
    """Raises RunDirectoryError where a file could have got another answer in another of the runs."""
    first = runs[0]
    ours = identity_of_run(first.run.run)
    for other in runs[1:]:
        # Files may lie in several regions, each with a server of its own.
        settings = differing_for_answers(ours, identity_of_run(other.run.run))
        if differing := [setting for setting in settings if setting.key != "base_url"]:
            names = ", ".join(f"{setting.name} ({setting.setting})" for setting in differing)
            raise RunDirectoryError(
                f"{other.store.where} was asked something else than {first.store.where}: they differ in {names}",
                hint="merge runs of the same rules; `classify-batch diff` compares two that differ",
            )


def refuse_missing_shards(runs: Sequence[EarlierRun]) -> None:
    """Raises RunDirectoryError where some shards of a divided run are given, and others aren't, or not what it reused:
    that is in the directory of the whole run."""
    whole = {source.run.run_sha256 for source in runs if source.run.run.shards is not None}
    given: dict[tuple[str, int], set[int]] = {}
    without_reused = list[str]()
    for source in runs:
        if (shard := source.run.run.shard) is not None and shard["run_sha256"] not in whole:
            given.setdefault((shard["run_sha256"], shard["count"]), set()).add(shard["index"])
            if shard["index"] == 0 and shard["first_chunk"]:  # before it come the chunks that were reused
                without_reused.append(source.store.where)
    for (_, count), indexes in given.items():
        if missing := sorted(set(range(count)) - indexes):
            named = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
            which = f"shard {named} was" if len(missing) == 1 else f"shards {named} were"
            raise RunDirectoryError(
                f"a run has {count:,} shards, and {which} not given: a merged run has no holes",
                hint="name the directory of the whole run",
            )
    if without_reused:
        raise RunDirectoryError(
            f"the run that {without_reused[0]} is a shard of has reused outcomes, which no shard of it has: a merged "
            "run has no holes",
            hint="name the directory of the whole run",
        )


async def refuse_overlaps(runs: Sequence[EarlierRun], directory: Path | None) -> None:
    """Checks that each file has one outcome in all runs together, and every outcome against its checksum.

    `directory`: where temporary files go: up to twice the size of all IDs.

    Raises:
        RunDirectoryError: a file has outcomes in two runs.
        DamagedError: a run's outcomes are not as they were written, or not as many as its files.
    """
    once = distinct(_all_file_ids(runs), directory=directory)
    async with closing(aiter(once)) as batches:
        async for _ in batches:
            pass
    if not once.duplicates:
        return
    examples = once.examples[:_EXAMPLES_MAX]
    more = ", …" if once.duplicates > len(examples) else ""
    have = "1 file has" if once.duplicates == 1 else f"{once.duplicates:,} files have"
    places = " and ".join(await _places_of(runs, examples[0]))
    raise RunDirectoryError(
        f"{have} an outcome in more than one of the runs ({', '.join(examples)}{more}); {examples[0]} is in {places}",
        hint="leave one of the runs out; `classify-batch diff` compares runs of the same files",
    )


async def _all_file_ids(runs: Sequence[EarlierRun]) -> AsyncGenerator[list[str], None]:
    for source in runs:
        files = 0
        async with closing(read_proven_lines(source)) as results:
            async for _, file_ids, _ in results:
                files += len(file_ids)
                yield list(file_ids)
        async with closing(read_proven_failures(source)) as failures:
            async for some in failures:
                files += len(some.file_ids)
                yield some.file_ids
        run = source.run.run
        if files != (planned := run.files if run.shards is None else run.reused_files):
            raise DamagedError(f"{source.store.where} has {files:,} outcomes of {planned:,} planned files", hint=_HINT)


async def _places_of(runs: Sequence[EarlierRun], file_id: str) -> list[str]:
    """The directories of the runs that have an outcome of a file, however they spell its ID."""
    key, places = file_key(file_id), []
    for source in runs:
        async with closing(_all_file_ids([source])) as batches:
            async for batch in batches:
                if key in file_keys(batch):
                    places.append(source.store.where)
                    break
    return places


class FailureLines(NamedTuple):
    """Lines of failures.jsonl that follow each other, without newlines, and their file IDs."""

    lines: list[bytes]
    file_ids: list[str]


async def read_proven_failures(source: EarlierRun) -> AsyncGenerator[FailureLines, None]:
    """All committed lines of failures.jsonl, some at a time; the file's SHA-256 is held against the manifest's.

    Raises:
        DamagedError: the file is not as it was written.
    """
    end = source.run.snapshot.failures_end
    if not end:
        return
    where, digest, rest, number = f"{Log.FAILURES} in {source.store.where}", hashlib.sha256(), b"", 1
    async with closing(source.store.stream(Log.FAILURES, 0, end)) as blocks:
        async for block in blocks:
            digest.update(block)
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                yield FailureLines(whole.split(b"\n"), _ids_of_lines(whole + newline, where, number))
                number += whole.count(b"\n") + 1
    if rest or digest.hexdigest() != _recorded_sha256(source.run.manifest):
        raise DamagedError(f"{where} is not as it was written", hint=_HINT)


def _recorded_sha256(manifest: Manifest | None) -> str | None:
    outputs = None if manifest is None else manifest.get("outputs")
    output = None if outputs is None else outputs.get(Log.FAILURES.value)
    return None if output is None else output.get("sha256")


def _ids_of_lines(data: bytes, where: str, number: int) -> list[str]:
    try:
        return outcome_file_ids(data) or parse_each_line(data, outcome_file_id)
    except ValueError as error:
        line = number + getattr(error, "index", 0)
        raise DamagedError(f"{where}, line {line}: not an outcome", hint=_HINT) from None


async def stream_file(source: EarlierRun, name: str) -> AsyncIterator[bytes]:
    """A file of a run, in blocks; none where there is no such file."""
    if await source.store.size(name) is None:
        return
    async with closing(source.store.stream(name)) as blocks:
        async for block in blocks:
            yield block
