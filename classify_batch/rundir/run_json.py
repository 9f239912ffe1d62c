"""`run.json`: what a run is. Written once, last of all that planning writes: without it there is no run.

Free of heavy imports: `status` reads it in a blink. What it doesn't need (hashes, random numbers) is imported where it
is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar

from classify_batch.clock import to_iso
from classify_batch.errors import DamagedError, RunDirectoryError
from classify_batch.run_records import RunIdentity, StoredSettings, StoredWebhook
from classify_batch.rundir.identity import differing_for_answers, differing_parts
from classify_batch.rundir.typed_json import find_misfit
from classify_batch.vocabulary import RUN_JSON, SHARDS_FOLDER

if TYPE_CHECKING:
    from classify_batch.ports import Clock, RunPlace, RunStore
    from classify_batch.rundir.plan import PlanSummary
    from classify_batch.settings import Settings

FORMAT = 6
"""What this version reads. 2 is written where whoever knows 1 only would go wrong: where outcomes were reused, which it
would cut off, and where there are second looks, which it would take for first ones. 3 is written for v1: one line of
its journal may name several jobs for one attempt, which whoever knows 2 only would forget. 4 is written where a file
carries more than one object, of which whoever knows 3 only would write the first. 5 is written where the
input is a folder: the file IDs of the plan are contents, which no create may name. 6 is written where the run has
shards, which others send (whoever knows 5 only would send all of its files once more), for a shard, whose chunks don't
begin at 0, and where runs were merged, since failures may have to be tried again in those."""

_FOLDER_FORMAT = 5


class ReusedRun(TypedDict):
    """An earlier run, and how many files were taken over from it."""

    run_id: str
    run_dir: str
    files: int


class MergedRun(TypedDict):
    """A run that this one was merged of, as it was then. `files`: all of its files."""

    run_id: str
    run_dir: str
    files: int
    journal_seq: int


@dataclass(frozen=True, slots=True)
class Reused:
    """What a run took over from earlier ones when it was planned.

    Attributes:
        chunks: the plan's first ones, which hold the reused files and are done from the beginning.
        bytes: of results.jsonl, which begins with their outcomes; crc: the CRC-32 of these.
        counts, types: files by outcome, and by type; accepted: those that triage accepts, where it was asked for.
        runs: whose outcomes they were.
    """

    chunks: int
    files: int
    bytes: int
    crc: int
    counts: dict[str, int]
    types: dict[str, int]
    accepted: int
    runs: list[ReusedRun]


class ShardRange(TypedDict):
    """What a shard of a run has of its plan: so many chunks from `first_chunk` on, with so many files. They are the
    bytes from `start` to `end` of plan.jsonl, and have this SHA-256."""

    first_chunk: int
    chunks: int
    files: int
    start: int
    end: int
    sha256: str


class ShardOfRun(TypedDict):
    """Which shard a run is: number `index` of `count`, whose first chunk is `first_chunk`. `run_sha256`: of the whole
    run's run.json."""

    index: int
    count: int
    first_chunk: int
    run_sha256: str


class PlannedFolder(NamedTuple):
    """The folder that is the input: its absolute path, and the globs by which its documents are chosen."""

    path: str
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RunFile:
    """The contents of run.json. Readers ignore keys they don't know.

    Attributes:
        settings: as used when the run was planned, without secrets.
        identity: what a command must share with the run to go on with it.
        files: distinct file IDs; duplicates: repeated ones that were left out.
        reused: what was taken over from earlier runs; None where nothing was.
        inputs: how each text among the inputs was read; None: a version planned the run that didn't write it down.
        folder: the absolute path of the folder that is the input; None: the input is no folder.
        include, exclude: globs by which the folder's documents were chosen; None: the input is no folder, or a version
            planned the run that didn't write them down.
        merged: the runs that it was merged of; None: it was planned. A merged run sends nothing.
        shards: the shards by which the run is carried out, each in a run directory of its own; None: it has none.
        shard: which shard of another run it is; None: it is none.
    """

    format: int
    run_id: str
    created_at: str
    settings: StoredSettings
    identity: RunIdentity
    files: int
    duplicates: int
    chunks: int
    plan_sha256: str
    reused: Reused | None = None
    inputs: list[dict[str, object]] | None = None
    folder: str | None = None
    include: list[str] | None = None
    exclude: list[str] | None = None
    merged: list[MergedRun] | None = None
    shards: list[ShardRange] | None = None
    shard: ShardOfRun | None = None

    @property
    def first_chunk(self) -> int:
        """The number of the plan's first chunk."""
        return 0 if self.shard is None else self.shard["first_chunk"]

    @property
    def reused_files(self) -> int:
        """Files whose outcomes were taken over."""
        return 0 if self.reused is None else self.reused.files

    @property
    def reused_bytes(self) -> int:
        """With how much of results.jsonl the run began."""
        return 0 if self.reused is None else self.reused.bytes


def parse_run_file(data: bytes, where: str, *, takes_shards: bool = False) -> RunFile:
    """The run in the bytes of a run.json. `where`: the file's name for messages. `takes_shards`: whether the caller
    knows what to do about a run with shards, whose outcomes are not in its own directory.

    Raises:
        DamagedError: the file is not what was written.
        RunDirectoryError: it was written by a newer version; or it has shards, and the caller can't take them.
    """
    try:
        values = json.loads(data)
        written_format = values["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged_error(where, str(error)) from None
    # Before anything else is judged: what a newer version wrote is no damage.
    if isinstance(written_format, int) and written_format > FORMAT:
        raise RunDirectoryError(
            f"{where} has format {written_format}, and this version reads up to {FORMAT}",
            hint="go on with the version of classify-batch that began the run, or a newer one",
        )
    reused = values.get("reused")
    run = _read_record(RunFile, {**dict.fromkeys(_LATER_KEYS), **values, "reused": None}, where)
    if run.shards is not None and not takes_shards:
        raise RunDirectoryError(
            f"{where}: the run has {len(run.shards)} shards, and this is not possible with all of them together",
            hint=f"name the directory of one shard, such as {SHARDS_FOLDER}/{shard_name(0)} in it",
        )
    if reused is None:
        return run
    if not isinstance(reused, dict):
        raise damaged_error(where, "reused: not what it must be")
    return replace(run, reused=_read_record(Reused, reused, where, "reused."))


_LATER_KEYS = ("inputs", "folder", "include", "exclude", "merged", "shards", "shard")
"""Which versions of 0.2 and before didn't write."""

Record = TypeVar("Record", bound="RunFile | Reused")


def _read_record(kind: type[Record], values: Mapping[str, object], where: str, prefix: str = "") -> Record:
    if (misfit := find_misfit(values, kind)) is not None:
        raise damaged_error(where, prefix + misfit)
    known: dict[str, Any] = {field.name: values[field.name] for field in fields(kind)}
    return kind(**known)


def damaged_error(where: str, why: str) -> DamagedError:
    return DamagedError(
        f"{where} is damaged: {why}", hint="put the file back from a copy, or begin a new run directory"
    )


def shard_name(index: int) -> str:
    """The name of a shard's folder."""
    return f"{index:05d}"


def shard_place(run: RunPlace, index: int) -> RunPlace:
    """Where a shard of the run in a place is."""
    return run.child(SHARDS_FOLDER).child(shard_name(index))


async def write_run_file(
    store: RunStore,
    settings: Settings,
    plan: PlanSummary,
    duplicates: int,
    clock: Clock,
    reused: Reused | None = None,
    inputs: list[dict[str, object]] | None = None,
    folder: PlannedFolder | None = None,
    shards: list[ShardRange] | None = None,
) -> tuple[RunFile, str]:
    """Makes a planned run be. Returns it with the SHA-256 of its file."""
    from uuid import uuid4  # noqa: PLC0415 - see the head of this file

    written_format = lowest_format_for(settings, reused, carries_lists=plan.carries_lists)
    if folder is not None:
        written_format = _FOLDER_FORMAT
    run = RunFile(
        format=written_format if shards is None else FORMAT,
        run_id=str(uuid4()),
        created_at=to_iso(clock.wall_s()),
        settings=settings.to_stored(),
        identity=settings.identity() | {"ids_sha256": plan.ids_sha256},
        files=plan.files,
        duplicates=duplicates,
        chunks=plan.chunks,
        plan_sha256=plan.sha256,
        reused=reused,
        inputs=inputs,
        folder=None if folder is None else folder.path,
        include=None if folder is None else [*folder.include],
        exclude=None if folder is None else [*folder.exclude],
        shards=shards,
    )
    return run, await create_run_file(store, run)


def merged_run_file(
    settings: StoredSettings,
    identity: RunIdentity,
    plan: PlanSummary,
    duplicates: int,
    clock: Clock,
    reused: Reused,
    merged: list[MergedRun],
) -> RunFile:
    """What run.json says of a run that is merged of others."""
    from uuid import uuid4  # noqa: PLC0415 - see the head of this file

    return RunFile(
        format=FORMAT,
        run_id=str(uuid4()),
        created_at=to_iso(clock.wall_s()),
        settings=settings,
        identity={**identity, "ids_sha256": plan.ids_sha256},
        files=plan.files,
        duplicates=duplicates,
        chunks=plan.chunks,
        plan_sha256=plan.sha256,
        reused=reused,
        merged=merged,
    )


async def create_run_file(store: RunStore, run: RunFile) -> str:
    """Makes the run be: last of all that its planning writes. Returns the SHA-256 of its file."""
    known = {name: value for name, value in asdict(run).items() if value is not None}
    text = json.dumps(known, indent=2, ensure_ascii=False)
    data = text.encode("utf-8", "backslashreplace") + b"\n"  # a lone surrogate in a type becomes its JSON escape
    # Last of all a run's files, and never over another one: from here on there is a run, and the name decides a race.
    await store.create(RUN_JSON, data)
    return _sha256_of(data)


def lowest_format_for(settings: Settings, reused: Reused | None, *, carries_lists: bool) -> int:
    """The lowest that no older version would misread."""
    if carries_lists:
        return 4
    if not settings.api.capabilities.idempotent_creates:
        return 3
    return 1 if reused is None and settings.escalation is None else 2


async def read_run_file(store: RunStore, *, takes_shards: bool = False) -> tuple[RunFile, str] | None:
    """The run in a directory, with the SHA-256 of its file; None where there is none. `takes_shards`: as
    `parse_run_file`.

    Raises:
        DamagedError: the file is not what was written.
        RunDirectoryError: it was written by a newer version; or it has shards, and the caller can't take them.
    """
    try:
        data = await store.read(RUN_JSON)
    except FileNotFoundError:
        return None
    return parse_run_file(data, f"{RUN_JSON} in {store.where}", takes_shards=takes_shards), _sha256_of(data)


def _sha256_of(data: bytes) -> str:
    from hashlib import sha256  # noqa: PLC0415 - see the head of this file

    return sha256(data).hexdigest()


def refuse_other_run(run: RunFile, identity: RunIdentity, where: str) -> None:
    """Raises RunDirectoryError naming everything in which a command differs from the run."""
    ours = identity_of_run(run)
    differences = [
        f"{part.name} ({part.setting}): the run has {_shorten_json(part.read_value(ours))}, "
        f"the command {_shorten_json(part.read_value(identity))}"
        for part in differing_parts(ours, identity)
        # In what the parts of a merged run differ it doesn't say.
        if run.merged is None or part.read_value(ours) is not None
    ]
    if differences:
        hint = "give the settings that the run was begun with, or name a new run directory"
        if not differing_for_answers(ours, identity):
            hint += f"; there, `--reuse {where}` pays nothing again"
        raise RunDirectoryError(f"{where} holds another run:\n  " + "\n  ".join(differences), hint=hint)


def identity_of_run(run: RunFile) -> RunIdentity:
    """A run's identity. Version 0.2 kept the organization among the settings only."""
    return {"organization_id": run.settings.get("api", {}).get("organization_id"), **run.identity}


def other_webhooks(run: RunFile, settings: Settings) -> str:
    """In what the command's webhooks differ from those that the run was planned with; empty where they don't. The
    values of headers are stored nowhere, so only their names are compared."""
    planned, given = (
        [comparable_webhook(webhook) for webhook in stored.get("job", {}).get("webhook_configurations") or ()]
        for stored in (run.settings, settings.to_stored())
    )
    return (
        ""
        if planned == given
        else f"the run was planned with {_shorten_json(planned)}, the command has {_shorten_json(given)}"
    )


def comparable_webhook(webhook: StoredWebhook) -> dict[str, object]:
    known: dict[str, object] = {**webhook, "webhook_headers": sorted(webhook.get("webhook_headers") or ())}
    return {name: value for name, value in known.items() if value}


def _shorten_json(value: object) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "…"
