"""Spans and metrics of a run, by OpenTelemetry's own SDK."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from classify_batch import run
from tests.support.command_line import KEY, sandbox
from tests.support.sandbox_settings import IDS, sandbox_settings

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[InMemorySpanExporter, InMemoryMetricReader]]:
    """What a program that set up the SDK would export."""
    spans, numbers = InMemorySpanExporter(), InMemoryMetricReader()
    tracing, metering = TracerProvider(), MeterProvider([numbers])
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace, "get_tracer", tracing.get_tracer)  # the global one can be set once in a process
    monkeypatch.setattr(metrics, "get_meter", metering.get_meter)
    yield spans, numbers
    tracing.shutdown()
    metering.shutdown()


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """The ended spans of a name."""
    return [span for span in spans.get_finished_spans() if span.name == f"classify_batch.{name}"]


def points(numbers: InMemoryMetricReader) -> dict[str, list[Any]]:
    """The data points by metric."""
    data = numbers.get_metrics_data()
    assert data is not None
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_runs_chunks_and_calls_are_spans(
    tmp_path: Path, exported: tuple[InMemorySpanExporter, InMemoryMetricReader]
) -> None:
    """One span for the run, one for each chunk and each call below it; counters and histograms say the same."""
    spans, numbers = exported
    result = run(sandbox_settings(), IDS, tmp_path / "run")
    (of_run,) = named(spans, "run")
    assert of_run.attributes is not None
    assert of_run.attributes["classify_batch.run.id"] == result.manifest["run_id"]
    assert of_run.attributes["classify_batch.run.classified"] == result.counts["classified"]
    assert of_run.status.is_ok or of_run.status.is_unset
    for name in ("chunk", "create", "results"):
        below = named(spans, name)
        assert len(below) == 3, name
        assert {span.parent.span_id for span in below if span.parent} == {of_run.context.span_id}, name
    jobs = {span.attributes["classify_batch.job"] for span in named(spans, "chunk") if span.attributes}
    assert jobs == {each.job_id for each in result.outcomes()}
    found = points(numbers)
    assert sum(point.value for point in found["classify_batch.files"]) == len(IDS)
    assert sum(point.value for point in found["classify_batch.jobs"]) == 3
    assert sum(point.count for point in found["classify_batch.job.duration"]) == 3
    calls = {point.attributes["call"]: point.count for point in found["classify_batch.call.duration"]}
    assert (calls["create"], calls["results"]) == (3, 3)


def test_calls_that_fail_say_why_and_hold_no_key(
    tmp_path: Path,
    exported: tuple[InMemorySpanExporter, InMemoryMetricReader],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refused key: spans with an error and its status, and neither a key nor an exception's variables."""
    spans, numbers = exported
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", "llx-another-s3cr3t")
    with sandbox() as base_url:
        assert run(sandbox_settings(api={"base_url": base_url}), IDS, tmp_path / "run").exit_status == 77
    texts = [span.to_json() for span in spans.get_finished_spans()]
    assert any('"http.response.status_code": 401' in text for text in texts)
    assert not any("llx-another-s3cr3t" in text or KEY in text for text in texts)
    (of_run,) = named(spans, "run")
    assert not of_run.status.is_ok
    errors = {point.attributes.get("error.type") for point in points(numbers)["classify_batch.call.duration"]}
    assert "KEY_REFUSED" in errors


def test_who_has_no_opentelemetry_loads_none(tmp_path: Path) -> None:
    """A run of a program that didn't import it doesn't either."""
    script = (
        "import sys; from classify_batch import run; from tests.support.sandbox_settings import *\n"
        f"assert run(sandbox_settings(), IDS, {str(tmp_path / 'run')!r}).state == 'complete'\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
