"""`manifest.json`: what a run hands on, whole at the start and at every stop.

`status` shows the same keys at any moment. So this file is free of heavy imports.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from classify_batch.clock import to_iso
from classify_batch.errors import ExitStatus
from classify_batch.rundir.journal.totals import Totals
from classify_batch.rundir.run_json import RunFile
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


def counts_of(outcomes: Mapping[str, int]) -> dict[str, int]:
    """Counts by outcome, each named, also where it is 0."""
    return {kind: outcomes.get(kind, 0) for kind in map(str, OutcomeKind)}


def keys_of(
    run: RunFile,
    totals: Totals,
    *,
    state: str,
    requests: int,
    started_at: str | None,
    stopped_at: str | None = None,
    reason: str | None = None,
    exit_status: int | None = None,
) -> dict[str, Any]:
    """The manifest's keys, but for those of the files."""
    return {
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
        "jobs": totals.jobs,
        "requests": requests,
        "journal_seq": totals.seq,
    }


def triage_counts(run: RunFile, totals: Totals) -> dict[str, int] | None:
    """Who has to look at what; None where nobody asked."""
    if run.settings.get("triage") is None:
        return None
    counts = counts_of(totals.outcomes)
    accepted = int(totals.sums[ACCEPTED])
    review = counts["classified"] - accepted
    return {"accepted": accepted, "review": review, **{kind: counts[kind] for kind in ("unmatched", "failed")}}


def billed_credits(sums: Mapping[str, float]) -> float | None:
    """A sum of some of the bills is no bill: None where one isn't known."""
    return None if BILLED not in sums or sums.get(UNBILLED) else without_decimal_point(sums[BILLED])


def without_decimal_point(value: float) -> float:
    """Whole numbers without a point."""
    return int(value) if value == int(value) else round(value, 6)


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
    standing: RunSnapshot,
    *,
    state: RunState,
    requests: int,
    started_at_s: float,
    stopped_at_s: float | None = None,
    reason: str | None = None,
    exit_status: ExitStatus | None = None,
) -> dict[str, Any]:
    """The manifest's keys, but for those of the files."""
    return keys_of(
        run,
        standing,
        state=state.value,
        requests=requests,
        started_at=to_iso(started_at_s),
        stopped_at=None if stopped_at_s is None else to_iso(stopped_at_s),
        reason=reason,
        exit_status=None if exit_status is None else int(exit_status),
    )


async def write_manifest(
    store: RunStore, run: RunFile, standing: RunSnapshot, manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """Adds each file's lines and bytes (and, once complete, its SHA-256) and puts the manifest in place."""
    lines = {
        PLAN_JSONL: run.chunks,
        Log.JOURNAL.value: standing.seq,
        Log.RESULTS.value: sum(standing.outcomes.values()) - standing.outcomes[OutcomeKind.FAILED],
        Log.FAILURES.value: standing.outcomes[OutcomeKind.FAILED],
    } | {earlier_failures_name(number): count for number, (count, _) in enumerate(standing.earlier_failures, 1)}
    if standing.provisional_end:
        lines[Log.PROVISIONAL.value] = int(standing.sums[SECOND_LOOKS])
    complete = manifest["state"] == RunState.COMPLETE
    outputs: dict[str, dict[str, Any]] = {}
    for name, count in lines.items():
        outputs[name] = {"lines": count, "bytes": await store.size(name) or 0}
        if complete:
            outputs[name]["sha256"] = await sha256_of(store, name)
    whole = {**manifest, "outputs": outputs}
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    await store.replace(
        MANIFEST_JSON, _single_block(text.encode("utf-8", "backslashreplace"))
    )  # a type may hold a lone surrogate
    return whole


async def read_manifest(store: RunStore) -> dict[str, Any] | None:
    """The manifest; None where there is none, or none that can be read (it only repeats what the journal says)."""
    try:
        manifest = json.loads(await store.read(MANIFEST_JSON))
    except (FileNotFoundError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


async def sha256_of(store: RunStore, name: str) -> str:
    """The SHA-256 of a file, in hex; that of nothing where there is no such file."""
    digest = hashlib.sha256()
    try:
        async for block in store.stream(name):
            digest.update(block)
    except FileNotFoundError:
        pass
    return digest.hexdigest()


async def _single_block(data: bytes) -> AsyncIterator[bytes]:
    yield data
