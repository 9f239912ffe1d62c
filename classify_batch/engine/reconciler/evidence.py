"""Decides what follows for ambiguous creates, from the jobs that the API shows. Pure: no clock, no disk, no network.

The promise "nothing is paid twice" is decided here, by these rules:

- *How long a call may be accepted*: until `accept_until_s`, which is `limits.accept_s` after the latest time at which
  it can have left, whoever sent it. All times here are the event loop's, which is monotonic; for another process's call
  they count from when this process took the run over.
- *Which jobs can be an attempt's* (`is_possible`): no clock of ours is asked, nor a `Date` header. A job that the
  server made before `server_s - clock_spread_s`, by its own clock, is older than the intent, and so is a job that was
  seen before it. A job that the journal names belongs elsewhere. Otherwise a job is excluded only by a
  field that contradicts our create call; and not by one that contradicts it in our own jobs, too.
- *A candidate stays one until it is decided*: by its results, read at least `settle_s` after its end was first seen,
  since results may lag. A failed job, which isn't paid, is decided when it is still failed `settle_s` later. It doesn't
  matter whether a later reading of the list leaves it out.
- *Every job that answers counts*, whoever made it: a file that any of them answers is not sent again.
- *That nothing is left* takes two complete readings of the list: one begun after `accept_until_s`, one `settle_s`
  later. A job that was accepted is listed within `settle_s`; one that a reading misses (a page shifted, a replica lags)
  is found by the other. So a job that is first shown after both isn't the attempt's, and nobody waits for it.

The stage beside this file carries out what `candidates_to_poll`, `candidates_to_read` and `decide_for_attempt` return.
The tests explore this class exhaustively, together with a model of the protocol.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from classify_batch.engine.reconciler.ambiguous_attempt import AmbiguousAttempt
from classify_batch.engine.reconciler.candidate import Candidate, SharedValues
from classify_batch.engine.reconciler.contents import JobContents
from classify_batch.engine.reconciler.decisions import Adopt, Decision, GiveUp, SendAgain, Take
from classify_batch.engine.reconciler.match import digests_of
from classify_batch.engine.reconciler.set_aside import JobsSetAside, SetAside, Standing
from classify_batch.engine.reconciler.unsettled import UnsettledAttempts
from classify_batch.file_keys import file_key
from classify_batch.model import JobView
from classify_batch.ports import NamedFor
from classify_batch.settings.job_spec import JobSpecs
from classify_batch.vocabulary import JobStatus

INCOMPLETE_READINGS_MAX = 2
"""A list that so many readings did not read to its end proves nothing: attempts that wait for that are given up when
their time is up."""

NEVER_READ = "the job list doesn't come to its end"

CANDIDATES_MAX = 10_000
"""So many jobs are held at once that an attempt waits for, with a kilobyte each. In a more crowded project the
others wait until there is room; and while one waits, nothing is proven for an attempt whose job it can be."""

FOUND_HELD_MAX = 20_000
"""So many are held besides that are decided, and name files of attempts."""

DECIDED_HELD_MAX = 5_000
"""Where more jobs are held, those that are decided, or that nobody waits for, are set aside."""


class Evidence(UnsettledAttempts):
    """What is known about all ambiguous attempts of a run, and about the jobs that may be theirs."""

    def __init__(self, specs: JobSpecs, *, settle_s: float, clock_spread_s: float) -> None:
        super().__init__(specs, settle_s=settle_s, clock_spread_s=clock_spread_s)
        self._shown_early: dict[str, float] = {}
        self._contents = JobContents()
        self._aside = JobsSetAside()
        self._shared = SharedValues(each.rules for each in self._expected)
        self._room = CANDIDATES_MAX
        self._is_short_of_room = False
        self._shows_all_that_waits = False
        self._jobs_shown = self._transactions_shown = False
        self.candidates: dict[str, Candidate] = {}

    # --- What happens -----------------------------------------------------------------------------------------------

    def add_attempt(self, ambiguous: AmbiguousAttempt) -> None:
        super().add_attempt(ambiguous)
        for candidate in self.candidates.values():
            self._check_for_new_files(candidate)
        # These were judged by the files, and the times, of other attempts.
        self._reconsider((Standing.READ, Standing.UNAWAITED), ambiguous.attempt.intended_s)

    def remove_attempt(self, ambiguous: AmbiguousAttempt) -> None:
        """Forgets a settled attempt. When none is left, only the files that other people's jobs hold are remembered."""
        super().remove_attempt(ambiguous)
        if not self.unsettled:
            for candidate in self.candidates.values():
                self._forget_unless_read_late(candidate)
            self.candidates.clear()
            self._aside.clear()

    def record_listed_before_creates(self, job_ids: Iterable[str], now_s: float) -> None:
        """Jobs that were listed before this process created any: none of them is a later attempt's."""
        for job_id in job_ids:
            self._shown_early.setdefault(file_key(job_id), now_s)

    def begin_list_reading(self, now_s: float) -> None:
        """A reading of the list begins, from its front."""
        super().begin_list_reading(now_s)
        self._is_short_of_room = self._aside.has_waiting()
        self._shows_all_that_waits = True
        self._room = CANDIDATES_MAX
        if len(self.candidates) > min(DECIDED_HELD_MAX, CANDIDATES_MAX // 2):
            self._make_room()

    def record_view(self, view: JobView, now_s: float) -> None:
        """Records a job as the server shows it, in the list or alone."""
        self._jobs_shown = True
        self._transactions_shown = self._transactions_shown or view.transaction_id is not None
        candidate = self.candidates.get(file_key(view.job_id)) or self._begin_candidate(view, now_s)
        if candidate is not None:
            candidate.update_view(self._shared.with_shared_values(view), now_s)

    def end_list_reading(self, *, complete: bool) -> None:
        """Records that a reading has ended. `complete`: it reached the list's end, so every listed job was shown."""
        super().end_list_reading(complete=complete)
        if complete and self._shows_all_that_waits:
            self._hold_jobs_that_left_the_list()

    def record_named_for(self, job_id: str, named_for: NamedFor) -> None:
        """Records for which chunks the journal names a candidate."""
        if (candidate := self.candidates.get(file_key(job_id))) is not None:
            candidate.named_for, candidate.journal_asked = named_for, True

    def record_results(
        self, job_id: str, begun_s: float, named: Iterable[str], answered: Iterable[str], *, withheld: bool = False
    ) -> None:
        """Records the files in a candidate's results: they may be fewer than before, for as long as results may lag.
        `withheld`: the API may have more results than it hands out."""
        if (candidate := self.candidates.get(file_key(job_id))) is not None:
            candidate.read_s = begun_s if candidate.read_s is None else max(begun_s, candidate.read_s)
            candidate.asked_s, candidate.unreadable = candidate.read_s, False
            all_named, all_answered = digests_of(named), digests_of(answered)
            candidate.names_files = bool(all_named)
            # Only those of attempts are held here: all of them are remembered by `_contents`, which has a bound.
            candidate.named, candidate.answered = (
                all_named & self._digests,
                all_answered & self._digests,
            )
            candidate.withheld = withheld
            self._contents.record_files(candidate.key, all_named, all_answered)

    def record_unreadable(self, job_id: str, begun_s: float) -> None:
        """Records that a candidate's results can't be had: nothing is known of it that wasn't known before."""
        if (candidate := self.candidates.get(file_key(job_id))) is not None:
            candidate.asked_s, candidate.unreadable = begun_s, True

    # --- What is to be done -----------------------------------------------------------------------------------------

    def needs_complete_reading(self, now_s: float) -> bool:
        """Whether it is time to prove that no job is left to find: then the list is read to its end."""
        return any(now_s >= ambiguous.accept_until_s for ambiguous in self.unsettled.values())

    def candidates_to_poll(self) -> Iterator[Candidate]:
        """Candidates that the last reading left out: only a call of their own shows whether they have ended."""
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

    def decide_for_attempt(self, ambiguous: AmbiguousAttempt, now_s: float) -> Decision | None:
        """What follows for an attempt; None: nothing can be decided yet."""
        if ambiguous.transaction_id is not None:
            return self._decide_by_transaction(ambiguous, now_s)
        possible = [
            each
            for each in self.candidates.values()
            # A job that failed for good isn't paid, so it keeps no file from being sent again.
            if self.is_possible(each, ambiguous) and not each.has_failed_for_good(self._settle_s)
        ]
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
        if not undecided and self.is_absence_proven(ambiguous):
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
        return GiveUp(jobs, describe_undecided(undecided, self._count_jobs_not_read(ambiguous)))

    def _decide_by_transaction(self, ambiguous: AmbiguousAttempt, now_s: float) -> Decision | None:
        possible = [each for each in self.candidates.values() if self.is_possible(each, ambiguous)]
        known = next((each for each in possible if each.view.transaction_id is not None), None)
        if len(possible) == 1 and self.is_absence_proven(ambiguous):
            # Without a transaction ID, only when all jobs that it can be were shown: another may have been made alike.
            (known,) = possible
        if known is not None:
            return Adopt(known.view)
        if not ambiguous.refusal and ambiguous.list_was_read:
            return SendAgain() if now_s >= ambiguous.again_from_s else None
        if ambiguous.upload_expired and self._shows_transactions and self.is_absence_proven(ambiguous):
            return Take(())
        if ambiguous.refusal and self.is_absence_proven(ambiguous):
            words = f"a call may have been accepted before this one was refused ({ambiguous.refusal})"
            return GiveUp((), f"{words}; {describe_undecided(possible, 0)}" if possible else words)
        if now_s >= ambiguous.give_up_s and ambiguous.incomplete_readings >= INCOMPLETE_READINGS_MAX:
            return GiveUp((), NEVER_READ)
        return None

    @property
    def _shows_transactions(self) -> bool:
        """Whether the list would show the transaction ID of a job: it does so for others, or has no job at all."""
        return self._transactions_shown or not self._jobs_shown

    def is_absence_proven(self, ambiguous: AmbiguousAttempt) -> bool:
        """Whether the list would have shown the attempt's job by now: it was read twice since the job can have been
        made last."""
        return self._is_list_proof_complete(ambiguous) and not self._count_jobs_not_read(ambiguous)

    def has_answered_all_it_will(self, job_id: str) -> bool:
        """Whether a candidate will answer no more than it did: later attempts at its files need not ask it again."""
        candidate = self.candidates.get(file_key(job_id))
        return candidate is not None and candidate.is_decided(self._settle_s)

    def concerns_an_attempt(self, job_id: str) -> bool:
        """Whether a candidate was seen to name a file of an attempt."""
        candidate = self.candidates.get(file_key(job_id))
        return candidate is not None and bool(candidate.named)

    # --- What is remembered -----------------------------------------------------------------------------------------

    def _begin_candidate(self, view: JobView, now_s: float) -> Candidate | None:
        """Holds a job that may be an attempt's; None where it can't, is decided, or has to wait for room."""
        aside = self._aside.find_job(view.job_id)
        if not self._is_worth_remembering(view):
            if aside is not None and aside.standing in (Standing.WAITING, Standing.NEXT):
                self._aside.remove_job(view.job_id)
            return None
        if aside is not None and aside.is_still_decided(view):
            return None
        first_seen_s = self._shown_early.get(file_key(view.job_id), now_s) if aside is None else aside.first_seen_s
        candidate = Candidate(view, first_seen_s, now_s)
        if (standing := self._standing_without_room(candidate, aside)) is not None:
            self._aside.set_job_aside(view.job_id, standing, first_seen_s)
            return None
        self._hold_candidate(candidate)
        return candidate

    def _standing_without_room(self, candidate: Candidate, aside: SetAside | None) -> Standing | None:
        """How a job that is to be held is set aside instead, where it has to be. Where jobs wait that there was no room
        for, they come first: others never stop making new ones, and a lagging list opens again what was decided."""
        if not any(self.attempts_it_may_settle(candidate)):
            return Standing.UNAWAITED
        is_full = len(self.candidates) >= self._room
        if not is_full and not self._is_short_of_room:
            return None
        if not self._is_awaited(candidate):
            return Standing.UNAWAITED
        if aside is None or aside.standing is not Standing.WAITING:
            return Standing.NEXT
        return Standing.WAITING if is_full else None

    def _hold_candidate(self, candidate: Candidate) -> None:
        self._aside.remove_job(candidate.job_id)
        self.candidates[candidate.key] = candidate
        if (contents := self._contents.files_of_job(candidate.key)) is not None:
            candidate.read_s = math.inf  # its results were read late enough before
            self._take_contents(candidate, *contents)

    def _hold_jobs_that_left_the_list(self) -> None:
        """A reading has shown every listed job. What waits though there was room was not shown: it is asked for by its
        ID, like any candidate that a reading leaves out. Nothing is known of it but when it was first seen."""
        room = max(0, self._room - len(self.candidates))
        waiting = self._aside.with_standing(Standing.WAITING if self._is_short_of_room else Standing.NEXT)
        for job_id, first_seen_s in list(islice(waiting, room)):
            contents = self._contents.files_of_job(file_key(job_id))
            candidate = Candidate(JobView(job_id, JobStatus.PENDING), first_seen_s, -math.inf)
            if contents is not None and self._digests.isdisjoint(contents[0]):
                self._aside.set_job_aside(job_id, Standing.READ, first_seen_s)
            elif not self._is_awaited(candidate):
                self._aside.set_job_aside(job_id, Standing.UNAWAITED, first_seen_s)
            else:
                self._hold_candidate(candidate)

    def _reconsider(self, standings: Collection[Standing], since_s: float | None) -> None:
        self._aside.reconsider(standings, since_s)
        self._shows_all_that_waits = False

    def _reconsider_unawaited(self) -> None:
        self._reconsider((Standing.UNAWAITED,), None)

    def _count_jobs_not_read(self, ambiguous: AmbiguousAttempt) -> int:
        """How many jobs wait that can be the attempt's: seen after its intent, and before two readings showed all that
        there can be."""
        return self._aside.waiting_between(ambiguous.attempt.intended_s, ambiguous.proven_from_s)

    def _take_contents(self, candidate: Candidate, named: Sequence[int], answered: Sequence[int]) -> None:
        wanted = self._digests
        candidate.names_files = bool(named)
        candidate.named, candidate.answered = wanted.intersection(named), wanted.intersection(answered)

    def _check_for_new_files(self, candidate: Candidate) -> None:
        """Looks for a new attempt's files in what was read of a candidate. Where that was forgotten it is read anew."""
        if (contents := self._contents.files_of_job(candidate.key)) is not None:
            self._take_contents(candidate, *contents)
        elif candidate.names_files:
            candidate.read_s = candidate.asked_s = None

    def _forget_unless_read_late(self, candidate: Candidate) -> None:
        """Of a job that is no candidate any more, only results are remembered that were read when all of them must have
        come. One that failed after it had ended well, or that named nothing, may still show others."""
        if candidate.failed_s is not None or not candidate.names_files or not candidate.is_decided(self._settle_s):
            self._contents.forget_job(candidate.key)

    def _make_room(self) -> None:
        """Sets aside what need not be held. What is found and decided takes no room from what is to be looked at."""
        found = 0
        for candidate in list(self.candidates.values()):
            if (standing := self._standing_of(candidate)) is not None:
                del self.candidates[candidate.key]
                self._forget_unless_read_late(candidate)
                self._aside.set_job_aside(candidate.job_id, standing, candidate.first_seen_s)
            else:
                found += bool(candidate.named) and not self._is_awaited(candidate)
        self._room = CANDIDATES_MAX + min(found, FOUND_HELD_MAX)

    def _standing_of(self, candidate: Candidate) -> Standing | None:
        """Why a candidate need not be held; None where it must be: somebody waits for it, or it says something of an
        attempt's files."""
        if candidate.named_for is None:
            return Standing.ELSEWHERE
        if not any(self.attempts_it_may_settle(candidate)):
            return Standing.UNAWAITED
        if not candidate.journal_asked or not self._digests.isdisjoint(candidate.named):
            return None
        if not candidate.is_decided(self._settle_s):
            return Standing.UNAWAITED if self._is_short_of_room and not self._is_awaited(candidate) else None
        if candidate.failed_s is not None:
            return Standing.FAILED
        return Standing.READ if candidate.names_files else Standing.SILENT


def describe_undecided(undecided: Sequence[Candidate], not_looked_at: int) -> str:
    """Why it could not be proven whether an attempt was accepted."""
    words = list[str]()
    if undecided:
        names = ", ".join(each.job_id for each in undecided[:10]) + (", …" if len(undecided) > 10 else "")
        words.append(f"its job may be one of: {names}")
    if not_looked_at:
        jobs = "one job" if not_looked_at == 1 else f"one of {not_looked_at:,} jobs"
        words.append(f"its job may be {jobs} of the project that there was no room to look at yet")
    return "; ".join(words) or NEVER_READ


def creation_order(candidate: Candidate) -> tuple[float, str]:
    created_at_s = candidate.view.created_at_s
    return (math.inf if created_at_s is None else created_at_s, candidate.job_id)


def preference(candidate: Candidate) -> tuple[bool, float, str]:
    """A job whose mode is known before one whose mode isn't: an outcome has the mode that can be proven."""
    return (candidate.view.mode is None, *creation_order(candidate))
