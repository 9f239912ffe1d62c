"""A run with shards as one: the keys of its shards' manifests, added up.

What can't be added up is left out: percentiles, and the limits that each process found by itself. Free of heavy
imports, as `status` reads by this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from classify_batch.errors import ExitStatus
from classify_batch.rundir.failure_messages import MESSAGES_MAX, FailureMessage
from classify_batch.rundir.manifest_json import (
    AccountShare,
    Credits,
    Manifest,
    ShardKeys,
    counts_of,
    exit_status_of,
    without_decimal_point,
)
from classify_batch.rundir.next_step import add_next_step, tolerated_percentage
from classify_batch.rundir.run_json import RunFile
from classify_batch.vocabulary import CancelState, OutcomeKind, RunState


def sum_of_shards(run: RunFile, shards: Sequence[Manifest | None], where: str) -> Manifest:
    """The manifest of a whole run.

    Args:
        run: the whole run's run.json.
        shards: the keys of each shard, in their order, as they are now; None: it was never begun.
        where: the run's directory.
    """
    begun = [shard for shard in shards if shard is not None]
    keys = [_keys_of_shard(index, files, shard) for index, (files, shard) in enumerate(_with_files(run, shards))]
    reused = run.reused
    counts = _sum_counts([{} if reused is None else reused.counts, *(shard["counts"] for shard in begun)])
    types = _sum_counts([{} if reused is None else reused.types, *(shard["types"] for shard in begun)])
    state = state_of_shards(keys)
    manifest: Manifest = {
        "state": state,
        "reason": None,
        "exit_status": None,
        "run_id": run.run_id,
        "started_at": min(filter(None, (shard["started_at"] for shard in begun)), default=None),
        "stopped_at": None,
        "files": run.files,
        "duplicates": run.duplicates,
        "reused": run.reused_files,
        "counts": counts_of(counts),
        "types": dict(types.most_common()),
        "failure_codes": dict(_sum_counts(shard["failure_codes"] for shard in begun).most_common()),
        "triage": _sum_triage(run, begun),
        "second_looks": sum(shard.get("second_looks", 0) for shard in begun),
        "credits": _sum_credits(begun),
        "jobs": sum(shard["jobs"] for shard in begun),
        "requests": sum(shard["requests"] for shard in begun),
        "journal_seq": sum(shard["journal_seq"] for shard in begun),
        "start_count": sum(shard.get("start_count", 0) for shard in begun),
        "shards": keys,
    }
    _add_where_it_is_so(manifest, begun)
    if state == RunState.COMPLETE:
        tolerated = tolerated_percentage(manifest.get("limits") or {}, run)
        manifest["exit_status"] = int(exit_status_of(counts, tolerated))
    elif state == RunState.INCOMPLETE:
        _add_reason(manifest, shards)
    if state != RunState.RUNNING:
        manifest["stopped_at"] = max(filter(None, (shard["stopped_at"] for shard in begun)), default=None)
    add_next_step(manifest, run, where)
    return manifest


def state_of_shards(shards: Iterable[ShardKeys]) -> RunState:
    """Of the whole: it is running while any shard is, and complete when all of them are."""
    states = {shard["state"] for shard in shards}
    if RunState.RUNNING in states:
        return RunState.RUNNING
    return RunState.INCOMPLETE if RunState.INCOMPLETE in states else RunState.COMPLETE


def _with_files(run: RunFile, shards: Sequence[Manifest | None]) -> Iterable[tuple[int, Manifest | None]]:
    return zip((each["files"] for each in run.shards or ()), shards, strict=True)


def _keys_of_shard(index: int, files: int, shard: Manifest | None) -> ShardKeys:
    if shard is None:  # one without files has nothing to do
        state = RunState.INCOMPLETE if files else RunState.COMPLETE
        return {"shard": index, "state": state, "exit_status": None, "files": files, "done": 0}
    done = sum(shard["counts"].values())
    return {
        "shard": index,
        "state": shard["state"],
        "exit_status": shard["exit_status"],
        "files": files,
        "done": done,
    }


def _sum_counts(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total = Counter[str]()
    for each in counts:
        total.update(each)
    return total


def _sum_triage(run: RunFile, begun: Sequence[Manifest]) -> dict[str, int] | None:
    if run.settings.get("triage") is None:
        return None
    total = Counter(dict.fromkeys(("accepted", "review", "unmatched", "failed"), 0))
    for shard in begun:
        total.update(shard.get("triage") or {})
    if (reused := run.reused) is not None:
        classified = reused.counts.get(OutcomeKind.CLASSIFIED, 0)
        total.update({"accepted": reused.accepted, "review": classified - reused.accepted})
        total.update({kind: count for kind, count in reused.counts.items() if kind != OutcomeKind.CLASSIFIED})
    return dict(total)


def _sum_credits(begun: Sequence[Manifest]) -> Credits:
    """A sum of some of the bills is no bill."""
    listed = [credits for shard in begun if (credits := shard.get("credits")) is not None]
    bills = [credits["billed"] for credits in listed]
    known = [bill for bill in bills if bill is not None]
    return {
        "reserved": sum(credits["reserved"] for credits in listed),
        "billed": sum(known) if known and len(known) == len(bills) else None,
    }


def _add_where_it_is_so(manifest: Manifest, begun: Sequence[Manifest]) -> None:
    """Adds the keys that are there only where they are known, or where something is so."""
    for shard in begun:
        if "limits" in shard:
            manifest.setdefault("limits", shard["limits"])
        if "holder" in shard:
            manifest.setdefault("holder", shard["holder"])
        if "config" in shard:
            manifest.setdefault("config", shard["config"])
        if shard.get("trusted"):
            manifest["trusted"] = True
    _add_accounts(manifest, begun)
    cancels = {shard["cancel"] for shard in begun if "cancel" in shard}
    if cancels:
        manifest["cancel"] = str(CancelState.ASKED if CancelState.ASKED in cancels else CancelState.DONE)
    if any("failure_messages" in shard for shard in begun):
        messages = Counter[tuple[str, str]]()
        for shard in begun:
            for each in shard.get("failure_messages", ()):
                messages[each["code"], each["message"]] += each["files"]
        ranked = sorted(messages.items(), key=lambda item: (-item[1], item[0]))[:MESSAGES_MAX]
        shown: list[FailureMessage] = [{"code": code, "message": words, "files": n} for (code, words), n in ranked]
        manifest["failure_messages"] = shown
        manifest["failures_read"] = sum(shard.get("failures_read", 0) for shard in begun)
        manifest["failures_worth_a_retry"] = sum(shard.get("failures_worth_a_retry", 0) for shard in begun)


def _add_accounts(manifest: Manifest, begun: Sequence[Manifest]) -> None:
    accounts: dict[str, AccountShare] = {}
    for shard in begun:
        for name, share in shard.get("accounts", {}).items():
            sums = accounts.setdefault(name, {"files": 0, "jobs": 0, "credits": 0, "open": 0})
            sums["files"] += share["files"]
            sums["jobs"] += share["jobs"]
            sums["credits"] = without_decimal_point(sums["credits"] + share["credits"])
            sums["open"] += share["open"]
    if accounts:
        manifest["accounts"] = dict(sorted(accounts.items()))


def _add_reason(manifest: Manifest, shards: Sequence[Manifest | None]) -> None:
    """Why it is incomplete: what a person must see to before anything else."""
    stopped = [
        (index, shard)
        for index, shard in enumerate(shards)
        if shard is not None and shard["state"] == RunState.INCOMPLETE and shard["exit_status"] is not None
    ]
    ranked = sorted(stopped, key=lambda item: item[1]["exit_status"] != ExitStatus.PERSON)
    if ranked:
        index, shard = ranked[0]
        manifest["exit_status"] = shard["exit_status"]
        manifest["reason"] = f"shard {index}: {shard['reason']}"
        manifest["hint"] = shard.get("hint")
