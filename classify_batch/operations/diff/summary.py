"""What changed between two runs: as one JSON object, and as lines for a person (80 characters, but for long paths)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from classify_batch.operations.diff.changes import CHANGES, Change, Confidence, Diff
from classify_batch.protocol.sanitize import clean
from classify_batch.rundir.manifest_json import counts_of
from classify_batch.rundir.opened_run import RunOnDisk

PAIRS_SHOWN_MAX = 20
_NAME_CHARACTERS = 29
_DIFFERENCE_CHARACTERS = 68

_IDENTITY = {
    "api_version": "API version",
    "base_url": "base URL",
    "project_id": "project",
    "mode": "mode",
    "rules": "rules",
    "parsing_configuration": "parsing configuration",
}
"""What decides the answers besides the files, as `identity` in run.json names it."""

_ROWS = {
    Change.UNCHANGED: "unchanged",
    Change.NEW: "new",
    Change.GONE: "gone",
    Change.OUTCOME: "other outcome",
    Change.TYPE: "other type",
    Change.CONFIDENCE: "confidence moved",
    Change.WAITING: "waiting for its outcome",
}


def summary(found: Diff, run_dirs: tuple[str, str]) -> dict[str, Any]:
    """The summary's keys; `run_dirs`: how a person names the two runs."""
    counts = found.counts
    return {
        "before": _run(found.before, run_dirs[0]),
        "after": _run(found.after, run_dirs[1]),
        "differs": _differs(found),
        "files": counts.total(),
        "unchanged": counts[Change.UNCHANGED],
        "changes": {change.value: counts[change] for change in CHANGES},
        "waiting": counts[Change.WAITING],
        "types": [
            {"change": pair.change.value, "before": pair.before, "after": pair.after, "files": files}
            for pair, files in sorted(found.pairs.items(), key=lambda row: (-row[1], row[0]))
        ],
        "confidence": {"min_change": found.min_confidence_change, **_means(found.confidence)},
    }


def describe(summed: Mapping[str, Any]) -> list[str]:
    """The summary as lines."""
    lines = [
        *_describe_run("before", summed["before"]),
        *_describe_run("after", summed["after"]),
        *_describe_differences(summed["differs"]),
        *_describe_counts(summed),
        *_describe_pairs(summed["types"]),
    ]
    return [*lines, *_describe_means(summed["confidence"])]


def _run(run: RunOnDisk, run_dir: str) -> dict[str, Any]:
    return {
        "run_dir": run_dir,
        "run_id": run.run.run_id,
        "created_at": run.run.created_at,
        "state": "complete" if run.standing.complete else "incomplete",
        "files": run.run.files,
        "counts": counts_of(run.standing.outcomes),
    }


def _differs(found: Diff) -> dict[str, Any]:
    before, after = found.before.run.identity, found.after.run.identity
    return {
        name: {"before": before.get(name), "after": after.get(name)}
        for name in _IDENTITY
        if before.get(name) != after.get(name)
    }


def _means(sums: Confidence) -> dict[str, Any]:
    """Means of no file are null. Rounded, since the last digits of a sum of floats depend on its order."""
    if not sums.files:
        return {"files": 0, "before": None, "after": None, "change": None, "absolute_change": None}
    return {
        "files": sums.files,
        "before": round(sums.before / sums.files, 6),
        "after": round(sums.after / sums.files, 6),
        "change": round((sums.after - sums.before) / sums.files, 6),
        "absolute_change": round(sums.moved / sums.files, 6),
    }


def _describe_run(title: str, run: Mapping[str, Any]) -> Iterator[str]:
    yield f"{title:<12}{clean(run['run_dir'])}"
    done = sum(run["counts"].values())
    yield f"            {run['state']}: {done:,} of {run['files']:,} files have their outcome"


def _describe_differences(differs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, values in differs.items():
        before, after = values["before"], values["after"]
        words = _rules(before, after) if name == "rules" else f"{_show(before)} -> {_show(after)}"
        yield f"differs     {clean(f'{_IDENTITY[name]}: {words}', _DIFFERENCE_CHARACTERS)}"


def _rules(before: object, after: object) -> str:
    old, new = _descriptions(before), _descriptions(after)
    parts = [f"+ {kind}" for kind in new if kind not in old]
    parts += [f"- {kind}" for kind in old if kind not in new]
    parts += [f"other words for {kind}" for kind in new if kind in old and old[kind] != new[kind]]
    return ", ".join(parts) or "another order"


def _descriptions(rules: object) -> dict[str, object]:
    """Descriptions by type, of what an identity holds."""
    rows = rules if isinstance(rules, list) else []
    return {str(rule.get("type")): rule.get("description") for rule in rows if isinstance(rule, dict)}


def _describe_counts(summed: Mapping[str, Any]) -> Iterator[str]:
    total = summed["files"]
    yield f"files       {total:,} in either run, or both"
    counts = {Change.UNCHANGED: summed["unchanged"], **summed["changes"], Change.WAITING: summed["waiting"]}
    for change, words in _ROWS.items():
        least = f" by {summed['confidence']['min_change']:g} or more" if change is Change.CONFIDENCE else ""
        share = f"  {100 * counts[change] / total:5.1f} %" if total else ""
        if counts[change] or change is not Change.WAITING:
            yield f"  {words + least:<36}{counts[change]:>12,}{share}"


def _describe_pairs(pairs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if pairs:
        yield "types"
    for pair in pairs[:PAIRS_SHOWN_MAX]:
        before, after = (clean(pair[side], _NAME_CHARACTERS) for side in ("before", "after"))
        yield f"  {before:<{_NAME_CHARACTERS}} -> {after:<{_NAME_CHARACTERS}}{pair['files']:>12,}"
    if len(pairs) > PAIRS_SHOWN_MAX:
        yield f"  … and {len(pairs) - PAIRS_SHOWN_MAX} more pairs"


def _describe_means(means: Mapping[str, Any]) -> Iterator[str]:
    if means["files"]:
        before, after, change, either_way = (means[key] for key in ("before", "after", "change", "absolute_change"))
        yield f"confidence  of {means['files']:,} files with the same answer in both runs"
        yield f"            {before:.4f} -> {after:.4f} on average ({change:+.4f}); up or down by {either_way:.4f}"


def _show(value: object) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
