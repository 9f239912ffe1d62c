"""Whole runs against 429s by chance and against a hidden limit, in virtual time: what is reported of them."""

from __future__ import annotations

import json

import pytest

from classify_batch.cli.rendering.progress import format_details
from classify_batch.cli.rendering.summary import format_run_summary
from classify_batch.cli.rendering.throughput import Throughput
from classify_batch.engine.progress import Progress
from classify_batch.events import Event, LimitDiscovered, RateLimited
from classify_batch.vocabulary import MANIFEST_JSON, Log
from tests.support.simulated_run import Lab, ends_well, laboratory

pytestmark = pytest.mark.anyio


class Kept:
    """Keeps the events of limits."""

    def __init__(self) -> None:
        self.limits: list[LimitDiscovered] = []
        self.causes: list[RateLimited] = []

    async def observe(self, event: Event) -> None:
        match event:
            case LimitDiscovered():
                self.limits.append(event)
            case RateLimited():
                self.causes.append(event)


async def shown_lines(lab: Lab) -> list[str]:
    """The live line, as it was shown while a run went to its end."""
    lines: list[str] = []
    throughput = Throughput()

    def observe(progress: Progress) -> None:
        throughput.record_done(float(len(lines)), sum(progress.outcomes.values()))
        lines.append(format_details(progress, throughput))

    lab.on_progress = observe
    assert (await lab.run()).state == "complete"
    assert await lab.judge() == {}
    return lines


def shown_by_status(lab: Lab) -> str:
    """What `status` shows of a run that has ended: its manifest's keys."""
    return "\n".join(format_run_summary(json.loads(lab.store.files[MANIFEST_JSON])))


def remembered(lab: Lab) -> list[dict[str, float]]:
    return [line["found"] for line in lab.lines(Log.JOURNAL) if line.get("found")]


async def test_random_429s_are_reported_as_noise_and_not_as_a_limit() -> None:
    """5 % of 429s whatever the rate: the line says so, and no half of the rate is remembered as a limit."""
    limits = {"requests_per_s": 40.0, "jobs_in_flight": 200, "requests_in_flight": 40}
    with laboratory(
        900, files_per_job=1, limits=limits, faults={"rate_429": 0.05}, job_duration_s=5.0, latency_s=0.05
    ) as lab:
        lab.observers = [kept := Kept()]
        lines = await shown_lines(lab)
        assert any(cause.noise_share == pytest.approx(0.05, abs=0.02) for cause in kept.causes)
        assert any("429s that don't depend on our rate" in line for line in lines)
        assert all(found.get("requests_per_s", 40.0) > 30.0 for found in remembered(lab)[-1:])
        assert sum(5 <= at_s < 30 for at_s, _, _ in lab.wire.requests) > 0.8 * 40 * 25
        assert "429s that don't depend on our rate (" in shown_by_status(lab)


async def test_a_discovered_limit_is_reported_and_kept() -> None:
    """Half of the rate that was set: the line names it, and so does the journal."""
    limits = {"requests_per_s": 40.0, "jobs_in_flight": 200, "requests_in_flight": 40}
    with laboratory(
        400, files_per_job=1, limits=limits, requests_per_s=20.0, job_duration_s=5.0, latency_s=0.05
    ) as lab:
        lab.observers = [kept := Kept()]
        lines = await shown_lines(lab)
        assert kept.causes[-1].per_s == pytest.approx(20, rel=0.15)
        assert any("rate limited by the API at 1" in line or "rate limited by the API at 2" in line for line in lines)
        assert remembered(lab)[-1]["requests_per_s"] == pytest.approx(20, rel=0.15)
        assert "discovered  rate limited by the API at " in shown_by_status(lab)


async def test_a_discovered_limit_is_an_event() -> None:
    """Each time that it is written down, and by its setting's name."""

    kept = Kept()
    with laboratory(60, files_per_job=1, limits={"jobs_in_flight": 20}, jobs_at_once=5) as lab:
        lab.observers = [kept]
        await ends_well(lab)
        written = [found["jobs_in_flight"] for found in remembered(lab) if "jobs_in_flight" in found]
    assert written
    assert [(each.name, each.value) for each in kept.limits if each.name == "jobs_in_flight"] == [
        ("jobs_in_flight", value) for value, before in zip(written, [None, *written], strict=False) if value != before
    ]
