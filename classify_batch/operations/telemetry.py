"""Runs, chunks and calls as spans, with counters and histograms, for OpenTelemetry.

Only the API of OpenTelemetry is used (the extra `otel`): where the numbers go, the program says that sets up its SDK.
Who has not imported OpenTelemetry gets nothing, and pays nothing. Instrumentation of httpx sees none of our requests,
since the connections are our own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING

import anyio

from classify_batch.engine.progress import Ending
from classify_batch.errors import ApiError
from classify_batch.events import Event, FilesCommitted, JobFinished, JobSubmitted
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.vocabulary import RunState

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span

NAME = "classify_batch"


def telemetry_of(found: RunOnDisk) -> AbstractContextManager[Telemetry | None]:
    """The telemetry of a run, inside the block; None where the program has not imported OpenTelemetry."""
    if "opentelemetry" not in sys.modules:
        return nullcontext()
    try:
        telemetry = Telemetry(found)
    except ImportError:  # some other package of that name space
        return nullcontext()
    return telemetry.tracing_run()


class Telemetry:
    """`ports.Observer` of one run, and of its calls."""

    def __init__(self, found: RunOnDisk) -> None:
        from opentelemetry import metrics, trace  # noqa: PLC0415 - an extra
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415 - an extra

        self._kind, self._error = SpanKind.CLIENT, StatusCode.ERROR
        self._tracer = trace.get_tracer(NAME, version("classify-batch"))
        meter = metrics.get_meter(NAME, version("classify-batch"))
        self._files = meter.create_counter(f"{NAME}.files", "{file}", "Files that got their outcome.")
        self._jobs = meter.create_counter(f"{NAME}.jobs", "{job}", "Jobs that ended.")
        self._job_s = meter.create_histogram(f"{NAME}.job.duration", "s", "How long jobs took.")
        self._calls = meter.create_histogram(f"{NAME}.call.duration", "s", "How long calls of the API took.")
        self._about_run: dict[str, str | int] = {
            "classify_batch.run.id": found.run.run_id,
            "classify_batch.run.files": found.run.files,
        }
        self._run: Span | None = None
        self._chunks: dict[tuple[int, int], Span] = {}

    @contextmanager
    def tracing_run(self) -> Iterator[Telemetry]:
        """The span of the run; every task that begins inside the block makes its spans below it."""
        with self._tracer.start_as_current_span(f"{NAME}.run", attributes=self._about_run) as span:
            self._run = span
            try:
                yield self
            finally:
                for chunk in self._chunks.values():  # in flight: a later process collects them
                    chunk.end()
                self._chunks.clear()

    def set_ending(self, ending: Ending) -> None:
        """How the run stands when this process leaves it."""
        if self._run is None:
            return
        self._run.set_attribute("classify_batch.run.state", ending.state.value)
        self._run.set_attribute("classify_batch.run.exit_status", int(ending.exit_status))
        for kind, count in ending.manifest["counts"].items():
            self._run.set_attribute(f"classify_batch.run.{kind}", count)
        if ending.state is not RunState.COMPLETE:
            self._run.set_status(self._error, ending.reason or "incomplete")

    async def observe(self, event: Event) -> None:
        """Begins and ends the spans of chunks, and counts."""
        match event:
            case JobSubmitted():
                about = {"classify_batch.chunk": event.chunk, "classify_batch.attempt": event.attempt}
                span = self._tracer.start_span(
                    f"{NAME}.chunk", attributes={**about, "classify_batch.job": event.job_id}
                )
                self._chunks[event.chunk, event.attempt] = span
            case JobFinished():
                self._jobs.add(1, {"status": event.status})
                if event.duration_s is not None:
                    self._job_s.record(event.duration_s, {"status": event.status})
                if (chunk := self._chunks.get((event.chunk, event.attempt))) is not None:
                    chunk.add_event("job finished", {"status": event.status})
            case FilesCommitted():
                for kind, count in event.outcomes.items():
                    self._files.add(count, {"outcome": kind})
                if (chunk := self._chunks.pop((event.chunk, event.attempt), None)) is not None:
                    chunk.set_attributes({f"classify_batch.{kind}": count for kind, count in event.outcomes.items()})
                    chunk.end()

    @contextmanager
    def tracing_call(self, call: str, chunk: int | None, job: str | None) -> Iterator[None]:
        """The span of a call, with what it waited for its turn; and how long it took, by how it ended."""
        known = {"classify_batch.chunk": chunk, "classify_batch.job": job}
        about = {name: value for name, value in known.items() if value is not None}
        ended, began_s = {"call": call}, anyio.current_time()
        with self._tracer.start_as_current_span(
            f"{NAME}.{call}", kind=self._kind, attributes=about, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException as error:
                ended["error.type"] = error.verdict.name if isinstance(error, ApiError) else type(error).__name__
                words = str(error) if isinstance(error, ApiError) else "interrupted"  # without secrets
                span.set_status(self._error, words)
                if isinstance(error, ApiError) and error.status is not None:
                    span.set_attribute("http.response.status_code", error.status)
                raise
            finally:
                self._calls.record(anyio.current_time() - began_s, ended)
