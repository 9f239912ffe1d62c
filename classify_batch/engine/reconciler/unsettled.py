"""The attempts of which it is unknown whether they were accepted: which jobs can be theirs, and what the readings of
the job list prove for them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from classify_batch.engine.reconciler.ambiguous_attempt import AmbiguousAttempt
from classify_batch.engine.reconciler.candidate import Candidate
from classify_batch.engine.reconciler.match import ExpectedJob
from classify_batch.model import AttemptKey, JobView
from classify_batch.settings.job_spec import JobSpecs


class UnsettledAttempts:
    """All ambiguous attempts of a run, by their keys."""

    def __init__(self, specs: JobSpecs, *, settle_s: float, clock_spread_s: float) -> None:
        self._specs = specs
        # By whether a part has first answers: its job is then created by the specification of the second look.
        self._expected = tuple([ExpectedJob.from_spec(each) for each in (specs.first, specs.second or specs.first)])
        self._settle_s = settle_s
        self._clock_spread_s = clock_spread_s
        self._since_s: float | None = None
        self.unsettled: dict[AttemptKey, AmbiguousAttempt] = {}
        self._digests: frozenset[int] = frozenset()
        self._reading_s = -math.inf
        self._clocks_disagree = False
        self._shown_otherwise: frozenset[str] = frozenset()
        self._seen_otherwise: frozenset[str] = frozenset()

    @property
    def clocks_disagree(self) -> bool:
        """Whether the server's clocks disagree by more than is allowed for: no time excludes a job then."""
        return self._clocks_disagree

    @clocks_disagree.setter
    def clocks_disagree(self, apart: bool) -> None:
        if apart and not self._clocks_disagree:
            self._begin_proofs_anew()
        self._clocks_disagree = apart

    def record_own_job(self, view: JobView) -> None:
        """Records a job that a create of ours was answered with, as the list shows it. In what it shows otherwise than
        the create said, so may the job that is looked for: from this reading's end on, that excludes no job."""
        self._seen_otherwise |= min((frozenset(each.contradictions(view)) for each in self._expected), key=len)

    def _begin_proofs_anew(self) -> None:
        """Less excludes a job than was thought: those that were excluded were forgotten, and the list has to show them
        again."""
        for ambiguous in self.unsettled.values():
            ambiguous.first_complete_s, ambiguous.last_complete_s, ambiguous.proven_from_s = None, None, math.inf
        self._reconsider_unawaited()

    def _reconsider_unawaited(self) -> None:
        """Proofs begin anew."""

    def add_attempt(self, ambiguous: AmbiguousAttempt) -> None:
        self.unsettled[ambiguous.attempt.key] = ambiguous
        self._since_s = self.earliest_created_s()
        self._digests |= ambiguous.digests

    def remove_attempt(self, ambiguous: AmbiguousAttempt) -> None:
        del self.unsettled[ambiguous.attempt.key]
        self._since_s = self.earliest_created_s()
        self._digests = frozenset().union(*(each.digests for each in self.unsettled.values()))

    def earliest_created_s(self) -> float | None:
        """The earliest time, by the server's clock, at which a wanted job can have been made; None: any."""
        floors = [self._earliest_created_s(ambiguous) for ambiguous in self.unsettled.values()]
        known = [floor_s for floor_s in floors if floor_s is not None]
        return min(known) if known and len(known) == len(floors) else None  # one without a floor needs the whole list

    # --- What the readings of the list prove --------------------------------------------------------------------------

    def begin_list_reading(self, now_s: float) -> None:
        """A reading of the list begins, from its front."""
        self._reading_s = now_s
        self._since_s = self.earliest_created_s()
        for ambiguous in self.unsettled.values():
            # One that is added later isn't: its job may have been on a page that was read before.
            ambiguous.is_read_for = True
            if self._is_list_proof_complete(ambiguous):
                ambiguous.proven_from_s = min(now_s, ambiguous.proven_from_s)

    def end_list_reading(self, *, complete: bool) -> None:
        """Records that a reading has ended. `complete`: it reached the list's end, so every listed job was shown."""
        for ambiguous in self.unsettled.values():
            if not ambiguous.is_read_for:
                continue
            ambiguous.list_was_read = True
            # When this reading began, a call could still be accepted: it proves nothing.
            if self._reading_s < ambiguous.accept_until_s:
                continue
            if complete:
                ambiguous.first_complete_s = (
                    self._reading_s if ambiguous.first_complete_s is None else ambiguous.first_complete_s
                )
                ambiguous.last_complete_s = self._reading_s
            else:
                ambiguous.incomplete_readings += 1
        if not self._seen_otherwise <= self._shown_otherwise:
            self._shown_otherwise |= self._seen_otherwise
            self._begin_proofs_anew()

    def fail_list_reading(self) -> None:
        """Records that the list could not be read."""
        for ambiguous in self.unsettled.values():
            if ambiguous.is_read_for and self._reading_s >= ambiguous.accept_until_s:
                ambiguous.incomplete_readings += 1

    def _is_list_proof_complete(self, ambiguous: AmbiguousAttempt) -> bool:
        """Whether two complete readings have shown all that there can be."""
        return (
            ambiguous.first_complete_s is not None
            and ambiguous.last_complete_s is not None
            and ambiguous.last_complete_s - ambiguous.first_complete_s >= self._settle_s
        )

    # --- Which jobs can be an attempt's -----------------------------------------------------------------------------

    def is_possible(self, candidate: Candidate, ambiguous: AmbiguousAttempt) -> bool:
        """Whether a candidate can be the attempt's job, or answer its files."""
        view, attempt = candidate.view, ambiguous.attempt
        if ambiguous.transaction_id is not None and (view.transaction_id is not None or not ambiguous.refusal):
            # An idempotency key is nobody else's, so nothing more is asked.
            return view.transaction_id == ambiguous.transaction_id
        # Where a repeated call gives no job, one that shows no transaction ID is compared by its file, and by the rest.
        if ambiguous.transaction_id is not None and not ambiguous.is_about_file(view.file_id):
            return False
        # It is another create's, or an earlier attempt of this chunk took all that it has (`lifecycle.Ended.found`).
        if candidate.named_for is None or attempt.key.chunk in candidate.named_for:
            return False
        if attempt.intended_s is not None and candidate.first_seen_s < attempt.intended_s:
            return False
        if self._is_older_than_intent(view, ambiguous):
            return False
        return self._expected[attempt.part.first is not None].agrees_with(view, self._shown_otherwise)

    def attempts_it_may_settle(self, candidate: Candidate) -> Iterator[AmbiguousAttempt]:
        """The attempts that a candidate may settle."""
        return (ambiguous for ambiguous in self.unsettled.values() if self.is_possible(candidate, ambiguous))

    def _may_still_answer(self, candidate: Candidate, ambiguous: AmbiguousAttempt) -> bool:
        """Whether a possible candidate may be the attempt's job, or may answer more of its files."""
        if not ambiguous.digests.isdisjoint(candidate.named):
            # The API withholds the rest of its results, and never hands out more.
            is_excluded = candidate.withheld and candidate.was_read_late_enough(self._settle_s)
        else:
            is_excluded = candidate.first_seen_s >= ambiguous.proven_from_s
        return not is_excluded and not (candidate.journal_asked and candidate.is_decided(self._settle_s))

    def _is_awaited(self, candidate: Candidate) -> bool:
        """Whether any attempt waits for a candidate."""
        return any(self._may_still_answer(candidate, ambiguous) for ambiguous in self.attempts_it_may_settle(candidate))

    def _is_worth_remembering(self, view: JobView) -> bool:
        """Whether a job that is shown for the first time is worth remembering. Most of a large project's are not, and
        nearly all of these by their time alone."""
        if self._since_s is not None and view.created_at_s is not None and view.created_at_s < self._since_s:
            return False
        return any(self.attempts_it_may_settle(Candidate(view, math.inf, math.inf)))

    def _is_older_than_intent(self, view: JobView, ambiguous: AmbiguousAttempt) -> bool:
        floor_s = self._earliest_created_s(ambiguous)
        return floor_s is not None and view.created_at_s is not None and view.created_at_s < floor_s

    def _earliest_created_s(self, ambiguous: AmbiguousAttempt) -> float | None:
        server_s = ambiguous.attempt.server_s
        return None if server_s is None or self._clocks_disagree else server_s - self._clock_spread_s
