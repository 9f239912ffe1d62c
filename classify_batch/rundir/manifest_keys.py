"""The keys of `manifest.json`, told of a run at any moment: what `status` shows, read without loading a run's needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from classify_batch.rundir.journal.totals import Totals
from classify_batch.rundir.run_record import RunFile
from classify_batch.vocabulary import ACCEPTED, BILLED, CREDITS, SECOND_LOOKS, UNBILLED, OutcomeKind


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
        "reused": run.reused_files,
        "counts": counts_of(totals.outcomes),
        "types": dict(totals.types.most_common()),
        "failure_codes": dict(totals.codes.most_common()),
        "triage": _triage_of(run, totals),
        "second_looks": int(totals.sums[SECOND_LOOKS]),
        "credits": {
            "reserved": _plain(totals.sums[CREDITS]),
            "billed": _billed(totals.sums),
        },
        "jobs": totals.jobs,
        "requests": requests,
        "journal_seq": totals.seq,
    }


def _triage_of(run: RunFile, totals: Totals) -> dict[str, int] | None:
    """Who has to look at what; None where nobody asked."""
    if run.settings.get("triage") is None:
        return None
    counts = counts_of(totals.outcomes)
    accepted = int(totals.sums[ACCEPTED])
    review = counts["classified"] - accepted
    return {"accepted": accepted, "review": review, **{kind: counts[kind] for kind in ("unmatched", "failed")}}


def _billed(sums: Mapping[str, float]) -> float | None:
    """A sum of some of the bills is no bill: None where one isn't known."""
    return None if BILLED not in sums or sums.get(UNBILLED) else _plain(sums[BILLED])


def _plain(value: float) -> float:
    """Whole numbers without a point."""
    return int(value) if value == int(value) else round(value, 6)
