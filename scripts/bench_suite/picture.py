"""Draws a suite's figures as SVG; runs in the environment of the tools."""

from __future__ import annotations

import json
import sys
from typing import Any

import altair as alt

from bench_suite.table import summary

COMPARED = ("makespan ÷ ideal", "requests a job", "CPU ms a job", "peak RSS MiB")
GROWING = {"time, s": "wall_s", "CPU, s": "cpu_s", "verify, s": "verify_s", "peak RSS, MiB": "rss_mib"}


def compared(rows: list[dict[str, Any]]) -> alt.Chart:
    """Bars: a column for each figure, a row for each case."""
    lines = [
        {"case": line["case"], "client": line["client"], "figure": name, "value": float(line[name])}
        for line in summary(rows)
        for name in COMPARED
        if line[name] != "–"
    ]
    bars = (
        alt.Chart()
        .mark_bar()
        .encode(x=alt.X("value:Q", title=None), y=alt.Y("client:N", sort=None, title=None), color=_color("client"))
        .properties(width=180, height=90)
    )
    labels = bars.mark_text(align="left", dx=3, color="#333").encode(text="value:Q", color=alt.value("#333"))
    chart = alt.layer(bars, labels, data=alt.Data(values=lines))
    facets = {"column": alt.Column("figure:N", sort=list(COMPARED), title=None)}
    return chart.facet(row=alt.Row("case:N", sort=None, title=None), **facets).resolve_scale(x="independent")


def growing(rows: list[dict[str, Any]]) -> alt.Chart:
    """Lines on two logarithmic axes: what rises with slope 1 is linear, what stays level is bounded."""
    lines = [
        {"files": row["work"]["files"], "figure": name, "value": row[key]}
        for row in rows
        for name, key in GROWING.items()
    ]
    log = alt.Scale(type="log")
    return (
        alt.Chart(alt.Data(values=lines))
        .mark_line(point=True)
        .encode(
            x=alt.X("files:Q", scale=log, axis=alt.Axis(format="~s")),
            y=alt.Y("value:Q", scale=log, title=None),
            color=_color("figure"),
        )
        .properties(width=480, height=320)
    )


def _color(field: str) -> alt.Color:
    return alt.Color(f"{field}:N", sort=None, title=None, scale=alt.Scale(scheme="tableau10"))


def main() -> None:
    with open(sys.argv[1]) as file:  # noqa: PTH123
        figures = json.load(file)
    draw = growing if figures["suite"] == "growth" else compared
    draw(figures["rows"]).save(sys.argv[2])


if __name__ == "__main__":
    main()
