"""The page of a report: gathered numbers into HTML, by a template that escapes every word from outside."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from classify_batch.clock import to_iso
from classify_batch.errors import EXIT_STATUS_MEANINGS, ExitStatus
from classify_batch.operations.diff.changes import Change
from classify_batch.operations.diff.summary import CHANGE_NAMES, DiffSummary
from classify_batch.operations.report.next_commands import NextCommand
from classify_batch.operations.report.outcome_totals import TYPES_MAX
from classify_batch.operations.report.pictures import (
    HEIGHT,
    LANE_HEIGHT,
    WIDTH,
    Bar,
    draw_bins,
    draw_processes,
    draw_run_over_time,
)
from classify_batch.operations.report.run_report import RunReport
from classify_batch.protocol.sanitize import printable_line
from classify_batch.rundir.manifest_json import Manifest
from classify_batch.vocabulary import RunState

_WORDS_CHARACTERS = 100


def make_page(
    reports: Sequence[RunReport],
    *,
    made_at: str,
    version: str,
    examples: bool,
    changes: DiffSummary | None = None,
    commands: Sequence[NextCommand] = (),
) -> bytes:
    """The page of one run, or of two and what changed between them; in UTF-8."""
    environment = Environment(
        loader=PackageLoader("classify_batch.operations.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": format_number,
        "share": format_share,
        "span": format_span,
        "words": format_words,
        "path": format_path,
        "change": format_change,
        "longer": format_longer,
        "at": lambda at_s: to_iso(at_s)[11:16],
        "moment": lambda text: text[:19].replace("T", " ") + " UTC" if text else "unknown",
    }
    text = environment.get_template("report.html.j2").render(
        reports=[_values_of(report) for report in reports],
        made_at=made_at,
        version=version,
        examples=examples,
        changes=changes,
        change_rows=_change_rows(changes) if changes else [],
        type_pairs=_type_pairs([report.manifest["types"] for report in reports]) if changes else [],
        commands=commands,
        picture_width=WIDTH,
        picture_height=HEIGHT,
        lane_height=LANE_HEIGHT,
    )
    return text.encode("utf-8", "backslashreplace")  # a lone surrogate in a type becomes its escape


def _values_of(report: RunReport) -> dict[str, object]:
    outcomes, timeline, manifest = report.outcomes, report.timeline, report.manifest
    status = manifest.get("exit_status")
    return {
        "report": report,
        "manifest": manifest,
        "types": _type_rows(manifest["types"]),
        "confidences": {kind: draw_bins(bins) for kind, bins in outcomes.confidences.items()},
        "unrated": sum(outcomes.unrated.values()),
        "failures": sorted(outcomes.failures.values(), key=lambda group: -group.files),
        "meaning": EXIT_STATUS_MEANINGS[ExitStatus(status)] if status in set(ExitStatus) else "",
        "shards": report.shards,
        "shard_bars": {} if report.shards is None else _shard_bars(report),
        "running": _count_running(manifest),
        "over_time": draw_run_over_time(timeline, report.events),
        "durations": [(f"{100 * share:.0f} %", timeline.duration_s(share)) for share in (0.5, 0.95, 0.99)],
    }


def _count_running(manifest: Manifest) -> int:
    """How many processes are at work, of those that a journal names."""
    if "shards" not in manifest:
        return int(manifest["state"] == RunState.RUNNING)
    return sum(each["state"] == RunState.RUNNING for each in manifest["shards"])


def _shard_bars(report: RunReport) -> dict[int, list[Bar]]:
    """When processes worked on each shard that has a row."""
    assert report.shards is not None  # noqa: S101 - the caller asked
    return {row.shard: draw_processes(report.timeline, row.shard) for row in report.shards.rows}


def _type_rows(types: dict[str, int]) -> list[tuple[str, int]]:
    rows = sorted(types.items(), key=lambda row: (-row[1], row[0]))
    rest = sum(files for _, files in rows[TYPES_MAX:])
    return [*rows[:TYPES_MAX], *([("(other types)", rest)] if rest else [])]


def _change_rows(changes: DiffSummary) -> list[tuple[str, int]]:
    """What became of each file of either run."""
    counts = {Change.UNCHANGED: changes["unchanged"], **changes["changes"], Change.WAITING: changes["waiting"]}
    return [(CHANGE_NAMES[Change(name)], files) for name, files in counts.items()]


def _type_pairs(types: Sequence[dict[str, int]]) -> list[tuple[str, int, int]]:
    """Each type with its files before and after, the largest change first."""
    before, after = types
    pairs = [(kind, before.get(kind, 0), after.get(kind, 0)) for kind in {**before, **after}]
    return sorted(pairs, key=lambda pair: -abs(pair[2] - pair[1]))[:TYPES_MAX]


def format_number(value: float | None) -> str:
    """A number for a person, with commas; a word where there is none."""
    if value is None or not math.isfinite(value):
        return "unknown"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.2f}"


def format_change(before: float | None, after: float | None) -> str:
    """How much more, with a sign; a dash where nothing changed, or nobody knows."""
    if before is None or after is None or before == after:
        return "–"
    return f"{'+' if after > before else '−'}{format_number(abs(after - before))}"


def format_share(part: float, total: float) -> str:
    """In percent. A part of all is never shown as 0 % or 100 %."""
    if not total:
        return "–"
    percent = 100 * part / total
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return "> 99.9 %" if 99.9 < percent < 100 else f"{percent:.1f} %"


def format_span(seconds: float | None) -> str:
    """A span of time, by its two largest units."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    large, small = (f"{hours} h", f"{minutes} min") if hours else (f"{minutes} min", f"{rest} s")
    return large if small.startswith("0 ") else f"{large} {small}"


def format_longer(before_s: float, after_s: float) -> str:
    """How much longer it took, with a sign; a dash where it looks the same."""
    if format_span(before_s) == format_span(after_s):
        return "–"
    # Of what is shown beside it: 1.0 s and 0.4 s are 0.6 s apart, whatever was rounded away.
    return f"{'+' if after_s > before_s else '−'}{format_span(abs(round(after_s, 1) - round(before_s, 1)))}"


def format_words(words: object) -> str:
    """Words from outside: one line of printable characters, and not many."""
    return printable_line(str(words), _WORDS_CHARACTERS)


def format_path(path: object) -> str:
    """A path, whole, with what can't be printed escaped: also signs that would turn the order of the others around."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(path))
