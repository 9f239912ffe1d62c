"""Decides what follows for ambiguous creates, from the jobs that the API shows. Pure: no clock, no disk, no network.

The promise "nothing is paid twice" is decided here, by these rules:

- *How long a call may be accepted*: until `accept_until_s`, which is `limits.accept_s` after the latest moment at which
  it can have left, whoever sent it. All times here are the event loop's, which is monotonic; for another process's call
  they count from when this process took the run over.
- *Which jobs can be an attempt's* (`is_possible`): no clock of ours is asked, nor a `Date` header. A job that the
  server made before `server_s - clock_spread_s`, by its own clock, is older than the intent, and so is a job that was
  seen before it. A job that the journal names belongs elsewhere. Otherwise a job is excluded only by a
  field that contradicts our create call.
- *A candidate stays one until it is decided*: by its results, read at least `settle_s` after its end was first seen,
  since results may lag. A failed job, which isn't paid, is decided when it is still failed `settle_s` later. It doesn't
  matter whether a later reading of the list leaves it out.
- *Every job that answers counts*, whoever made it: a file that any of them answers is not sent again.
- *That nothing is left* takes two complete readings of the list: one begun after `accept_until_s`, one `settle_s`
  later. A job that was accepted is listed within `settle_s`; one that a reading misses (a page shifted, a replica lags)
  is found by the other. So a job that is first shown after both isn't the attempt's, and nobody waits for it.

The stage beside this file carries out what `candidates_to_poll`, `candidates_to_read` and `decide` return. The tests
explore this class exhaustively, together with a model of the protocol.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from classify_batch.engine.reconciler.ambiguous_attempt import AmbiguousAttempt
from classify_batch.engine.reconciler.candidate import Candidate, SharedValues
from classify_batch.engine.reconciler.contents import JobContents
from classify_batch.engine.reconciler.decisions import Adopt, Decision, GiveUp, SendAgain, Take
from classify_batch.engine.reconciler.match import ExpectedJob, digests_of
from classify_batch.engine.reconciler.set_aside import JobsSetAside, Standing
from classify_batch.model import AttemptKey, JobView
from classify_batch.ports import NamedFor
from classify_batch.settings.job_spec import JobSpecs

INCOMPLETE_READINGS_MAX = 2
"""A list that so many readings did not read to its end proves nothing: attempts that wait for that are given up when
their time is up."""

NEVER_READ = "the job list doesn't come to its end"

CANDIDATES_MAX = 100_000
"""So many jobs are held at once, with half a kilobyte each. In a more crowded project the others wait until there is
room; and while any job waits, nothing is proven."""

DECIDED_HELD_MAX = 5_000
"""Where more jobs are held, those that are decided are set aside."""


class Evidence:
    """What is known about all ambiguous attempts of a run, and about the jobs that may be theirs.

    Attributes:
        times_apart: whether the server's clocks disagree by more than is allowed for: no time excludes a job then.
    """

    def __init__(self, specs: JobSpecs, *, settle_s: float, clock_spread_s: float) -> None:
        self._specs = specs
        self._expected = tuple([ExpectedJob.of(each) for each in (specs.first, specs.second or specs.first)])
        self._settle_s = settle_s
        self._clock_spread_s = clock_spread_s
        self._reading_s = -math.inf
        self._since_s: float | None = None
        self._shown_early: dict[str, float] = {}
        self._contents = JobContents()
        self._aside = JobsSetAside()
        self._shared = SharedValues(each.rules for each in self._expected)
        self._digests: frozenset[int] = frozenset()
        self.unsettled: dict[AttemptKey, AmbiguousAttempt] = {}
        self.candidates: dict[str, Candidate] = {}
        self._times_apart = False

    @property
    def times_apart(self) -> bool:
        return self._times_apart

    @times_apart.setter
    def times_apart(self, apart: bool) -> None:
        """If the clocks turn out to disagree, all proofs begin anew: jobs that were excluded by their time were
        forgotten, and the list has to show them again."""
        if apart and not self._times_apart:
            for ambiguous in self.unsettled.values():
                ambiguous.first_complete_s, ambiguous.last_complete_s, ambiguous.proven_from_s = None, None, math.inf
        self._times_apart = apart

    # --- What happens -----------------------------------------------------------------------------------------------

    def add(self, ambiguous: AmbiguousAttempt) -> None:
        self.unsettled[ambiguous.attempt.key] = ambiguous
        self._since_s = self.since_s()
        self._digests |= ambiguous.digests
        for candidate in self.candidates.values():
            self._look_for_new_files(candidate)
        self._aside.look_again(ambiguous.attempt.intended_s)

    def remove(self, ambiguous: AmbiguousAttempt) -> None:
        """Forgets a settled attempt. When none is left, only the files that other people's jobs hold are remembered."""
        del self.unsettled[ambiguous.attempt.key]
        self._since_s = self.since_s()
        self._digests = frozenset().union(*(each.digests for each in self.unsettled.values()))
        if not self.unsettled:
            for candidate in self.candidates.values():
                self._forget_unless_read_late(candidate)
            self.candidates.clear()
            self._aside.clear()

    def record_listed_before_creates(self, job_ids: Iterable[str], now_s: float) -> None:
        """Jobs that were listed before this process created any: none of them is a later attempt's."""
        for job_id in job_ids:
            self._shown_early.setdefault(job_id, now_s)

    def begin_list_reading(self, now_s: float) -> None:
        """A reading of the list begins, from its front."""
        self._reading_s = now_s
        self._since_s = self.since_s()
        if len(self.candidates) > min(DECIDED_HELD_MAX, CANDIDATES_MAX // 2):
            self._set_decided_aside()
        for ambiguous in self.unsettled.values():
            ambiguous.is_read_for = True
            if self._is_list_proof_complete(ambiguous):
                ambiguous.proven_from_s = min(now_s, ambiguous.proven_from_s)

    def show(self, view: JobView, now_s: float) -> None:
        """Records a job as the server shows it, in the list or alone."""
        candidate = self.candidates.get(view.job_id) or self._begin_candidate(view, now_s)
        if candidate is not None:
            candidate.show(self._shared.share(view), now_s)

    def end_list_reading(self, *, complete: bool) -> None:
        """Records that a reading has ended. `complete`: it reached the list's end, so every listed job was shown. Where
        there was no room for one of them it proves nothing."""
        complete = complete and not self._aside.waiting
        for ambiguous in self.unsettled.values():
            if not ambiguous.is_read_for:
                continue
            ambiguous.list_was_read = True
            if self._reading_s < ambiguous.accept_until_s:
                continue
            if complete:
                ambiguous.first_complete_s = (
                    self._reading_s if ambiguous.first_complete_s is None else ambiguous.first_complete_s
                )
                ambiguous.last_complete_s = self._reading_s
            else:
                ambiguous.incomplete_readings += 1

    def fail_list_reading(self) -> None:
        """Records that the list could not be read."""
        for ambiguous in self.unsettled.values():
            if ambiguous.is_read_for and self._reading_s >= ambiguous.accept_until_s:
                ambiguous.incomplete_readings += 1

    def name(self, job_id: str, named_for: NamedFor) -> None:
        """Records for which chunks the journal names a candidate."""
        if (candidate := self.candidates.get(job_id)) is not None:
            candidate.named_for, candidate.journal_asked = named_for, True

    def read(
        self, job_id: str, begun_s: float, named: Iterable[str], answered: Iterable[str], *, withheld: bool = False
    ) -> None:
        """Records the files in a candidate's results: they may be fewer than before, for as long as results may lag.
        `withheld`: the API may have more results than it hands out."""
        if (candidate := self.candidates.get(job_id)) is not None:
            candidate.read_s = begun_s if candidate.read_s is None else max(begun_s, candidate.read_s)
            candidate.asked_s = candidate.read_s
            all_named, all_answered = digests_of(named), digests_of(answered)
            candidate.names_files = bool(all_named)
            candidate.named, candidate.answered = all_named & self._digests, all_answered & self._digests
            candidate.withheld = withheld
            self._contents.record(job_id, all_named, all_answered)

    def record_unreadable(self, job_id: str, begun_s: float) -> None:
        """Records that a candidate's results can't be had: nothing is known of it that wasn't known before."""
        if (candidate := self.candidates.get(job_id)) is not None:
            candidate.asked_s = begun_s

    # --- What is to be done -----------------------------------------------------------------------------------------

    def needs_complete_reading(self, now_s: float) -> bool:
        """Whether it is time to prove that no job is left to find: then the list is read to its end."""
        return any(now_s >= ambiguous.accept_until_s for ambiguous in self.unsettled.values())

    def since_s(self) -> float | None:
        """The earliest time, by the server's clock, at which a wanted job can have been made; None: any."""
        floors = [self._earliest_created_s(ambiguous) for ambiguous in self.unsettled.values()]
        known = [floor_s for floor_s in floors if floor_s is not None]
        return min(known) if known and len(known) == len(floors) else None

    def candidates_to_poll(self) -> Iterator[Candidate]:
        """Candidates that the last reading left out: only a call of their own tells whether they have ended."""
        for candidate in self.candidates.values():
            ended = candidate.view.answered or candidate.is_decided(self._settle_s)
            if candidate.seen_s < self._reading_s and not ended and any(self.attempts_it_may_settle(candidate)):
                yield candidate

    def candidates_to_read(self, now_s: float) -> list[Candidate]:
        """Candidates whose results are to be read now, the likeliest first. A job is made soon after its intent: so
        first those that are younger than the latest job that was known then, by age, and then the older ones, which
        only a second clock of the server can have stamped."""
        due = [candidate for candidate in self.candidates.values() if self.is_read_due(candidate, now_s)]
        known_s = min((each.attempt.server_s or -math.inf for each in self.unsettled.values()), default=-math.inf)
        return sorted(due, key=lambda candidate: ((made := creation_order(candidate))[0] < known_s, made))

    def is_read_due(self, candidate: Candidate, now_s: float) -> bool:
        may_settle = list(self.attempts_it_may_settle(candidate))
        if not may_settle or not candidate.journal_asked:
            return False
        concerns = not candidate.names_files or any(
            not ambiguous.digests.isdisjoint(candidate.named) for ambiguous in may_settle
        )
        return now_s >= candidate.read_due_s(self._settle_s, concerns=concerns)

    def decide(self, ambiguous: AmbiguousAttempt, now_s: float) -> Decision | None:
        """What follows for an attempt; None: nothing can be decided yet."""
        if ambiguous.transaction_id is not None:
            return self._decide_by_transaction(ambiguous, now_s)
        possible = [each for each in self.candidates.values() if self.is_possible(each, ambiguous)]
        holding = [each for each in possible if not ambiguous.digests.isdisjoint(each.named)]
        holding.sort(key=preference)
        jobs = tuple(each.view for each in holding)
        # One job that answers all files first: the outcomes of one attempt should name one job.
        if whole := next((each for each in holding if ambiguous.digests <= each.answered), None):
            return Take((whole.view,))
        if ambiguous.digests <= frozenset().union(*(each.answered for each in holding)):
            return Take(jobs)
        # Only now: a file that no job answers may be sent again.
        undecided = [each for each in possible if self._may_still_answer(each, ambiguous)]
        if self._is_list_proof_complete(ambiguous) and not undecided:
            return Take(jobs) if jobs else SendAgain()
        if now_s >= ambiguous.give_up_s and (
            self._is_list_proof_complete(ambiguous) or ambiguous.incomplete_readings >= INCOMPLETE_READINGS_MAX
        ):
            return self._decide_when_time_is_up(ambiguous, now_s, jobs, undecided)
        return None

    def _decide_when_time_is_up(
        self, ambiguous: AmbiguousAttempt, now_s: float, jobs: tuple[JobView, ...], undecided: list[Candidate]
    ) -> GiveUp | None:
        """The answers of candidates that have ended are waited for, so that no file fails that one of them answers.
        Those that appear later are not: in a crowded project there is always another."""
        ambiguous.due_s = now_s if ambiguous.due_s is None else ambiguous.due_s
        if any(
            each.first_seen_s <= ambiguous.due_s and each.has_late_answers_to_read(self._settle_s) for each in undecided
        ):
            return None
        names = ", ".join(each.job_id for each in undecided[:10]) + (", …" if len(undecided) > 10 else "")
        return GiveUp(jobs, f"its job may be one of: {names}" if names else NEVER_READ)

    def _decide_by_transaction(self, ambiguous: AmbiguousAttempt, now_s: float) -> Decision | None:
        candidate = next((each for each in self.candidates.values() if self.is_possible(each, ambiguous)), None)
        if candidate is not None:
            return Adopt(candidate.view)
        if not ambiguous.refusal and ambiguous.list_was_read:
            return SendAgain()
        if ambiguous.refusal and self._is_list_proof_complete(ambiguous):
            return GiveUp((), f"a call may have been accepted before this one was refused ({ambiguous.refusal})")
        if now_s >= ambiguous.give_up_s and ambiguous.incomplete_readings >= INCOMPLETE_READINGS_MAX:
            return GiveUp((), NEVER_READ)
        return None

    def is_absence_proven(self, ambiguous: AmbiguousAttempt) -> bool:
        """Whether the list would have shown the attempt's job by now: it was read twice since the job can have been
        made last."""
        return self._is_list_proof_complete(ambiguous)

    def has_answered_all_it_will(self, job_id: str) -> bool:
        """Whether a candidate will answer no more than it did: later attempts at its files need not ask it again."""
        candidate = self.candidates.get(job_id)
        return candidate is not None and candidate.is_decided(self._settle_s)

    def concerns_an_attempt(self, job_id: str) -> bool:
        """Whether a candidate was seen to name a file of an attempt."""
        candidate = self.candidates.get(job_id)
        return candidate is not None and bool(candidate.named)

    # --- What is remembered -----------------------------------------------------------------------------------------

    def _begin_candidate(self, view: JobView, now_s: float) -> Candidate | None:
        """Holds a job that may be an attempt's; None where it can't, is decided, or has to wait for room."""
        aside = self._aside.find(view.job_id)
        if not self._is_worth_remembering(view):
            if aside is not None and aside.standing is Standing.WAITING:
                self._aside.remove(view.job_id)
            return None
        if aside is not None and aside.needs_no_look(view):
            return None
        first_seen_s = self._shown_early.get(view.job_id, now_s) if aside is None else aside.first_seen_s
        if aside is not None:
            self._aside.remove(view.job_id)
        if len(self.candidates) >= CANDIDATES_MAX:
            self._aside.put(view.job_id, Standing.WAITING, first_seen_s)
            return None
        candidate = self.candidates[view.job_id] = Candidate(view, first_seen_s, now_s)
        if (contents := self._contents.of(view.job_id)) is not None:
            candidate.read_s = math.inf  # its results were read late enough before
            self._take_contents(candidate, *contents)
        return candidate

    def _take_contents(self, candidate: Candidate, named: Sequence[int], answered: Sequence[int]) -> None:
        candidate.names_files = bool(named)
        candidate.named, candidate.answered = self._digests.intersection(named), self._digests.intersection(answered)

    def _look_for_new_files(self, candidate: Candidate) -> None:
        """Looks for a new attempt's files in what was read of a candidate. Where that was forgotten it is read anew."""
        if (contents := self._contents.of(candidate.job_id)) is not None:
            self._take_contents(candidate, *contents)
        elif candidate.names_files:
            candidate.read_s = candidate.asked_s = None

    def _forget_unless_read_late(self, candidate: Candidate) -> None:
        """Of a job that is no candidate any more, only results are remembered that were read when all of them must have
        come. One that failed after it had ended well, or that named nothing, may still show others."""
        if candidate.failed_s is not None or not candidate.names_files or not candidate.is_decided(self._settle_s):
            self._contents.forget(candidate.job_id)

    def _set_decided_aside(self) -> None:
        for candidate in list(self.candidates.values()):
            if (standing := self._standing_of(candidate)) is not None:
                del self.candidates[candidate.job_id]
                self._forget_unless_read_late(candidate)
                self._aside.put(candidate.job_id, standing, candidate.first_seen_s)

    def _standing_of(self, candidate: Candidate) -> Standing | None:
        """Why a candidate need not be held; None where it must be: it isn't decided, or says something of an attempt's
        files."""
        if candidate.named_for is None:
            return Standing.ELSEWHERE
        if not candidate.journal_asked or not candidate.is_decided(self._settle_s):
            return None
        if not self._digests.isdisjoint(candidate.named):
            return None
        if candidate.failed_s is not None:
            return None if candidate.names_files else Standing.FAILED
        return Standing.READ if candidate.names_files else Standing.SILENT

    # --- Which jobs can be an attempt's -----------------------------------------------------------------------------

    def is_possible(self, candidate: Candidate, ambiguous: AmbiguousAttempt) -> bool:
        """Whether a candidate can be the attempt's job, or answer its files."""
        view, attempt = candidate.view, ambiguous.attempt
        if ambiguous.transaction_id is not None:
            return view.transaction_id == ambiguous.transaction_id
        if candidate.named_for is None or attempt.key.chunk in candidate.named_for:
            return False
        if attempt.intended_s is not None and candidate.first_seen_s < attempt.intended_s:
            return False
        if self._is_older_than_intent(view, ambiguous):
            return False
        return self._expected[attempt.part.first is not None].agrees_with(view)

    def attempts_it_may_settle(self, candidate: Candidate) -> Iterator[AmbiguousAttempt]:
        return (ambiguous for ambiguous in self.unsettled.values() if self.is_possible(candidate, ambiguous))

    def _is_worth_remembering(self, view: JobView) -> bool:
        """Whether a job that is shown for the first time is worth remembering. Most of a large project's are not, and
        nearly all of these by their time alone."""
        if self._since_s is not None and view.created_at_s is not None and view.created_at_s < self._since_s:
            return False
        fresh = Candidate(view, math.inf, math.inf)
        return any(self.attempts_it_may_settle(fresh))

    def _is_older_than_intent(self, view: JobView, ambiguous: AmbiguousAttempt) -> bool:
        floor_s = self._earliest_created_s(ambiguous)
        return floor_s is not None and view.created_at_s is not None and view.created_at_s < floor_s

    def _earliest_created_s(self, ambiguous: AmbiguousAttempt) -> float | None:
        server_s = ambiguous.attempt.server_s
        return None if server_s is None or self._times_apart else server_s - self._clock_spread_s

    def _may_still_answer(self, candidate: Candidate, ambiguous: AmbiguousAttempt) -> bool:
        """Whether it may be the attempt's job, or may answer more of its files."""
        if not ambiguous.digests.isdisjoint(candidate.named):
            # The API withholds the rest of its results, and never hands out more.
            is_excluded = candidate.withheld and candidate.was_read_late_enough(self._settle_s)
        else:
            is_excluded = candidate.first_seen_s >= ambiguous.proven_from_s
        return not is_excluded and not (candidate.journal_asked and candidate.is_decided(self._settle_s))

    def _is_list_proof_complete(self, ambiguous: AmbiguousAttempt) -> bool:
        """Whether two complete readings show all that there can be."""
        return (
            not self._aside.waiting
            and ambiguous.first_complete_s is not None
            and ambiguous.last_complete_s is not None
            and ambiguous.last_complete_s - ambiguous.first_complete_s >= self._settle_s
        )


def creation_order(candidate: Candidate) -> tuple[float, str]:
    created_at_s = candidate.view.created_at_s
    return (math.inf if created_at_s is None else created_at_s, candidate.job_id)


def preference(candidate: Candidate) -> tuple[bool, float, str]:
    """A job whose mode is known before one whose mode isn't: an outcome tells the mode that it can prove."""
    return (candidate.view.mode is None, *creation_order(candidate))
