"""A run in words: the same lines after a run and for `status`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES_SHOWN_MAX = 20


def describe(manifest: Mapping[str, Any]) -> list[str]:
    """The keys of a manifest as lines for a person."""
    files, counts = manifest["files"], manifest["counts"]
    done = sum(counts.values())
    lines = [f"state       {manifest['state']}" + (f": {manifest['reason']}" if manifest.get("reason") else "")]
    if holder := manifest.get("holder"):
        lines.append(f"held by     process {holder['pid']} on {holder['host']} since {holder['since']}")
    lines.append(f"files       {done:,} of {files:,} have their outcome")
    if reused := manifest.get("reused"):
        lines.append(f"reused      {reused:,} of them, taken over from earlier runs")
    lines += [f"  {kind:<22}{count:>12,}{_share(count, done)}" for kind, count in counts.items()]
    lines += _table("types", manifest["types"], counts["classified"])
    lines += _table("failures", manifest["failure_codes"], counts["failed"])
    if triage := manifest.get("triage"):
        lines.append(f"triage      {triage['accepted']:,} accepted, {triage['review']:,} to review")
    if seconds := manifest.get("second_looks"):
        lines.append(f"looked at   {seconds:,} files twice")
    lines.append(f"used        {manifest['jobs']:,} jobs, {manifest['requests']:,} requests{_credits(manifest)}")
    return lines


def _credits(manifest: Mapping[str, Any]) -> str:
    told = manifest.get("credits") or {}
    if told.get("billed") is not None:
        return f", {told['billed']:,} credits billed"
    return f", at most {told['reserved']:,} credits (the bill is not known)" if told.get("reserved") else ""


def _table(title: str, rows: Mapping[str, int], total: int) -> list[str]:
    if not rows:
        return []
    ranked = sorted(rows.items(), key=lambda row: -row[1])
    shown = ranked[:TYPES_SHOWN_MAX]
    lines = [title] + [f"  {name[:50]:<22}{count:>12,}{_share(count, total)}" for name, count in shown]
    if len(ranked) > TYPES_SHOWN_MAX:
        lines.append(f"  … and {len(ranked) - TYPES_SHOWN_MAX} more")
    return lines


def _share(count: int, total: int) -> str:
    return f"  {100 * count / total:5.1f} %" if total else ""
