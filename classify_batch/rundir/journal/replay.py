"""Where a run stands after its journal's entries so far: pure.

The process that writes the journal applies each fact to the very same `RunSnapshot` as one that reads it back. So a
resumed run can't differ from one that was never interrupted.

Memory: two bytes per chunk, and objects only for the chunks that have open attempts or parts to send. Failed files that
get a new chance are taken into hand a few at a time (see `Untaken`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from classify_batch.errors import InternalError
from classify_batch.lifecycle import (
    AboutRun,
    Adopted,
    Closed,
    Ended,
    Fact,
    Finished,
    Opened,
    Recheck,
    Reopened,
    RequeuedPart,
    Retried,
    Submitted,
    Submitting,
    move,
)
from classify_batch.model import AttemptKey, Part
from classify_batch.rundir.journal.entry import Entry, read_part
from classify_batch.rundir.journal.open_attempts import AttemptCounts, ChunkInHand, OpenAttempt, Untaken
from classify_batch.rundir.journal.starts import Starts
from classify_batch.rundir.journal.totals import Totals
from classify_batch.vocabulary import CancelState, FailureCode, Kind, OutcomeKind, RunState

PLANNED, OPEN, DONE = 0, 1, 2

_BAD_JOB_CODES = frozenset({FailureCode.JOB_ERROR.value, FailureCode.JOB_CANCELLED.value})

_Segment = tuple[int, int, int]
_SUBMITTING, _SUBMITTED, _ADOPTED, _FINISHED = Kind.SUBMITTING, Kind.SUBMITTED, Kind.ADOPTED, Kind.FINISHED


class RunSnapshot(Totals):
    """Where a run stands: its sums (see Totals), and what is known of its chunks.

    Attributes:
        open: the attempts that have not ended; jobs_in_flight: those of them that have a job.
        results_end, failures_end, provisional_end: bytes of the outcome files that are committed.
        generation: how often the failed files got a new chance; earlier_failures: lines and bytes of the failures
            that were put aside each time.
        retries: of the failed files that got a new chance, those that are not in hand yet, by generation.
        durations: the last jobs', in seconds.
        job_id: the last one that the API named.
        server_s: the server's own time, as far as it was read: the latest `created_at` of a job of this run.
        server_s_is_listed: whether that is still the time of a listed job, since none of this run has told one.
        names_untimed: whether a line names jobs and tells no time: the older ones do, up to 0.2.
        times_apart: whether the server's clocks were seen to disagree by more than `limits.clock_spread_s`.
        accept_s: the longest that a process of this run gave a create call to be accepted; None: none has said.
        bound_holds: whether every credit that was spent stands in the journal: versions up to 0.2 let v2's creates
            leave before their intents were written.
        cancel: how far the cancelling of the run is; None: it isn't cancelled, or has gone on since.
    """

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self.chunk_states = bytearray(chunks)
        self.done_chunks = 0
        self.open: dict[AttemptKey, OpenAttempt] = {}
        self.jobs_in_flight = 0
        self._in_hand: dict[int, ChunkInHand] = {}
        self.results_end = 0
        self.failures_end = 0
        self.provisional_end = 0
        self.generation = 0
        self.earlier_failures: list[tuple[int, int]] = []
        self.retries: dict[int, Untaken] = {}
        self._attempts = AttemptCounts(chunks)
        self.project_id: str | None = None
        self.starts = Starts()
        self.opened: Opened | None = None
        self.closed: Closed | None = None
        self.job_id: str | None = None
        self.server_s: float | None = None
        self.server_s_is_listed = False
        self.names_untimed = False
        self.times_apart = False
        self.accept_s: float | None = None
        self.bound_holds = True
        self.cancel: CancelState | None = None
        self._holders: dict[str, AttemptKey] = {}

    def begin(
        self,
        done_chunks: int,
        results_end: int,
        outcomes: Mapping[str, int],
        types: Mapping[str, int],
        accepted: int = 0,
    ) -> None:
        """Begins with the first chunks done, whose outcomes were reused: results.jsonl begins with them."""
        self.begin_with(outcomes, types, accepted)
        self.chunk_states[:done_chunks] = bytes([DONE]) * done_chunks
        self.done_chunks = done_chunks
        self.results_end = results_end

    @property
    def complete(self) -> bool:
        """Whether every chunk is done, and none has failed files that are to be retried."""
        return self.done_chunks == len(self.chunk_states) and not self.retries

    def is_planned(self, chunk: int) -> bool:
        """Whether a chunk has never gone out."""
        return self.chunk_states[chunk] == PLANNED

    def is_done(self, chunk: int) -> bool:
        """Whether every file of a chunk has its outcome."""
        return self.chunk_states[chunk] == DONE

    def waiting_parts(self) -> list[Part]:
        """Parts of begun chunks that go out again, in the order of their chunks."""
        return [part for chunk in sorted(self._in_hand) for part in self._in_hand[chunk].waiting]

    def next_attempt(self, chunk: int) -> int:
        in_hand = self._in_hand.get(chunk)
        return (self._attempts.of(chunk) if in_hand is None else in_hand.attempts) + 1

    def holder_of(self, job_id: str) -> AttemptKey | None:
        """The open attempt that has this job."""
        return self._holders.get(job_id)

    def others_suspect(self, key: AttemptKey) -> bool:
        """Whether a bad job that an open attempt's file shared may have been the fault of another file: of one that is
        still out or waits to go out, or has failed by itself since."""
        in_hand = self._in_hand[key.chunk]
        return (
            in_hand.guilty
            or any(part.shared_bad_jobs for part in in_hand.waiting)
            or any(
                other.part.shared_bad_jobs
                for number in range(1, in_hand.attempts + 1)
                if number != key.attempt and (other := self.open.get(AttemptKey(key.chunk, number))) is not None
            )
        )

    def learn_server_s(self, created_at_s: float | None) -> None:
        """Takes the time of a job of this run that was read, where it is the latest."""
        if created_at_s is None:
            return
        if self.server_s is None or self.server_s_is_listed or created_at_s > self.server_s:
            self.server_s, self.server_s_is_listed = created_at_s, False

    # --- Reading ----------------------------------------------------------------------------------------------------

    def read(self, entry: Entry, offset: int) -> None:
        """Applies a line of the journal, which begins at `offset`."""
        self.seq = entry.seq
        if not entry.items:
            self._apply_about_run(entry)
            return
        self._tell(entry.requests)
        if entry.found is not None:
            self.found = entry.found
        self.times_apart |= entry.times_apart
        self.server_s = self.server_s if entry.server_s is None else entry.server_s
        kind, at_s = entry.kind, entry.at_s
        if kind is _FINISHED:
            for item in entry.items:
                self._apply_finished((item.chunk, item.attempt), item.duration_s)
        elif kind is _SUBMITTING:
            for item in entry.items:
                told = item.credits, entry.server_s, item.project_id, item.sent_ids
                self._apply_submitting((item.chunk, item.attempt), item.part, at_s, offset, *told)
        elif kind is _SUBMITTED or kind is _ADOPTED:
            self.names_untimed |= entry.server_s is None
            for item in entry.items:
                self._apply_accepted((item.chunk, item.attempt), kind, item.job_id, at_s, item.project_id)
        else:
            for item in entry.items:
                segments = (item.results, item.failures, item.provisional)
                self._apply_ended((item.chunk, item.attempt), kind, segments, item.parts_again, item.failure_codes)
                self._count(item.counts, item.types, item.failure_codes, item.sums)

    def _apply_about_run(self, entry: Entry) -> None:
        if (opened := entry.opened) is not None:
            self.end_reading()
            self.opened, self.closed = opened, None
            if (accept_s := opened.get("accept_s")) is not None:
                self.accept_s = max(accept_s, self.accept_s or 0.0)
        elif (closed := entry.closed) is not None:
            self.closed = closed
            self._close(closed.get("requests"))
        elif entry.reopened is not None:
            self.reopen(entry.reopened, entry.at_s)
        elif entry.retried is not None:
            self.take_retried(entry.retried, entry.at_s)
        # Of limits that were changed only the process knows that was told: the next one may be told others.
        if (values := entry.opened or entry.closed or entry.tuned) is not None:
            self.starts.follow(entry.kind, values, entry.at_s, self.outcomes.total())
            self.follow_cancel(entry.kind, values)

    def follow_cancel(self, kind: Kind, values: AboutRun) -> None:
        """What a line about the run as a whole says of its cancel: whatever is open then may end as cancelled."""
        if kind is Kind.TUNED and values.get("cancel"):
            self.cancel = CancelState.ASKED
            for attempt in self.open.values():
                attempt.cancelled = True
        elif kind is Kind.CLOSED and values.get("cancelled"):
            self.cancel = CancelState.DONE
        elif kind is Kind.REOPENED or values.get("state") == RunState.COMPLETE or self.cancel is CancelState.DONE:
            self.cancel = None  # the run goes on, or nothing is left of it

    def end_reading(self) -> None:
        super().end_reading()
        self._note_unbounded_kill()

    def _note_unbounded_kill(self) -> None:
        """A process of an older version that was killed may have sent what it had not written down, where it had no
        bound of credits to hold."""
        opened = self.opened
        if opened is None or self.closed is not None or "accept_s" in opened:
            return
        if opened.get("limits", {}).get("max_credits") is None:
            self.bound_holds = False

    def apply(self, fact: Fact, offset: int) -> None:
        """Makes a fact true. `offset`: where its line begins in the journal."""
        match fact:
            case Submitting():
                told = fact.credits, fact.server_s, fact.project_id, fact.sent_ids
                self._apply_submitting(fact.key, fact.part, fact.since_s, offset, *told)
            case Submitted():
                self.learn_server_s(fact.created_at_s)
                self._apply_accepted(fact.key, Kind.SUBMITTED, fact.job_id, fact.at_s, fact.project_id)
            case Adopted():
                self.learn_server_s(fact.created_at_s)
                self._apply_accepted(fact.key, Kind.ADOPTED, fact.job_id, fact.at_s, fact.project_id)
            case Finished():
                self._apply_finished(fact.key, fact.duration_s)
            case Ended():
                tally = fact.tally
                self.learn_server_s(fact.created_at_s)
                segments = (fact.results, fact.failures, fact.provisional)
                self._apply_ended(fact.key, fact.kind, segments, fact.requeued, tally.codes)
                self._count(tally.outcomes, tally.types, tally.codes, tally.sums)

    def reopen(self, values: Reopened, at_s: float) -> None:
        """Gives the failed files a new chance: from here the failures begin at 0 again."""
        self.generation = values["generation"]
        self.follow_cancel(Kind.REOPENED, values)
        self.earlier_failures.append((self.outcomes[OutcomeKind.FAILED], self.failures_end))
        self.failures_end = 0
        self._reopen(())
        if retry_bytes := values.get("retry_bytes", 0):
            self.retries[self.generation] = Untaken(0, retry_bytes)
        self._take_in_hand(values.get("again", ()), values.get("looks", ()), at_s)

    def take_retried(self, values: Retried, at_s: float) -> None:
        """Takes some of the failed files in hand."""
        untaken = self.retries[values["generation"]]
        untaken.taken = values["taken"]
        if untaken.taken >= untaken.end:
            del self.retries[values["generation"]]
        self._take_in_hand(values["again"], values["looks"], at_s)

    def _take_in_hand(self, again: Iterable[RequeuedPart], looks: Sequence[Recheck], at_s: float) -> None:
        """`again` are parts that go out; `looks` are attempts whose old jobs are looked at first, as if their create
        calls had just been made (with a `job_id`) or were still ambiguous (without). What was set aside for them still
        is: their `credits` say how much; a journal that says nothing gives nothing back."""
        self._take_bills_back(looks)
        for item in again:
            part = read_part(item["chunk"], item)
            self._reopen_chunk(part.chunk, item.get("attempts", 0)).waiting.append(part)
        for item in looks:
            key = AttemptKey(item["chunk"], item["attempt"])
            self._reopen_chunk(key.chunk, item.get("attempts", key.attempt)).open_attempts += 1
            attempt = self.open[key] = OpenAttempt.of_recheck(read_part(key.chunk, item), item, at_s)
            if attempt.job_id is not None:
                self.jobs_in_flight += 1
                self._holders[attempt.job_id] = key

    def _reopen_chunk(self, chunk: int, attempts: int) -> ChunkInHand:
        in_hand = self._in_hand.setdefault(chunk, ChunkInHand())
        in_hand.attempts = max(in_hand.attempts, attempts, self._attempts.of(chunk))
        if self.chunk_states[chunk] == DONE:
            self.chunk_states[chunk] = OPEN
            self.done_chunks -= 1
        return in_hand

    # --- One step of one attempt: what is read and what is lived come by here ----------------------------------------

    def _apply_submitting(
        self,
        key: tuple[int, int],
        part: Part,
        since_s: float,
        offset: int,
        credits: float,
        server_s: float | None,
        project_id: str | None,
        sent_ids: tuple[str, ...],
    ) -> None:
        attempt = self.open.get(key)  # type: ignore[call-overload]
        if attempt is None:
            attempt = self._begin_attempt(AttemptKey(*key), part, since_s, offset)
            attempt.server_s, attempt.project_id, attempt.sent_ids = server_s, project_id, sent_ids
        attempt.credits += credits
        self._reserve(credits)
        attempt.state = move(attempt.state, _SUBMITTING)

    def _begin_attempt(self, key: AttemptKey, part: Part, since_s: float, offset: int) -> OpenAttempt:
        chunk, self.cancel = key.chunk, None  # an older version goes on without knowing of a cancel
        if self.chunk_states[chunk] == PLANNED:
            self.chunk_states[chunk] = OPEN
            if not part.is_planned:
                raise ValueError("a part of a chunk that has never gone out")
            in_hand = self._in_hand[chunk] = ChunkInHand()
        else:
            in_hand = self._in_hand[chunk]
            in_hand.waiting.remove(part)
        in_hand.attempts = max(in_hand.attempts, key.attempt)
        in_hand.open_attempts += 1
        attempt = self.open[key] = OpenAttempt(part, since_s, offset)
        return attempt

    def _apply_accepted(
        self, key: tuple[int, int], kind: Kind, job_id: str | None, at_s: float, project_id: str | None
    ) -> None:
        if job_id is None:
            raise ValueError("a job without an ID")
        attempt = self._open_attempt(key)
        attempt.state = move(attempt.state, kind)
        self.jobs += 1
        self.jobs_in_flight += attempt.job_id is None
        attempt.job_id, attempt.submitted_at_s = job_id, at_s
        attempt.reopened = False  # a new job, or one that the list showed: it is there
        self._holders[job_id] = AttemptKey(*key)
        self.job_id = job_id
        self.project_id = self.project_id or project_id

    def _apply_finished(self, key: tuple[int, int], duration_s: float | None) -> None:
        attempt = self._open_attempt(key)
        attempt.state = move(attempt.state, _FINISHED)
        if duration_s is not None:
            self.durations.append(duration_s)

    def _apply_ended(
        self,
        key: tuple[int, int],
        kind: Kind,
        segments: tuple[_Segment | None, _Segment | None, _Segment | None],
        requeued: tuple[Part, ...],
        codes: Mapping[str, int] | None,
    ) -> None:
        attempt = self._open_attempt(key)
        attempt.state = move(attempt.state, kind)
        results, failures, provisional = segments
        self.results_end = end_after_segment(self.results_end, results)
        self.failures_end = end_after_segment(self.failures_end, failures)
        self.provisional_end = end_after_segment(self.provisional_end, provisional)
        del self.open[key]  # type: ignore[arg-type]
        if attempt.job_id is not None:
            self.jobs_in_flight -= 1
            self._holders.pop(attempt.job_id, None)
        chunk, _ = key
        in_hand = self._in_hand[chunk]
        in_hand.guilty |= bool(codes and attempt.part.shared_bad_jobs and not _BAD_JOB_CODES.isdisjoint(codes))
        in_hand.open_attempts -= 1
        in_hand.waiting += requeued
        if not in_hand.open_attempts and not in_hand.waiting:
            del self._in_hand[chunk]
            self._attempts.set(chunk, in_hand.attempts)
            self.chunk_states[chunk] = DONE
            self.done_chunks += 1

    def _open_attempt(self, key: tuple[int, int]) -> OpenAttempt:
        try:
            return self.open[key]  # type: ignore[index]  # a named tuple is found by a plain one
        except KeyError:
            raise InternalError(f"chunk {key[0]} has no attempt {key[1]}") from None


def end_after_segment(end: int, segment: _Segment | None) -> int:
    if segment is None:
        return end
    start, next_end, _ = segment
    if start != end:
        raise InternalError(f"a segment begins at byte {start}, and the one before it ends at {end}")
    return next_end
