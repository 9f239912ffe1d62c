"""`manifest.json`: what a run hands on, whole at the start and at every stop.

`status` shows the same keys at any time. So this file is free of heavy imports.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

from classify_batch.clock import to_iso
from classify_batch.errors import DamagedError, ExitStatus
from classify_batch.run_records import StartKeys
from classify_batch.rundir.failure_messages import READ_BYTES_MAX, FailureMessage, count_messages
from classify_batch.rundir.journal.line import DAMAGED_HINT
from classify_batch.rundir.journal.totals import AccountSums, Totals
from classify_batch.rundir.next_step import add_next_step, needs_config
from classify_batch.rundir.percentages import Percentiles, percentiles_of
from classify_batch.rundir.run_json import RunFile
from classify_batch.rundir.typed_json import find_misfit
from classify_batch.streams.single_block import single_block
from classify_batch.vocabulary import (
    ACCEPTED,
    BILLED,
    CREDITS,
    MANIFEST_JSON,
    PLAN_JSONL,
    SECOND_LOOKS,
    UNBILLED,
    Log,
    OutcomeKind,
    RunState,
    earlier_failures_name,
)

if TYPE_CHECKING:
    from classify_batch.ports import RunStore
    from classify_batch.rundir.journal.replay import RunSnapshot


class Output(TypedDict):
    """A file of the run. `sha256`: once the run is complete."""

    lines: int
    bytes: int
    sha256: NotRequired[str]


class Credits(TypedDict):
    """`reserved`: what the run can have cost at most; `billed`: None where a bill isn't known."""

    reserved: float
    billed: float | None


class ShardKeys(TypedDict):
    """How far a shard of a run is: `done` of its `files` have their outcome. `state` and `exit_status`, as in its own
    manifest."""

    shard: int
    state: str
    exit_status: int | None
    files: int
    done: int


class AccountShare(TypedDict):
    """What was done with an account's key: files that have their outcome, accepted jobs, and credits, as in `Credits`.
    `open`: jobs, and creates that may have been accepted, of which the account has yet to find out what became of them;
    as of the last start or stop."""

    files: int
    jobs: int
    credits: float
    open: int


class HolderKeys(TypedDict):
    """The process that holds a run."""

    host: str
    pid: int
    since: str


class Manifest(TypedDict):
    """The keys of manifest.json. Older versions wrote fewer of them.

    `outputs` are the run's files, by name: known at a stop, and so are `failure_messages` (of the first `failures_read`
    failures) and `waiting_s`, which requests waited for their turn. `holder` and `time_left_s` are shown by `status`
    only. `next` is a command, `starts` are the last processes of `start_count`. `job_s` is of the last jobs.
    `cancel` says how far the cancelling of the run is (see `CancelState`), where it was cancelled and nobody has gone
    on since. `config`: the absolute path of the config that the last process was given, where a resume needs it;
    `trusted`: whether it was asked to trust the directory; `merged`: of how many runs it was merged. Each is there only
    where it is so. `shards`: of a run that has some; all other keys are sums over them then.
    `accounts`: by name, where there are any.
    """

    state: str
    reason: str | None
    exit_status: int | None
    run_id: str
    started_at: str | None
    stopped_at: str | None
    files: int
    reused: NotRequired[int]
    merged: NotRequired[int]
    counts: dict[str, int]
    types: dict[str, int]
    failure_codes: dict[str, int]
    triage: NotRequired[dict[str, int] | None]
    second_looks: NotRequired[int]
    credits: NotRequired[Credits]
    jobs: int
    requests: int
    journal_seq: int
    outputs: NotRequired[dict[str, Output] | None]
    discovered: NotRequired[dict[str, float]]
    duplicates: NotRequired[int]
    holder: NotRequired[HolderKeys]
    cancel: NotRequired[str]
    hint: NotRequired[str | None]
    next: NotRequired[str]
    starts: NotRequired[list[StartKeys]]
    start_count: NotRequired[int]
    limits: NotRequired[dict[str, object]]
    failure_messages: NotRequired[list[FailureMessage]]
    failures_read: NotRequired[int]
    failures_worth_a_retry: NotRequired[int]
    job_s: NotRequired[Percentiles | None]
    waiting_s: NotRequired[Percentiles | None]
    time_left_s: NotRequired[float | None]
    config: NotRequired[str | None]
    trusted: NotRequired[bool]
    shards: NotRequired[list[ShardKeys]]
    accounts: NotRequired[dict[str, AccountShare]]


def parse_manifest(data: bytes) -> Manifest | None:
    """The manifest in the bytes of a manifest.json; None where they are none. It only repeats what the journal says, so
    that nobody needs it."""
    try:
        values = json.loads(data)
    except ValueError:
        return None
    sound = isinstance(values, dict) and find_misfit(values, Manifest) is None
    return cast(Manifest, values) if sound else None


def counts_of(outcomes: Mapping[str, int]) -> dict[str, int]:
    """Counts by outcome, each named, also where it is 0."""
    return {kind: outcomes.get(kind, 0) for kind in map(str, OutcomeKind)}


def manifest_keys(
    run: RunFile,
    totals: Totals,
    *,
    state: str,
    requests: int,
    started_at: str | None,
    stopped_at: str | None = None,
    reason: str | None = None,
    exit_status: int | None = None,
) -> Manifest:
    """The manifest's keys, but for those of the files."""
    manifest: Manifest = {
        "state": state,
        "reason": reason,
        "exit_status": exit_status,
        "run_id": run.run_id,
        "started_at": started_at,
        "stopped_at": stopped_at,
        "files": run.files,
        "duplicates": run.duplicates,
        "reused": run.reused_files,
        "counts": counts_of(totals.outcomes),
        "types": dict(totals.types.most_common()),
        "failure_codes": dict(totals.codes.most_common()),
        "triage": triage_counts(run, totals),
        "second_looks": int(totals.sums[SECOND_LOOKS]),
        "credits": {
            "reserved": without_decimal_point(totals.sums[CREDITS]),
            "billed": billed_credits(totals.sums),
        },
        "discovered": dict(totals.found),
        "job_s": percentiles_of(totals.durations),
        "jobs": totals.jobs,
        "requests": requests,
        "journal_seq": totals.seq,
    }
    if run.merged is not None:
        manifest["merged"] = len(run.merged)
    if totals.accounts:
        manifest["accounts"] = {name: share_of_account(sums) for name, sums in totals.accounts.items()}
    return manifest


def share_of_account(sums: AccountSums, attempts: int = 0) -> AccountShare:
    """An account's sums, with the attempts that it has open."""
    files, credits = sum(sums["counts"].values()), without_decimal_point(sums["credits"])
    return {"files": files, "jobs": sums["jobs"], "credits": credits, "open": attempts}


def add_failure_messages(manifest: Manifest, data: bytes) -> None:
    """Adds what the failures say. `data`: the beginning of failures.jsonl."""
    messages, read, worth = count_messages(data, manifest["counts"][OutcomeKind.FAILED])
    manifest["failure_messages"], manifest["failures_read"] = messages, read
    manifest["failures_worth_a_retry"] = worth


def triage_counts(run: RunFile, totals: Totals) -> dict[str, int] | None:
    """Who has to look at what; None where nobody asked."""
    if run.settings.get("triage") is None:
        return None
    counts = counts_of(totals.outcomes)
    accepted = int(totals.sums[ACCEPTED])
    review = counts["classified"] - accepted
    return {"accepted": accepted, "review": review, **{kind: counts[kind] for kind in ("unmatched", "failed")}}


def billed_credits(sums: Mapping[str, float]) -> float | None:
    """A sum of some of the bills is no bill: None where one isn't known, or where an earlier version added up what
    no sum can hold."""
    billed = sums.get(BILLED)
    return None if billed is None or sums.get(UNBILLED) or not isfinite(billed) else without_decimal_point(billed)


def without_decimal_point(value: float) -> float:
    """Whole numbers without a point."""
    return int(value) if float(value).is_integer() else round(value, 6)


def failed_percentage(outcomes: Mapping[str, int]) -> float:
    """Failed files among those with an outcome, in percent."""
    total = sum(outcomes.values())
    return 100 * outcomes.get(OutcomeKind.FAILED, 0) / total if total else 0.0


def exit_status_of(outcomes: Mapping[str, int], tolerated_percentage: float) -> ExitStatus:
    """The status of a complete run."""
    if failed_percentage(outcomes) > tolerated_percentage:
        return ExitStatus.FAILURES
    return ExitStatus.COMPLETE


def manifest_of(
    run: RunFile,
    snapshot: RunSnapshot,
    *,
    state: RunState,
    requests: int,
    started_at_s: float,
    stopped_at_s: float | None = None,
    reason: str | None = None,
    exit_status: ExitStatus | None = None,
    hint: str = "",
    waits_s: Iterable[float] = (),
    config: str | None = None,
    trusted: bool = False,
) -> Manifest:
    """The manifest's keys, but for those of the files. `waits_s`: for how long requests waited for their turn; `config`
    and `trusted`: what this process was given."""
    manifest = manifest_keys(
        run,
        snapshot,
        state=state.value,
        requests=requests,
        started_at=to_iso(started_at_s),
        stopped_at=None if stopped_at_s is None else to_iso(stopped_at_s),
        reason=reason,
        exit_status=None if exit_status is None else int(exit_status),
    )
    manifest["hint"] = hint or None
    if snapshot.accounts:
        open_attempts = snapshot.open_by_account()
        manifest["accounts"] = {
            name: share_of_account(sums, open_attempts[name]) for name, sums in snapshot.accounts.items()
        }
    manifest["starts"], manifest["start_count"] = list(snapshot.starts.kept), snapshot.starts.count
    manifest["limits"] = dict(snapshot.starts.limits)
    manifest["waiting_s"] = percentiles_of(waits_s)
    if config is not None and (needs_config(run) or snapshot.account is not None):
        manifest["config"] = config
    if trusted:
        manifest["trusted"] = True
    if snapshot.cancel is not None:
        manifest["cancel"] = snapshot.cancel.value
    return manifest


async def write_manifest(store: RunStore, run: RunFile, snapshot: RunSnapshot, manifest: Manifest) -> Manifest:
    """Adds each file's lines and bytes (and, once complete, its SHA-256) and puts the manifest in place."""
    lines = {
        PLAN_JSONL: run.chunks,
        Log.JOURNAL.value: snapshot.seq,
        Log.RESULTS.value: sum(snapshot.outcomes.values()) - snapshot.outcomes[OutcomeKind.FAILED],
        Log.FAILURES.value: snapshot.outcomes[OutcomeKind.FAILED],
    } | {earlier_failures_name(number): count for number, (count, _) in enumerate(snapshot.earlier_failures, 1)}
    if snapshot.provisional_end:
        lines[Log.PROVISIONAL.value] = int(snapshot.sums[SECOND_LOOKS])
    complete = manifest["state"] == RunState.COMPLETE
    ends = {Log.RESULTS.value: snapshot.results_end, Log.FAILURES.value: snapshot.failures_end}
    outputs: dict[str, Output] = {}
    for name, count in lines.items():
        outputs[name] = {"lines": count, "bytes": await store.size(name) or 0}
        if complete:
            if outputs[name]["bytes"] < ends.get(name, 0):  # a manifest that vouches for it would hide what is lost
                raise DamagedError(
                    f"{name} in {store.where} has {outputs[name]['bytes']} bytes, but {ends[name]} were committed",
                    hint=DAMAGED_HINT,
                )
            outputs[name]["sha256"] = await store.sha256(name)
    whole: Manifest = {**manifest, "outputs": outputs}
    if manifest["state"] != RunState.RUNNING:
        failed = snapshot.outcomes[OutcomeKind.FAILED]
        add_failure_messages(whole, await store.read(Log.FAILURES, 0, READ_BYTES_MAX) if failed else b"")
    add_next_step(whole, run, store.where)
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    # A type may hold a lone surrogate.
    await store.replace(MANIFEST_JSON, single_block(text.encode("utf-8", "backslashreplace")))
    return whole


async def read_manifest(store: RunStore) -> Manifest | None:
    """The manifest; None where there is none, or none that can be read."""
    try:
        return parse_manifest(await store.read(MANIFEST_JSON))
    except FileNotFoundError:
        return None
