"""Formats what changed between two runs: as one JSON object, and as lines of 80 characters (unless a path is long)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import TypedDict

from classify_batch.operations.diff.changes import CHANGES, Change, Confidence, Diff
from classify_batch.operations.open_run import OpenedRun
from classify_batch.protocol.sanitize import printable_line
from classify_batch.rundir.identity import IDENTITY, differing_parts
from classify_batch.rundir.manifest_json import counts_of
from classify_batch.rundir.percentages import format_percentage
from classify_batch.rundir.run_json import identity_of_run

PAIRS_SHOWN_MAX = 20
_NAME_CHARACTERS = 29
_LINE_CHARACTERS = 68
"""Beside the twelve characters of the first column."""
_DIFFERENCE_LINES_MAX = 6

_SETTING_NAMES = {part.key: part.name for part in IDENTITY}

CHANGE_NAMES = {
    Change.UNCHANGED: "unchanged",
    Change.NEW: "new",
    Change.GONE: "gone",
    Change.OUTCOME: "other outcome",
    Change.TYPE: "other type",
    Change.CONFIDENCE: "confidence moved",
    Change.WAITING: "waiting for its outcome",
}


class RunSummary(TypedDict):
    """One of the two runs."""

    run_dir: str
    run_id: str
    created_at: str
    state: str
    files: int
    counts: dict[str, int]


class BeforeAfter(TypedDict):
    """What a key of the identity was, and is."""

    before: object
    after: object


class TypeChange(TypedDict):
    """Files whose answer changed in the same way: types, or outcomes where there is no type."""

    change: str
    before: str
    after: str
    files: int


class MeanConfidences(TypedDict):
    """Of the files that have the same answer in both runs; null where there is none."""

    files: int
    before: float | None
    after: float | None
    change: float | None
    absolute_change: float | None


class ConfidenceChange(MeanConfidences):
    """`min_change`: from where on a file counts as changed."""

    min_change: float


class DiffSummary(TypedDict):
    """What `diff --json` prints. `files`: of either run, or both."""

    before: RunSummary
    after: RunSummary
    differs: dict[str, BeforeAfter]
    files: int
    unchanged: int
    changes: dict[str, int]
    waiting: int
    types: list[TypeChange]
    confidence: ConfidenceChange


def summarize_diff(found: Diff, run_dirs: tuple[str, str]) -> DiffSummary:
    """The summary as one object. `run_dirs`: the two directories, as the user gave them."""
    counts = found.counts
    return {
        "before": summarize_run(found.before, run_dirs[0]),
        "after": summarize_run(found.after, run_dirs[1]),
        "differs": identity_differences(found),
        "files": counts.total(),
        "unchanged": counts[Change.UNCHANGED],
        "changes": {change.value: counts[change] for change in CHANGES},
        "waiting": counts[Change.WAITING],
        "types": [
            {"change": pair.change.value, "before": pair.before, "after": pair.after, "files": files}
            for pair, files in sorted(found.pairs.items(), key=lambda row: (-row[1], row[0]))
        ],
        "confidence": {"min_change": found.min_confidence_change, **mean_confidences(found.confidence)},
    }


def format_diff(values: DiffSummary) -> list[str]:
    """The summary as lines."""
    lines = [
        *format_run("before", values["before"]),
        *format_run("after", values["after"]),
        *format_differences(values["differs"]),
        *format_counts(values),
        *format_type_changes(values["types"]),
    ]
    return [*lines, *format_mean_confidences(values["confidence"])]


def summarize_run(run: OpenedRun, run_dir: str) -> RunSummary:
    return {
        "run_dir": run_dir,
        "run_id": run.run.run_id,
        "created_at": run.run.created_at,
        "state": "complete" if run.complete else "incomplete",
        "files": run.run.files,
        "counts": counts_of(run.counts),
    }


def identity_differences(found: Diff) -> dict[str, BeforeAfter]:
    """Everything in which the runs' settings differ, by its key in run.json; the files themselves are compared."""
    before, after = identity_of_run(found.before.run), identity_of_run(found.after.run)
    return {
        part.key: {"before": part.read_value(before), "after": part.read_value(after)}
        for part in differing_parts(before, after)
    }


def mean_confidences(sums: Confidence) -> MeanConfidences:
    """Null where there is no file. Rounded, since the last digits of a sum of floats depend on their order."""
    if not sums.files:
        return {"files": 0, "before": None, "after": None, "change": None, "absolute_change": None}
    return {
        "files": sums.files,
        "before": round(sums.before / sums.files, 6),
        "after": round(sums.after / sums.files, 6),
        "change": round((sums.after - sums.before) / sums.files, 6),
        "absolute_change": round(sums.moved / sums.files, 6),
    }


def format_run(title: str, run: RunSummary) -> Iterator[str]:
    yield f"{title:<12}{printable_line(run['run_dir'])}"
    done = sum(run["counts"].values())
    yield f"            {run['state']}: {done:,} of {run['files']:,} files have their outcome"


def format_differences(differs: Mapping[str, BeforeAfter]) -> Iterator[str]:
    for name, values in differs.items():
        before, after = values["before"], values["after"]
        change = format_rule_changes(before, after) if name == "rules" else format_setting_change(before, after)
        words = printable_line(f"{_SETTING_NAMES[name]}: {change}", _LINE_CHARACTERS * _DIFFERENCE_LINES_MAX)
        # In several lines rather than cut: what a setting is now stands last.
        lines = wrap(words, _LINE_CHARACTERS, break_on_hyphens=False, max_lines=_DIFFERENCE_LINES_MAX, placeholder=" …")
        yield from (f"{'' if number else 'differs':<12}{line}" for number, line in enumerate(lines))


def format_setting_change(before: object, after: object) -> str:
    """What a setting was, and is; of a table, the values that differ."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return f"{format_identity_value(before)} -> {format_identity_value(after)}"
    sides = ((key, before.get(key), after.get(key)) for key in {**before, **after})
    changes = [
        f"{key} {format_identity_value(was)} -> {format_identity_value(now)}" for key, was, now in sides if was != now
    ]
    return ", ".join(changes) or "written in another way"


def format_rule_changes(before: object, after: object) -> str:
    old, new = descriptions_by_type(before), descriptions_by_type(after)
    parts = [f"+ {kind}" for kind in new if kind not in old]
    parts += [f"- {kind}" for kind in old if kind not in new]
    parts += [f"new description of {kind}" for kind in new if kind in old and old[kind] != new[kind]]
    return ", ".join(parts) or "another order"


def descriptions_by_type(rules: object) -> dict[str, object]:
    """Descriptions by type, of what an identity holds."""
    rows = rules if isinstance(rules, list) else []
    return {str(rule.get("type")): rule.get("description") for rule in rows if isinstance(rule, dict)}


def format_counts(values: DiffSummary) -> Iterator[str]:
    total = values["files"]
    yield f"files       {total:,} in either run, or both"
    counts = {Change.UNCHANGED: values["unchanged"], **values["changes"], Change.WAITING: values["waiting"]}
    for change, words in CHANGE_NAMES.items():
        least = f" by {values['confidence']['min_change']:g} or more" if change is Change.CONFIDENCE else ""
        share = f"  {format_percentage(counts[change], total):>7}" if total else ""
        if counts[change] or change is not Change.WAITING:
            yield f"  {words + least:<36}{counts[change]:>12,}{share}"


def format_type_changes(pairs: Sequence[TypeChange]) -> Iterator[str]:
    if pairs:
        yield "types"
    for pair in pairs[:PAIRS_SHOWN_MAX]:
        before, after = (printable_line(side, _NAME_CHARACTERS) for side in (pair["before"], pair["after"]))
        yield f"  {before:<{_NAME_CHARACTERS}} -> {after:<{_NAME_CHARACTERS}}{pair['files']:>12,}"
    if len(pairs) > PAIRS_SHOWN_MAX:
        yield f"  … and {len(pairs) - PAIRS_SHOWN_MAX} more pairs"


def format_mean_confidences(means: MeanConfidences) -> Iterator[str]:
    if means["files"]:
        before, after, change, either_way = (means[key] for key in ("before", "after", "change", "absolute_change"))
        yield f"confidence  of {means['files']:,} files with the same answer in both runs"
        yield f"            {before:.4f} -> {after:.4f} on average ({change:+.4f}); up or down by {either_way:.4f}"


def format_identity_value(value: object) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
