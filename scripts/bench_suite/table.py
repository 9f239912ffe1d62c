"""Raw rounds into the figures that a person reads: medians, ratios, and a table of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Figure = Callable[[Row], float | None]
"""A figure of one round; None where it says nothing."""


def paid_twice(row: Row) -> float:
    return float(row["files_billed_again"])


def files_failed(row: Row) -> float:
    said = row["said"]
    if "failed_jobs" in said:
        return float(said["failed_jobs"] * row["work"]["files_per_job"])
    return float(said["counts"].get("failed", 0))


def vs_ideal(row: Row) -> float | None:
    """The ideal knows of slots only: where the rate is limited, it is no measure."""
    limited = row["work"]["requests_per_s"] is not None
    return None if limited else float(row["makespan_s"] / row["ideal_s"])


def cpu_ms_without_start(row: Row) -> float:
    return float(1000 * (row["cpu_s"] - row["start_cpu_s"]) / max(1, row["jobs"] - 1))


def rate_used(row: Row) -> float | None:
    """Accepted requests as a share of what the limit allows, in whole seconds while there were jobs to create."""
    per_s, seconds = row["work"]["requests_per_s"], _counted(row)
    if per_s is None or not seconds:
        return None
    return float(sum(row["accepted_per_s"][second] for second in seconds) / (per_s * len(seconds)))


def refused_share(row: Row) -> float:
    seconds = _counted(row) or range(len(row["accepted_per_s"]))
    refused = sum(row["refused_per_s"][second] for second in seconds)
    accepted = sum(row["accepted_per_s"][second] for second in seconds)
    return float(refused / max(1, refused + accepted))


def _counted(row: Row) -> range:
    """The seconds that count; none where the case counts the whole run."""
    return range(row["from_s"], int(row["last_create_s"])) if row["from_s"] is not None else range(0)


def _share(name: str) -> Figure:
    return lambda row: row["delay"].get(name)


FIGURES: dict[str, tuple[Figure, str]] = {
    "jobs": (lambda row: row["jobs"], "d"),
    "in flight": (lambda row: row["work"]["jobs_in_flight"], "d"),
    "makespan s": (lambda row: row["makespan_s"], ".1f"),
    "makespan ÷ ideal": (vs_ideal, ".3f"),
    "requests a job": (lambda row: row["requests"] / max(1, row["jobs"]), ".2f"),
    "CPU ms a job": (lambda row: 1000 * row["cpu_s"] / max(1, row["jobs"]), ".1f"),
    "… without start": (cpu_ms_without_start, ".1f"),
    "peak RSS MiB": (lambda row: row["rss_mib"], ".0f"),
    "delay mean": (_share("mean_share"), ".1%"),
    "p50": (_share("p50_share"), ".1%"),
    "p95": (_share("p95_share"), ".1%"),
    "server busy": (lambda row: row["server_busy"], ".0%"),
    "R": (lambda row: row["work"]["requests_per_s"], ".4g"),
    "told": (lambda row: row["work"]["told_requests_per_s"], ".4g"),
    "share of R used": (rate_used, ".1%"),
    "429": (refused_share, ".2%"),
    "most in 1 s": (lambda row: row["per_s_max"], "d"),
    "connections": (lambda row: row["connections_max"], "d"),
    "files failed": (files_failed, ".0f"),
    "paid twice": (paid_twice, ".0f"),
}
_RATE_ONLY = {"R", "told", "share of R used", "most in 1 s"}
VS_SDK = "÷ SDK"


def summary(rows: Sequence[Row]) -> list[dict[str, str]]:
    """A line for each case and client: the medians of its rounds."""
    limited = any(row["work"]["requests_per_s"] is not None for row in rows)
    lines = []
    for case, client in dict.fromkeys((row["case"], row["client"]) for row in rows):
        rounds = [row for row in rows if (row["case"], row["client"]) == (case, client)]
        line = {"case": case, "client": client}
        for name, (figure, form) in FIGURES.items():
            if limited or name not in _RATE_ONLY:
                line[name] = _show(map(figure, rounds), form)
            if name == "makespan ÷ ideal":
                line[VS_SDK] = _show([_vs_sdk(rows, case, client)], ".2f")
        lines.append(line)
    return lines


def _vs_sdk(rows: Sequence[Row], case: str, client: str) -> float | None:
    """Makespan as a share of the SDK's with its defaults, on the same case."""
    spans = {
        name: [row["makespan_s"] for row in rows if (row["case"], row["client"]) == (case, name)]
        for name in (client, "sdk")
    }
    if not spans["sdk"] or not (whole := statistics.median(spans["sdk"])):
        return None
    return float(statistics.median(spans[client]) / whole)


def _show(values: Iterable[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    middle = statistics.median(known)
    return format(round(middle) if form == "d" else middle, form)


def print_table(lines: Sequence[Mapping[str, object]]) -> None:
    """As Markdown, in columns that a terminal shows straight; columns that say nothing are left out."""
    names = [name for name in dict.fromkeys(name for line in lines for name in line) if _says(lines, name)]
    cells = [[str(line.get(name, "–")) for name in names] for line in lines]
    widths = [max(len(name), *(len(row[column]) for row in cells)) for column, name in enumerate(names)]
    for row in [names, ["-" * width for width in widths], *cells]:
        words = [
            word.ljust(width) if column < 1 else word.rjust(width)
            for column, (word, width) in enumerate(zip(row, widths, strict=True))
        ]
        print(f"| {' | '.join(words)} |")


def _says(lines: Sequence[Mapping[str, object]], name: str) -> bool:
    return any(line.get(name, "–") not in ("–", "") for line in lines)
