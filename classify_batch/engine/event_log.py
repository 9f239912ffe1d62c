"""Writes what happens in a run to `events.jsonl`, through the store, as one observer among others.

It is for whoever asks in the morning what the night was like, and the run never waits or ends for it: nothing is made
durable, and the first write that fails is the last one. That is said once, and only where the run goes on: a disk that
is full ends the run in the next moment, and then the run's own error says why. Only the process that holds the run
writes.
"""

from __future__ import annotations

import logging
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

import anyio

from classify_batch.clock import to_iso
from classify_batch.engine.progress import Ending
from classify_batch.engine.sessions import process_here
from classify_batch.errors import ClassifyBatchError, ExitStatus
from classify_batch.events import (
    CreateAmbiguous,
    Event,
    FilesCommitted,
    FilesFailed,
    JobFinished,
    JobSubmitted,
    LimitDiscovered,
    LimitsChanged,
    OutageBegan,
    OutageEnded,
    RateLimited,
    Stopped,
    ThrottlingBegan,
    ThrottlingEnded,
    WaitBegan,
    WaitEnded,
    Warned,
)
from classify_batch.ports import Clock, RunStore
from classify_batch.rundir.events_jsonl import EVENTS_BYTES_MAX, encode_event
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.rundir.percentages import percentiles_of
from classify_batch.vocabulary import EARLIER_EVENTS_JSONL, EVENTS_JSONL, RunState

SUMMED_UP_EVERY_S = 10.0
"""So often at most is written how far the run is, and which failures came by message."""

MESSAGES_MAX = 100
"""Different messages of failures between two sums; further ones are counted under their code alone."""

END_S = 1.0
"""How long a stop waits for the last lines: a run that is asked to stop has to end within 4 s."""

GOES_ON_S = 5.0
"""A run that is on so long after a write was refused goes on without the log: what ends it ends it sooner."""

log = logging.getLogger("classify_batch")

_WRITTEN_AS_THEY_ARE: Mapping[type, str] = {
    LimitsChanged: "limits_changed",
    LimitDiscovered: "limit_discovered",
    RateLimited: "rate_cause",
    CreateAmbiguous: "create_ambiguous",
    Warned: "warning",
    Stopped: "stopping",
}


class EventLog:
    """`ports.Observer` that writes. `write_run_started` before the run's first event,
    `write_run_stopped` after its last one.

    Args:
        hide_secrets: takes secrets out of a text, as out of every error.
        bytes_max: at what size the file is put aside.
    """

    def __init__(
        self,
        store: RunStore,
        clock: Clock,
        hide_secrets: Callable[[str], str] = lambda text: text,
        *,
        bytes_max: int = EVENTS_BYTES_MAX,
    ) -> None:
        self._store = store
        self._clock = clock
        self._hide_secrets = hide_secrets
        self._bytes_max = bytes_max
        self._refusal: Exception | None = None
        self._refused_s = 0.0
        self._warned = False
        self._spans: dict[tuple[str, str], float] = {}
        self._counts = Counter[str]()
        self._failures = Counter[tuple[str, str]]()
        self._durations: list[float] = []
        self._jobs = Counter[str]()
        self._ending: dict[str, object] = {"state": RunState.INCOMPLETE.value, "exit_status": None, "reason": None}
        self._summed_up_s = self._began_s = anyio.current_time()

    async def write_run_started(self, found: RunOnDisk) -> None:
        """A process takes the run over."""
        snapshot = found.snapshot
        self._counts.update(snapshot.outcomes)
        if await self._ends_torn():
            await self._append_lines(b"\n")
        who = {**process_here(), "python": platform.python_version(), "start": snapshot.starts.count + 1}
        await self._append_lines(
            self._encode_line("started", {**who, "files": found.run.files, "done": self._counts.total()})
        )

    async def observe(self, event: Event) -> None:
        self._count_event(event)
        lines = b"".join(self._encode_event_lines(event))
        if anyio.current_time() - self._summed_up_s >= SUMMED_UP_EVERY_S:
            lines += self._encode_progress()
        if anyio.current_time() - self._refused_s >= GOES_ON_S:
            self._warn_of_refusal("is not written any more", "goes")
        if lines:
            with anyio.CancelScope(shield=True):  # an event whose observer is cancelled is delivered twice
                await self._append_lines(lines)

    def set_ending(self, ending: Ending) -> None:
        """How the run stands when the process leaves it."""
        self._ending = {
            "state": ending.state.value,
            "exit_status": int(ending.exit_status),
            "reason": ending.reason,
            "counts": ending.manifest["counts"],
        }

    def set_error(self, error: BaseException) -> None:
        """The error that ended the process's work."""
        status = error.exit_status if isinstance(error, ClassifyBatchError) else ExitStatus.BUG
        reason = str(error) if isinstance(error, ClassifyBatchError) else type(error).__name__
        self._ending = {"state": RunState.INCOMPLETE.value, "exit_status": int(status), "reason": reason}

    async def write_run_stopped(self) -> None:
        """The process leaves the run. A task that was cancelled leaves without an exit status."""
        seconds = round(anyio.current_time() - self._began_s, 3)
        with anyio.move_on_after(END_S, shield=True):
            await self._append_lines(
                self._encode_progress() + self._encode_line("stopped", {**self._ending, "seconds": seconds})
            )
        if self._ending["exit_status"] not in (None, ExitStatus.INCOMPLETE):  # else it ended by the same, or in haste
            self._warn_of_refusal("was not written to its end", "went")

    def _count_event(self, event: Event) -> None:
        match event:
            case JobSubmitted():
                self._jobs["submitted"] += 1
            case JobFinished():
                self._jobs["finished"] += 1
                if event.duration_s is not None:
                    self._durations.append(event.duration_s)
            case FilesCommitted():
                self._counts.update(event.outcomes)
            case FilesFailed():
                key = (event.code, event.message)
                if key not in self._failures and len(self._failures) >= MESSAGES_MAX:
                    key = (event.code, "other messages")
                self._failures[key] += event.files

    def _encode_event_lines(self, event: Event) -> Iterator[bytes]:
        now_s = self._clock.wall_s()
        match event:
            case OutageBegan():
                yield self._begin_span("outage", now_s - event.seconds)
            case ThrottlingBegan():
                yield self._begin_span("rate_limited", now_s)
            case OutageEnded():
                yield self._encode_ended_span("outage", event.seconds)
            case ThrottlingEnded():
                yield self._encode_ended_span("rate_limited", event.seconds, answers=event.answers)
            case WaitBegan():
                yield self._begin_span("waiting", now_s, event.reason)
            case WaitEnded():
                yield self._encode_ended_span("waiting", event.seconds, event.reason)
            case _ if (name := _WRITTEN_AS_THEY_ARE.get(type(event))) is not None:
                yield self._encode_line(name, asdict(event))

    def _begin_span(self, name: str, from_s: float, reason: str = "") -> bytes:
        self._spans[name, reason] = from_s
        why = {"reason": reason} if reason else {}
        return self._encode_line(name, {"from": to_iso(from_s), "to": None, "seconds": None, **why})

    def _encode_ended_span(self, name: str, seconds: float, reason: str = "", **values: object) -> bytes:
        from_s = self._spans.pop((name, reason), self._clock.wall_s() - seconds)
        values |= {"reason": reason} if reason else {}
        span = {"from": to_iso(from_s), "to": to_iso(from_s + seconds), "seconds": seconds}
        return self._encode_line(name, {**span, **values})

    def _encode_progress(self) -> bytes:
        """The line of how far the run is, and those of its failures since the last one; nothing where nothing ended."""
        self._summed_up_s = anyio.current_time()
        lines = [
            self._encode_line("files_failed", {"code": code, "message": message, "files": files})
            for (code, message), files in self._failures.most_common()
        ]
        if self._jobs or lines:
            progress = {
                "done": self._counts.total(),
                "counts": dict(self._counts),
                "jobs_submitted": self._jobs["submitted"],
                "jobs_finished": self._jobs["finished"],
                "job_s": percentiles_of(self._durations),
            }
            lines.append(self._encode_line("progress", progress))
        self._failures.clear()
        self._durations.clear()
        self._jobs.clear()
        return b"".join(lines)

    def _encode_line(self, event: str, values: Mapping[str, object]) -> bytes:
        shown = {name: self._hide_secrets(value) if isinstance(value, str) else value for name, value in values.items()}
        return encode_event(self._clock.wall_s(), event, shown)

    # --- The file ---------------------------------------------------------------------------------------------------

    async def _ends_torn(self) -> bool:
        """Whether a killed process left half a line: what follows must not be lost with it."""
        try:
            size = await self._store.size(EVENTS_JSONL) or 0
            return size > 0 and await self._store.read(EVENTS_JSONL, size - 1, size) != b"\n"
        except (ClassifyBatchError, OSError) as error:
            self._stop_writing(error)
            return False

    async def _append_lines(self, lines: bytes) -> None:
        if self._refusal is not None or not lines:
            return
        try:
            if await self._store.append_undurable(EVENTS_JSONL, lines) >= self._bytes_max:
                await self._store.rename(EVENTS_JSONL, EARLIER_EVENTS_JSONL)
        except (ClassifyBatchError, OSError) as error:
            self._stop_writing(error)

    def _stop_writing(self, error: Exception) -> None:
        self._refusal, self._refused_s = error, anyio.current_time()

    def _warn_of_refusal(self, what: str, goes: str) -> None:
        if self._refusal is not None and not self._warned:
            log.warning("%s %s: %s; the run %s on without it", EVENTS_JSONL, what, self._refusal, goes)
            self._warned = True
