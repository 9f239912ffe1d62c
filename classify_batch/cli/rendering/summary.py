"""The summary of a run for a person: the same lines after a run and for `status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from classify_batch.cli.rendering.rate_causes import format_causes_of_429s
from classify_batch.protocol.sanitize import printable_line
from classify_batch.run_records import Holder
from classify_batch.rundir.manifest_json import Manifest, ShardKeys
from classify_batch.rundir.percentages import format_percentage
from classify_batch.vocabulary import NOISE_SHARE, RunState

TYPES_SHOWN_MAX = 20
SHARDS_SHOWN_MAX = 10

CANCEL_UNFINISHED = "its process ended before that was finished: `cancel` or `resume` finishes it"


def format_run_summary(manifest: Manifest) -> list[str]:
    """A manifest as lines for a person."""
    files, counts = manifest["files"], manifest["counts"]
    done = sum(counts.values())
    lines = [f"state       {manifest['state']}" + (f": {manifest['reason']}" if manifest.get("reason") else "")]
    if holder := manifest.get("holder"):
        lines.append(f"held by     {Holder(**holder)}")
    if manifest.get("cancel") == "asked":
        goes_on = "no more jobs are created, those in flight are cancelled" if holder else CANCEL_UNFINISHED
        lines.append(f"cancelled   {goes_on}")
    if shards := manifest.get("shards"):
        lines.append(f"shards      {format_shards(shards)}")
    lines.append(f"files       {done:,} of {files:,} have their outcome")
    if repeated := manifest.get("duplicates"):
        ids = "1 ID" if repeated == 1 else f"{repeated:,} IDs"
        lines.append(f"repeated    {ids} in the input; each file is sent once, and has one outcome")
    if merged := manifest.get("merged"):
        lines.append(f"merged      of {merged:,} runs, which called and paid what was to be called")
    elif reused := manifest.get("reused"):
        lines.append(f"reused      {reused:,} of them, from earlier runs")
    lines += [f"  {kind:<22}{count:>12,}{format_share(count, done)}" for kind, count in counts.items()]
    lines += format_count_table("types", manifest["types"], counts["classified"])
    lines += format_count_table("failures", manifest["failure_codes"], counts["failed"])
    if triage := manifest.get("triage"):
        lines.append(f"triage      {triage['accepted']:,} accepted, {triage['review']:,} to review")
    if seconds := manifest.get("second_looks"):
        lines.append(f"second look {seconds:,} files")
    if discovered := format_discovered(manifest.get("discovered") or {}):
        lines.append(f"discovered  {', '.join(discovered)}")
    jobs = "1 job" if manifest["jobs"] == 1 else f"{manifest['jobs']:,} jobs"
    requests = "1 request" if manifest["requests"] == 1 else f"{manifest['requests']:,} requests"
    lines.append(f"used        {jobs}, {requests}{format_credits(manifest)}")
    return lines


def format_shards(shards: Sequence[ShardKeys]) -> str:
    """How many shards are in which state; while not all are complete, which the others are."""
    states = Counter(shard["state"] for shard in shards)
    words = f"{len(shards):,}: " + ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    others = [str(shard["shard"]) for shard in shards if shard["state"] == RunState.INCOMPLETE]
    if not others or len(others) == len(shards):
        return words
    return f"{words} ({', '.join(others[:SHARDS_SHOWN_MAX])}{', …' if len(others) > SHARDS_SHOWN_MAX else ''})"


def format_discovered(discovered: Mapping[str, float]) -> list[str]:
    """What the API was found to allow, where that is less than was set, and why it answers 429."""
    rates = [discovered[name] for name in ("requests_per_s", "creates_per_s") if name in discovered]
    phrases = format_causes_of_429s(min(rates, default=None), discovered.get(NOISE_SHARE))
    jobs = discovered.get("jobs_in_flight")
    return phrases if jobs is None else [*phrases, f"no more than {jobs:.0f} jobs at once"]


def format_credits(manifest: Manifest) -> str:
    """What the run cost: the bill where the API reports it, else the most that it can have cost."""
    credits = manifest.get("credits")
    if credits is None:
        return ""
    if credits["billed"] is not None:
        return f", {credits['billed']:,} {'credit' if credits['billed'] == 1 else 'credits'} billed"
    return f", at most {credits['reserved']:,} credits (the bill is not known)" if credits["reserved"] else ""


def format_count_table(title: str, rows: Mapping[str, int], total: int) -> list[str]:
    """Counts with their share of `total`, the largest first."""
    if not rows:
        return []
    ranked = sorted(rows.items(), key=lambda row: -row[1])
    shown = ranked[:TYPES_SHOWN_MAX]
    lines = [title] + [
        f"  {printable_line(name, 50):<22}{count:>12,}{format_share(count, total)}" for name, count in shown
    ]
    if len(ranked) > TYPES_SHOWN_MAX:
        lines.append(f"  … and {len(ranked) - TYPES_SHOWN_MAX} more")
    return lines


def format_share(count: int, total: int) -> str:
    return f"  {format_percentage(count, total):>7}" if total else ""
