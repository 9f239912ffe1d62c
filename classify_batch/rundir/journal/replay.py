"""Where a run stands after its journal's entries so far: pure.

The process that writes the journal applies each fact to the very same `RunSnapshot` as one that reads it back. So a
resumed run can't differ from one that was never interrupted.

Lines of attempts that go the fast path may be read in bulk (see plain.py). Whatever is not plain makes them attempts
like all others first, and then goes by the general rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from classify_batch.errors import InternalError
from classify_batch.file_keys import file_key
from classify_batch.lifecycle import (
    AboutRun,
    Adopted,
    Ended,
    Fact,
    Finished,
    Recheck,
    Reopened,
    RequeuedPart,
    Retried,
    Submitted,
    Submitting,
    next_state,
)
from classify_batch.model import AttemptKey, Part
from classify_batch.rundir.journal.entry import Entry, read_part
from classify_batch.rundir.journal.open_attempts import ActiveChunk, OpenAttempt, PendingRetries, unless_planned
from classify_batch.rundir.journal.plain import (
    PlainAccepted,
    PlainEnds,
    PlainFinished,
    PlainIntents,
    PlainLine,
    as_entry,
)
from classify_batch.rundir.journal.snapshot_state import DONE, OPEN, PLANNED, SnapshotState
from classify_batch.vocabulary import CancelState, FailureCode, Kind, OutcomeKind, RunState

_BAD_JOB_CODES = frozenset({FailureCode.JOB_ERROR.value, FailureCode.JOB_CANCELLED.value})

_Segment = tuple[int, int, int]
_SUBMITTING, _SUBMITTED, _ADOPTED, _FINISHED = Kind.SUBMITTING, Kind.SUBMITTED, Kind.ADOPTED, Kind.FINISHED


class RunSnapshot(SnapshotState):
    """Where a run stands: its sums (see Totals), and what is known of its chunks (see SnapshotState)."""

    def begin_with_reused(
        self,
        done_chunks: int,
        results_end: int,
        outcomes: Mapping[str, int],
        types: Mapping[str, int],
        accepted: int = 0,
    ) -> None:
        """Begins with the first chunks done, whose outcomes were reused: results.jsonl begins with them."""
        self.begin_with(outcomes, types, accepted)
        for chunk in range(done_chunks):
            self.chunk_states[chunk] = DONE
        self.done_chunks = done_chunks
        self.results_end = results_end

    # --- Reading ----------------------------------------------------------------------------------------------------

    def apply_entry(self, entry: Entry, offset: int) -> None:
        """Applies a line of the journal, which begins at `offset`."""
        self.seq = entry.seq
        self.expand_bulk_attempts()
        if not entry.items:
            self._apply_about_run(entry)
            return
        self._apply_line_values(entry)
        kind, at_s = entry.kind, entry.at_s
        if kind is _FINISHED:
            for item in entry.items:
                self._apply_finished((item.chunk, item.attempt), item.duration_s)
        elif kind is _SUBMITTING:
            for item in entry.items:
                intended = item.credits, entry.server_s, item.project_id, item.sent_ids
                part = None if item.is_planned else item.part
                self._apply_submitting((item.chunk, item.attempt), part, at_s, offset, *intended)
        elif kind is _SUBMITTED or kind is _ADOPTED:
            self.names_jobs_without_time |= entry.server_s is None
            for item in entry.items:
                self._apply_accepted((item.chunk, item.attempt), kind, item.job_id, at_s, item.project_id)
        else:
            for item in entry.items:
                segments = (item.results, item.failures, item.provisional)
                self._apply_ended((item.chunk, item.attempt), kind, segments, item.parts_again, item.failure_codes)
                self._add_attempt_end(item.counts, item.types, item.failure_codes, item.sums)

    def replay_line(self, line: Entry | PlainLine, offset: int) -> None:
        """The same, of a line that may say nothing unusual."""
        if isinstance(line, Entry):
            self.apply_entry(line, offset)
        elif self._apply_plain(line, offset):
            self.seq = line.seq
            self._apply_line_values(line)
        else:
            self.apply_entry(as_entry(line), offset)

    def _apply_line_values(self, line: Entry | PlainLine) -> None:
        """What a line says beside its facts."""
        self._set_session_requests(line.requests)
        if line.found is not None:
            self.found = line.found
        self.clocks_disagree |= line.clocks_disagree
        self.server_s = self.server_s if line.server_s is None else line.server_s

    def _apply_plain(self, line: PlainLine, offset: int) -> bool:
        match line:
            case PlainIntents():
                return self._apply_plain_intents(line, offset)
            case PlainAccepted():
                return self._apply_plain_accepted(line)
            case PlainFinished():
                if fits := self._plain.finish_jobs(line):
                    self.durations.extend([item.duration_s for item in line.items if item.duration_s is not None])
                return fits
            case PlainEnds():
                return self._apply_plain_ends(line)

    def _apply_plain_intents(self, line: PlainIntents, offset: int) -> bool:
        chunks, states = [item.chunk for item in line.items], self.chunk_states
        if any(map(states.__getitem__, chunks)) or len(set(chunks)) < len(chunks):
            return False
        self._plain.begin_attempts(line, chunks, offset)
        self.cancel = None  # an older version goes on without knowing of a cancel
        for item in line.items:
            states[item.chunk] = OPEN
            self._add_reserved(item.credits)
        return True

    def _apply_plain_accepted(self, line: PlainAccepted) -> bool:
        if not self._plain.accept_jobs(line):
            return False
        self.names_jobs_without_time |= line.server_s is None
        self._count_jobs(len(line.items))
        self.jobs_in_flight += len(line.items)
        self.job_id = line.items[-1].job_id
        if self.project_id is None:
            self.project_id = next((item.project_id for item in line.items if item.project_id), None)
        return True

    def _apply_plain_ends(self, line: PlainEnds) -> bool:
        chunks, states = [item.chunk for item in line.items], self.chunk_states
        if not self._plain.end_attempts(chunks):
            return False
        for item in line.items:
            self._advance_ends(item.results, item.failures, item.provisional)
            self._add_attempt_end(item.counts, item.types, item.failure_codes, item.sums)
            states[item.chunk] = DONE
        self._attempts.set_to_one(chunks)
        self.jobs_in_flight -= len(chunks)
        self.done_chunks += len(chunks)
        return True

    def expand_bulk_attempts(self) -> None:
        """Makes what was read in bulk attempts like all others."""
        if self._plain:
            for attempt in self._plain.take_all():
                attempt.account = self.account
                self.open_attempts[attempt.key] = attempt
                self._active_chunks[attempt.key.chunk] = ActiveChunk(1, 1)
                if attempt.job_id is not None:
                    self._attempt_by_job[file_key(attempt.job_id)] = attempt.key

    def _apply_about_run(self, entry: Entry) -> None:
        if (opened := entry.opened) is not None:
            self.end_reading()
            self.opened, self.closed = opened, None
            self.begin_session(opened.get("account"))
            if (accept_s := opened.get("accept_s")) is not None:
                self.accept_s = max(accept_s, self.accept_s or 0.0)  # a call counts by the longest that was given
        elif (closed := entry.closed) is not None:
            self.closed = closed
            self._end_session(closed.get("requests"))
        elif entry.reopened is not None:
            self.reopen_failed(entry.reopened, entry.at_s)
        elif entry.retried is not None:
            self.take_retried(entry.retried, entry.at_s)
        # Changed limits are those of the process that was given them only: the next one may be given others.
        if (values := entry.opened or entry.closed or entry.tuned) is not None:
            self.starts.apply_line(entry.kind, values, entry.at_s, self.outcomes.total())
            self.follow_cancel(entry.kind, values)

    def follow_cancel(self, kind: Kind, values: AboutRun) -> None:
        """What a line about the run as a whole says of its cancel: whatever is open then may end as cancelled."""
        if kind is Kind.TUNED and values.get("cancel"):
            self.cancel = CancelState.ASKED
            for attempt in self.open_attempts.values():
                attempt.cancelled = True
        elif kind is Kind.CLOSED and values.get("cancelled"):
            self.cancel = CancelState.DONE
        elif kind is Kind.REOPENED or values.get("state") == RunState.COMPLETE or self.cancel is CancelState.DONE:
            self.cancel = None  # the run goes on, or nothing is left of it

    def end_reading(self) -> None:
        super().end_reading()
        self.expand_bulk_attempts()
        self._note_unbounded_kill()

    def _note_unbounded_kill(self) -> None:
        """A process of an older version that was killed may have sent what it had not written down, where it had no
        bound of credits to hold."""
        opened = self.opened
        if opened is None or self.closed is not None or "accept_s" in opened:
            return
        if opened.get("limits", {}).get("max_credits") is None:
            self.credits_all_journalled = False

    def apply_fact(self, fact: Fact, offset: int) -> None:
        """Makes a fact true. `offset`: where its line begins in the journal."""
        match fact:
            case Submitting():
                intended = fact.credits, fact.server_s, fact.project_id, fact.sent_ids
                self._apply_submitting(fact.key, unless_planned(fact.part), fact.since_s, offset, *intended)
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
                self._add_attempt_end(tally.outcomes, tally.types, tally.codes, tally.sums)

    def reopen_failed(self, values: Reopened, at_s: float) -> None:
        """Gives the failed files a new chance: from here the failures begin at 0 again."""
        self.generation = values["generation"]
        self.follow_cancel(Kind.REOPENED, values)
        self.earlier_failures.append((self.outcomes[OutcomeKind.FAILED], self.failures_end))
        self.failures_end = 0
        self._forget_failures(())
        if retry_bytes := values.get("retry_bytes", 0):
            self.pending_retries[self.generation] = PendingRetries(0, retry_bytes)
        self._begin_retries(values.get("again", ()), values.get("looks", ()), at_s)

    def take_retried(self, values: Retried, at_s: float) -> None:
        """Goes on with some of the failed files."""
        pending = self.pending_retries[values["generation"]]
        pending.taken = values["taken"]
        if pending.taken >= pending.end:
            del self.pending_retries[values["generation"]]
        self._begin_retries(values["again"], values["looks"], at_s)

    def _begin_retries(self, requeued: Iterable[RequeuedPart], rechecks: Sequence[Recheck], at_s: float) -> None:
        """`requeued` are parts that are sent; `rechecks` are attempts whose old jobs are read first, as if their create
        calls had just been made (with a `job_id`) or were still ambiguous (without). What was set aside for them still
        is: their `credits` say how much; a journal that says nothing gives nothing back."""
        self._subtract_bills(rechecks)
        for item in requeued:
            part = read_part(item["chunk"], item)
            self._reopen_chunk(part.chunk, item.get("attempts", 0)).waiting.append(part)
        for item in rechecks:
            key = AttemptKey(item["chunk"], item["attempt"])
            self._reopen_chunk(key.chunk, item.get("attempts", key.attempt)).open_count += 1
            attempt = self.open_attempts[key] = OpenAttempt.of_recheck(key, read_part(key.chunk, item), item, at_s)
            attempt.cancelled = self.cancel is CancelState.ASKED
            self.open_of_other_accounts += not self.is_own(attempt)
            if attempt.job_id is not None:
                self.jobs_in_flight += self.is_own(attempt)
                self._attempt_by_job[file_key(attempt.job_id)] = key

    def _reopen_chunk(self, chunk: int, attempts: int) -> ActiveChunk:
        active = self._active_chunks.setdefault(chunk, ActiveChunk())
        active.attempts = max(active.attempts, attempts, self._attempts.count_of_chunk(chunk))
        if self.chunk_states[chunk] == DONE:
            self.chunk_states[chunk] = OPEN
            self.done_chunks -= 1
        return active

    # --- One step of one attempt: what is read and what is lived come by here ----------------------------------------

    def _apply_submitting(
        self,
        key: tuple[int, int],
        part: Part | None,
        since_s: float,
        offset: int,
        credits: float,
        server_s: float | None,
        project_id: str | None,
        sent_ids: tuple[str, ...],
    ) -> None:
        attempt = self.open_attempts.get(key)  # type: ignore[call-overload]
        if attempt is None:
            attempt = self._begin_attempt(AttemptKey(*key), part, since_s, offset)
            attempt.server_s, attempt.project_id, attempt.sent_ids = server_s, project_id, sent_ids
        attempt.credits += credits
        self._add_reserved(credits)
        attempt.state = next_state(attempt.state, _SUBMITTING)

    def _begin_attempt(self, key: AttemptKey, part: Part | None, since_s: float, offset: int) -> OpenAttempt:
        """`part`: None: the whole chunk, as it was planned."""
        chunk, self.cancel = key.chunk, None  # an older version goes on without knowing of a cancel
        if self.chunk_states[chunk] == PLANNED:
            self.chunk_states[chunk] = OPEN
            if part is not None:
                raise ValueError("a part of a chunk that has never gone out")
            active = self._active_chunks[chunk] = ActiveChunk()
        else:
            active = self._active_chunks[chunk]
            active.waiting.remove(Part(chunk) if part is None else part)
        active.attempts = max(active.attempts, key.attempt)
        active.open_count += 1
        attempt = self.open_attempts[key] = OpenAttempt(key, part, since_s, offset, account=self.account)
        return attempt

    def _apply_accepted(
        self, key: tuple[int, int], kind: Kind, job_id: str | None, at_s: float, project_id: str | None
    ) -> None:
        if job_id is None:
            raise ValueError("a job without an ID")
        attempt = self._open_attempt(key)
        attempt.state = next_state(attempt.state, kind)
        self._count_jobs(1)
        self.jobs_in_flight += attempt.job_id is None  # an old job that is read again counts already
        attempt.job_id, attempt.waits_since_s = job_id, at_s
        attempt.is_recheck = False  # a new job, or one that the list showed: it is there
        self._attempt_by_job[file_key(job_id)] = attempt.key
        self.job_id = job_id
        self.project_id = self.project_id or project_id

    def _apply_finished(self, key: tuple[int, int], duration_s: float | None) -> None:
        attempt = self._open_attempt(key)
        attempt.state = next_state(attempt.state, _FINISHED)
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
        attempt.state = next_state(attempt.state, kind)
        self._advance_ends(*segments)
        del self.open_attempts[key]  # type: ignore[arg-type]
        if attempt.job_id is not None:
            self.jobs_in_flight -= 1
            self._attempt_by_job.pop(file_key(attempt.job_id), None)
        chunk, _ = key
        active = self._active_chunks[chunk]
        if codes and (part := attempt.part_sent) is not None and part.shared_bad_jobs:
            active.guilty |= not _BAD_JOB_CODES.isdisjoint(codes)
        active.open_count -= 1
        active.waiting += requeued  # with the end, so that no file is ever without an attempt or a place in the queue
        if not active.open_count and not active.waiting:
            del self._active_chunks[chunk]
            self._attempts.set_count(chunk, active.attempts)
            self.chunk_states[chunk] = DONE
            self.done_chunks += 1

    def _advance_ends(self, results: _Segment | None, failures: _Segment | None, provisional: _Segment | None) -> None:
        if results is not None:
            self.results_end = end_after_segment(self.results_end, results)
        if failures is not None:
            self.failures_end = end_after_segment(self.failures_end, failures)
        if provisional is not None:
            self.provisional_end = end_after_segment(self.provisional_end, provisional)

    def _open_attempt(self, key: tuple[int, int]) -> OpenAttempt:
        try:
            return self.open_attempts[key]  # type: ignore[index]  # a named tuple is found by a plain one
        except KeyError:
            raise InternalError(f"chunk {key[0]} has no attempt {key[1]}") from None


def end_after_segment(end: int, segment: _Segment) -> int:
    start, next_end, _ = segment
    if start != end:
        raise InternalError(f"a segment begins at byte {start}, and the one before it ends at {end}")
    return next_end
