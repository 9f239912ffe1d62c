"""What was seen of creates that may have been accepted, and what follows from it. Pure: no clock, no disk, no network.

The promise "nothing is paid twice" is decided here, by these rules:

- *How long a call may be accepted*: until `accept_until_s`, which lies `limits.accept_s` after the call last can have
  left, whoever sent it. All times here are the event loop's, which is monotonic; for another process's call they count
  from when this process took the run over.
- *Which jobs can be an attempt's* (`is_possible`): no clock of ours is asked, nor a `Date` header. A job that the
  server made before `server_s - clock_spread_s`, by its own clock, is older than the intent, and so is a job that was
  seen before it. A job that the journal names belongs elsewhere. Otherwise only what contradicts our create does.
- *A candidate stays one until it is decided*: by its results, read at least `settle_s` after its end was first seen,
  since results may lag; or by having failed, which is not paid, and was seen again `settle_s` later. It doesn't matter
  whether a later reading of the list leaves it out.
- *Every job that answers counts*, whoever made it: a file that any of them answers is not sent again.
- *That nothing is left* takes two complete readings of the list: one begun after `accept_until_s`, one `settle_s`
  later. A job that was accepted is listed within `settle_s`; one that a reading misses (a page shifted, a replica lags)
  is found by the other. So a job that is first shown after both isn't the attempt's, and nobody waits for it.

The stage beside this file does what `unasked`, `unread` and `decide` say. The tests explore this class exhaustively,
together with a model of the protocol.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from classify_batch.engine.reconciler.candidate import Candidate
from classify_batch.engine.reconciler.decisions import Adopt, Decision, GiveUp, SendAgain, Take
from classify_batch.engine.reconciler.match import digests_of, may_be_made_by
from classify_batch.model import Attempt, AttemptKey, JobView
from classify_batch.ports import NamedFor
from classify_batch.settings.job_spec import JobSpecs

CUT_SHORT_MAX = 2
"""A list that never came to its end when it had to proves nothing; whoever waits for it is given up in time."""

NEVER_READ = "the job list doesn't come to its end"

REMEMBERED_DIGESTS_MAX = 500_000
"""What others' jobs hold is remembered from one doubt to the next, with 8 bytes for each of so many files: in a crowded
project they are candidates again and again."""


@dataclass(slots=True)
class Doubt:
    """An attempt one of whose calls may have been accepted.

    Attributes:
        accept_until_s: after that it can't be accepted any more.
        give_up_s: from then on what is still undecided fails as unresolved; due_s: when it was first found to.
        transaction_id: by which its job can be told from all others, where the API knows such a thing.
        refusal: on such an API: what the repeated call was refused with, after an earlier one may have been accepted.
            Empty: the call is simply made again where no job is found.
        first_s: when the first complete reading began that began after `accept_until_s`; last_s: when the last one did.
        shown_until_s: when the first reading began after these had shown all that there can be: a job that is first
            shown after that is not this attempt's, though it may answer its files. Others make jobs without end.
        cut_short: how many readings began after it that did not come to the list's end.
        looked: whether any reading was ended since.
        is_read_for: whether the last reading was begun for it, too: one that was under way when it was added may have
            shown its job before, when that concerned nobody and was forgotten.
    """

    attempt: Attempt
    accept_until_s: float
    give_up_s: float
    transaction_id: str | None = None
    refusal: str = ""
    first_s: float | None = None
    last_s: float | None = None
    shown_until_s: float = math.inf
    cut_short: int = 0
    record_job_poll: bool = False
    is_read_for: bool = False
    due_s: float | None = None
    digests: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.digests = digests_of(self.attempt.file_ids)


class Evidence:
    """Of all attempts that may have been accepted, together.

    Attributes:
        times_apart: whether the server's clocks disagree by more than is allowed for: no time excludes a job then.
    """

    def __init__(self, specs: JobSpecs, *, settle_s: float, clock_spread_s: float) -> None:
        self._specs = specs
        self._settle_s = settle_s
        self._clock_spread_s = clock_spread_s
        self._reading_s = -math.inf
        self._since_s: float | None = None
        self._shown_early: dict[str, float] = {}
        self._remembered: OrderedDict[str, tuple[array[int], array[int]]] = OrderedDict()
        self._remembered_digests = 0
        self.doubts: dict[AttemptKey, Doubt] = {}
        self.candidates: dict[str, Candidate] = {}
        self._times_apart = False

    @property
    def times_apart(self) -> bool:
        return self._times_apart

    @times_apart.setter
    def times_apart(self, apart: bool) -> None:
        """A job that a time excluded was forgotten, and has yet to be shown again."""
        if apart and not self._times_apart:
            for doubt in self.doubts.values():
                doubt.first_s, doubt.last_s, doubt.shown_until_s = None, None, math.inf
        self._times_apart = apart

    # --- What happens -----------------------------------------------------------------------------------------------

    def add(self, doubt: Doubt) -> None:
        self.doubts[doubt.attempt.key] = doubt
        self._since_s = self.since_s()

    def remove(self, doubt: Doubt) -> None:
        """Its attempt is in other hands. Without doubts nothing is kept but what others' jobs hold."""
        del self.doubts[doubt.attempt.key]
        self._since_s = self.since_s()
        if not self.doubts:
            for candidate in self.candidates.values():
                if candidate.ended_s is not None and candidate.is_decided(self._settle_s):
                    self._remember_contents(candidate)
            self.candidates.clear()

    def record_listed_before_creates(self, job_ids: Iterable[str], now_s: float) -> None:
        """Jobs that were listed before this process created any: none of them is a later attempt's."""
        for job_id in job_ids:
            self._shown_early.setdefault(job_id, now_s)

    def begin_list_reading(self, now_s: float) -> None:
        """The list is read from its beginning."""
        self._reading_s = now_s
        self._since_s = self.since_s()
        for doubt in self.doubts.values():
            doubt.is_read_for = True
            if self._is_list_proof_complete(doubt):
                doubt.shown_until_s = min(now_s, doubt.shown_until_s)

    def show(self, view: JobView, now_s: float) -> None:
        """A job that the server shows, in the list or alone."""
        candidate = self.candidates.get(view.job_id)
        if candidate is None:
            if not self._is_worth_remembering(view):
                return
            first_seen_s = self._shown_early.get(view.job_id, now_s)
            candidate = self.candidates[view.job_id] = Candidate(view, first_seen_s, now_s)
            self._recall_contents(candidate)
        candidate.show(view, now_s)

    def end_list_reading(self, *, complete: bool) -> None:
        """The list was read. `complete`: to its end, so that every job that it holds was shown."""
        for doubt in self.doubts.values():
            if not doubt.is_read_for:
                continue
            doubt.record_job_poll = True
            if self._reading_s < doubt.accept_until_s:
                continue
            if complete:
                doubt.first_s = self._reading_s if doubt.first_s is None else doubt.first_s
                doubt.last_s = self._reading_s
            else:
                doubt.cut_short += 1

    def fail_list_reading(self) -> None:
        """The list could not be read."""
        for doubt in self.doubts.values():
            doubt.cut_short += doubt.is_read_for and self._reading_s >= doubt.accept_until_s

    def name(self, job_id: str, named_for: NamedFor) -> None:
        """What the journal says of a candidate."""
        if (candidate := self.candidates.get(job_id)) is not None:
            candidate.named_for, candidate.journal_asked = named_for, True

    def read(
        self, job_id: str, begun_s: float, named: Iterable[str], answered: Iterable[str], *, withheld: bool = False
    ) -> None:
        """The files in a candidate's results. They may be fewer than before, for as long as results may lag.
        `withheld`: there may be more that can't be had."""
        if (candidate := self.candidates.get(job_id)) is not None:
            candidate.read_s = begun_s if candidate.read_s is None else max(begun_s, candidate.read_s)
            candidate.asked_s = candidate.read_s
            candidate.named, candidate.answered = digests_of(named), digests_of(answered)
            candidate.withheld = withheld

    def record_unreadable(self, job_id: str, begun_s: float) -> None:
        """A candidate's results can't be had: it stays as undecided as it was."""
        if (candidate := self.candidates.get(job_id)) is not None:
            candidate.asked_s = begun_s

    # --- What is to be done -----------------------------------------------------------------------------------------

    def needs_complete_reading(self, now_s: float) -> bool:
        """Whether it is time to prove that nothing is left."""
        return any(now_s >= doubt.accept_until_s for doubt in self.doubts.values())

    def since_s(self) -> float | None:
        """The earliest time, by the server's clock, at which a wanted job can have been made; None: any."""
        floors = [self._earliest_created_s(doubt) for doubt in self.doubts.values()]
        known = [floor_s for floor_s in floors if floor_s is not None]
        return min(known) if known and len(known) == len(floors) else None

    def candidates_to_poll(self) -> Iterator[Candidate]:
        """Candidates that the last reading left out: whether they have ended is for a call of their own to say."""
        for candidate in self.candidates.values():
            ended = candidate.view.answered or candidate.is_decided(self._settle_s)
            if candidate.seen_s < self._reading_s and not ended and any(self.doubts_it_may_settle(candidate)):
                yield candidate

    def candidates_to_read(self, now_s: float) -> list[Candidate]:
        """Candidates whose results are to be read now. A job follows its intent closely: so first those that were made
        after what was known then, in their order, and then the older ones, which only a server's second clock can have
        stamped."""
        due = [candidate for candidate in self.candidates.values() if self.is_read_due(candidate, now_s)]
        known_s = min((each.attempt.server_s or -math.inf for each in self.doubts.values()), default=-math.inf)
        return sorted(due, key=lambda candidate: ((made := creation_order(candidate))[0] < known_s, made))

    def is_read_due(self, candidate: Candidate, now_s: float) -> bool:
        doubts = list(self.doubts_it_may_settle(candidate))
        if not doubts or not candidate.journal_asked:
            return False
        concerns = not candidate.named or any(doubt.digests & candidate.named for doubt in doubts)
        return now_s >= candidate.read_due_s(self._settle_s, concerns=concerns)

    def decide(self, doubt: Doubt, now_s: float) -> Decision | None:
        """What follows for a doubt; None: nothing yet."""
        if doubt.transaction_id is not None:
            return self._decide_by_transaction(doubt, now_s)
        possible = [each for each in self.candidates.values() if self.is_possible(each, doubt)]
        holding = sorted((each for each in possible if each.named & doubt.digests), key=preference)
        jobs = tuple(each.view for each in holding)
        if whole := next((each for each in holding if doubt.digests <= each.answered), None):
            return Take((whole.view,))
        if doubt.digests <= frozenset().union(*(each.answered for each in holding)):
            return Take(jobs)
        undecided = [each for each in possible if self._may_still_answer(each, doubt)]
        if self._is_list_proof_complete(doubt) and not undecided:
            return Take(jobs) if jobs else SendAgain()
        if now_s >= doubt.give_up_s and (self._is_list_proof_complete(doubt) or doubt.cut_short >= CUT_SHORT_MAX):
            return self._decide_when_time_is_up(doubt, now_s, jobs, undecided)
        return None

    def _decide_when_time_is_up(
        self, doubt: Doubt, now_s: float, jobs: tuple[JobView, ...], undecided: list[Candidate]
    ) -> GiveUp | None:
        """A job that has ended is waited for, so that no file is unresolved that it answers; not one that comes after
        that, since in a crowded project there is always another."""
        doubt.due_s = now_s if doubt.due_s is None else doubt.due_s
        if any(
            each.first_seen_s <= doubt.due_s and each.has_late_answers_to_read(self._settle_s) for each in undecided
        ):
            return None
        names = ", ".join(each.job_id for each in undecided[:10])
        return GiveUp(jobs, f"its job may be one of: {names}" if names else NEVER_READ)

    def _decide_by_transaction(self, doubt: Doubt, now_s: float) -> Decision | None:
        candidate = next((each for each in self.candidates.values() if self.is_possible(each, doubt)), None)
        if candidate is not None:
            return Adopt(candidate.view)
        if not doubt.refusal and doubt.record_job_poll:
            return SendAgain()
        if doubt.refusal and self._is_list_proof_complete(doubt):
            return GiveUp((), f"a call may have been accepted before this one was refused ({doubt.refusal})")
        if now_s >= doubt.give_up_s and doubt.cut_short >= CUT_SHORT_MAX:
            return GiveUp((), NEVER_READ)
        return None

    def has_answered_all_it_will(self, job_id: str) -> bool:
        """Whether a candidate will answer nothing more: later attempts at its files don't ask it any more."""
        candidate = self.candidates.get(job_id)
        return candidate is not None and candidate.is_decided(self._settle_s)

    # --- What is remembered -----------------------------------------------------------------------------------------

    def _remember_contents(self, candidate: Candidate) -> None:
        named, answered = array("Q", candidate.named), array("Q", candidate.answered)
        self._remembered[candidate.job_id] = named, answered
        self._remembered_digests += len(named) + len(answered)
        while self._remembered_digests > REMEMBERED_DIGESTS_MAX:
            _, forgotten = self._remembered.popitem(last=False)
            self._remembered_digests -= sum(map(len, forgotten))

    def _recall_contents(self, candidate: Candidate) -> None:
        if (remembered := self._remembered.pop(candidate.job_id, None)) is not None:
            self._remembered_digests -= sum(map(len, remembered))
            candidate.read_s = math.inf  # late enough, whenever its end is seen
            candidate.named, candidate.answered = map(frozenset, remembered)

    # --- Which jobs can be an attempt's -----------------------------------------------------------------------------

    def is_possible(self, candidate: Candidate, doubt: Doubt) -> bool:
        """Whether a candidate can be the attempt's job, or answer its files."""
        view, attempt = candidate.view, doubt.attempt
        if doubt.transaction_id is not None:
            return view.transaction_id == doubt.transaction_id
        if candidate.named_for is None or attempt.key.chunk in candidate.named_for:
            return False
        if attempt.intended_s is not None and candidate.first_seen_s < attempt.intended_s:
            return False
        return not self._is_older_than_intent(view, doubt) and may_be_made_by(view, self._specs.of(attempt.part))

    def doubts_it_may_settle(self, candidate: Candidate) -> Iterator[Doubt]:
        return (doubt for doubt in self.doubts.values() if self.is_possible(candidate, doubt))

    def _is_worth_remembering(self, view: JobView) -> bool:
        """Whether a job that is shown for the first time is worth remembering. Most of a large project's are not, and
        nearly all of these by their time alone."""
        if self._since_s is not None and view.created_at_s is not None and view.created_at_s < self._since_s:
            return False
        fresh = Candidate(view, math.inf, math.inf)
        return any(self.doubts_it_may_settle(fresh))

    def _is_older_than_intent(self, view: JobView, doubt: Doubt) -> bool:
        floor_s = self._earliest_created_s(doubt)
        return floor_s is not None and view.created_at_s is not None and view.created_at_s < floor_s

    def _earliest_created_s(self, doubt: Doubt) -> float | None:
        server_s = doubt.attempt.server_s
        return None if server_s is None or self._times_apart else server_s - self._clock_spread_s

    def _may_still_answer(self, candidate: Candidate, doubt: Doubt) -> bool:
        """Whether it may be the attempt's job, or may answer more of its files."""
        if candidate.named & doubt.digests:
            told = candidate.withheld and candidate.was_read_late_enough(self._settle_s)  # this much, and no more
        else:
            told = candidate.first_seen_s >= doubt.shown_until_s
        return not told and not (candidate.journal_asked and candidate.is_decided(self._settle_s))

    def _is_list_proof_complete(self, doubt: Doubt) -> bool:
        """Whether two complete readings show all that there can be."""
        return doubt.first_s is not None and doubt.last_s is not None and doubt.last_s - doubt.first_s >= self._settle_s


def creation_order(candidate: Candidate) -> tuple[float, str]:
    created_at_s = candidate.view.created_at_s
    return (math.inf if created_at_s is None else created_at_s, candidate.job_id)


def preference(candidate: Candidate) -> tuple[bool, float, str]:
    """A job whose mode is known before one whose mode isn't: an outcome tells the mode that it can prove."""
    return (candidate.view.mode is None, *creation_order(candidate))
