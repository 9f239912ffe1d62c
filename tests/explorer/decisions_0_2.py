"""The reconciler's decisions as they stood in version 0.2 (commit 3f6c0f4), to be run by the same model.

Transcribed from `stages/reconciler/match.py` and `stage.py` of that commit: its names, its constants and its order of
things. What was spread over coroutines there is called here where the model comes to the same point. Left out is what
the model has no use for: pages, errors, warnings, rules and parsing configurations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from classify_batch.engine.reconciler.ambiguous_attempt import AmbiguousAttempt
from classify_batch.engine.reconciler.candidate import Candidate
from classify_batch.engine.reconciler.decisions import Adopt, Decision, GiveUp, SendAgain
from classify_batch.engine.reconciler.evidence import Evidence
from classify_batch.engine.reconciler.match import digests_of
from classify_batch.model import Attempt, AttemptKey, JobView
from classify_batch.ports import NamedFor
from classify_batch.vocabulary import JobStatus
from tests.explorer.decisions import SPECS, Decisions
from tests.explorer.server_model import Scenario

TIME_MARGIN_S = 5.0
LATE_RESULTS_S = 1


@dataclass(slots=True)
class OldDoubt:
    """See match.Doubt of 0.2."""

    attempt: Attempt
    until_s: float = math.inf
    first_look_s: float | None = None
    last_look_s: float | None = None
    shown: frozenset[str] | None = None
    found: dict[str, int] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)


class Evidence02(Evidence):
    """What the reconciler of 0.2 did, behind the names of today's."""

    def __init__(self, scenario: Scenario, wall_offset_s: int, date_offset_s: int) -> None:
        super().__init__(SPECS, settle_s=scenario.settle_s, clock_spread_s=scenario.clock_spread_s)
        self._wall_offset_s = wall_offset_s
        self._clock_skew_s = date_offset_s - wall_offset_s
        self._job_timeout_s = scenario.job_timeout_s
        self._old: dict[AttemptKey, OldDoubt] = {}
        self._dismissed: set[str] = set()
        self._answered: dict[str, frozenset[str]] = {}
        self._found: dict[str, JobView] = {}

    # --- What happens -----------------------------------------------------------------------------------------------

    def add_attempt(self, ambiguous: AmbiguousAttempt) -> None:
        self.unsettled[ambiguous.attempt.key] = ambiguous
        self._old[ambiguous.attempt.key] = OldDoubt(ambiguous.attempt)

    def remove_attempt(self, ambiguous: AmbiguousAttempt) -> None:
        del self.unsettled[ambiguous.attempt.key]
        del self._old[ambiguous.attempt.key]
        if not self.unsettled:
            self._dismissed.clear()

    def begin_list_reading(self, now_s: float) -> None:
        self._reading_s = now_s
        self.candidates.clear()
        for ambiguous in self._old.values():
            if ambiguous.first_look_s is None:
                ambiguous.first_look_s, ambiguous.until_s = now_s, now_s + self._wall_offset_s

    def record_view(self, view: JobView, now_s: float) -> None:
        if view.job_id not in self._dismissed and any(
            self._could_be(view, ambiguous) for ambiguous in self._old.values()
        ):
            self.candidates[view.job_id] = Candidate(view, now_s, now_s)

    def end_list_reading(self, *, complete: bool) -> None:
        """0.2 drew no line between a reading to the end and another; one that failed was begun again."""

    def record_named_for(self, job_id: str, named_for: NamedFor) -> None:
        """0.2 named only the jobs that it had made or adopted."""
        if named_for is None:
            del self.candidates[job_id]

    # --- What is to be done -----------------------------------------------------------------------------------------

    def candidates_to_poll(self) -> Iterator[Candidate]:
        """The list alone was believed. When the journal was asked, the readings are counted."""
        for ambiguous in self._old.values():
            if ambiguous.first_look_s is None:
                continue
            if ambiguous.shown is None and self._settled(ambiguous, self._reading_s):
                ambiguous.shown = frozenset(self.candidates)
        return iter(())

    def candidates_to_read(self, now_s: float) -> list[Candidate]:
        for candidate in self.candidates.values():
            if candidate.view.finished and not candidate.view.answered:
                self._dismissed.add(candidate.job_id)  # not paid, and nobody's
        due = [candidate for candidate in self.candidates.values() if self.is_read_due(candidate, now_s)]
        for candidate in due:
            if candidate.job_id in self._answered:
                self._hold_against(candidate.job_id, self._answered[candidate.job_id])
        for ambiguous in self._old.values():
            ambiguous.last_look_s = self._reading_s if ambiguous.first_look_s is not None else None
        due = [candidate for candidate in due if candidate.job_id not in self._answered]
        return sorted(due, key=lambda each: (each.view.created_at_s or math.inf, each.job_id))

    def is_read_due(self, candidate: Candidate, now_s: float) -> bool:
        return candidate.view.answered and any(self._asking(candidate.view))

    def record_results(
        self, job_id: str, begun_s: float, named: Iterable[str], answered: Iterable[str], *, withheld: bool = False
    ) -> None:
        files = frozenset(answered)
        status = self.candidates[job_id].view.status
        if not files and not frozenset(named) and status != JobStatus.PARTIAL_SUCCESS:
            return
        self._answered[job_id] = files
        self.candidates[job_id].answered = digests_of(files)
        self._hold_against(job_id, files)

    def decide_for_attempt(self, ambiguous: AmbiguousAttempt, now_s: float) -> Decision | None:
        old = self._old[ambiguous.attempt.key]
        best = self._best(old)
        if best is not None and old.found[best] == len(old.attempt.file_ids):
            return self._adopt(best)
        undecided = [
            view
            for view in (each.view for each in self.candidates.values())
            if view.job_id not in self._dismissed | old.found.keys() and self._could_be(view, old)
        ]
        if undecided:
            return self._give_up_when_due(ambiguous, now_s)
        if self._settled(old, old.last_look_s):
            return SendAgain() if best is None else self._adopt(best)
        return None

    def _give_up_when_due(self, ambiguous: AmbiguousAttempt, now_s: float) -> GiveUp | None:
        attempt = ambiguous.attempt
        began_s = max(attempt.since_s, attempt.waits_since_s)
        late = now_s + self._wall_offset_s - began_s > self._job_timeout_s
        return GiveUp((), "its job may be one of them") if late else None

    # --- Whose job is it --------------------------------------------------------------------------------------------

    def _could_be(self, view: JobView, ambiguous: OldDoubt) -> bool:
        if view.job_id in ambiguous.others or (ambiguous.shown is not None and view.job_id not in ambiguous.shown):
            return False
        if view.created_at_s is not None:
            earliest_s = ambiguous.attempt.since_s + self._clock_skew_s - TIME_MARGIN_S
            latest_s = ambiguous.until_s + self._clock_skew_s + self._settle_s + TIME_MARGIN_S
            if not earliest_s <= view.created_at_s <= latest_s:
                return False
        return view.mode is None or view.mode == self._specs.spec_of_part(ambiguous.attempt.part).mode

    def _asking(self, view: JobView) -> Iterator[OldDoubt]:
        return (
            ambiguous
            for ambiguous in self._old.values()
            if self._could_be(view, ambiguous) and view.job_id not in ambiguous.found
        )

    def _hold_against(self, job_id: str, files: frozenset[str]) -> None:
        for ambiguous in list(self._asking(self.candidates[job_id].view)):
            if count := len(files.intersection(ambiguous.attempt.file_ids)):
                ambiguous.found[job_id] = count
                self._found[job_id] = self.candidates[job_id].view
            else:
                ambiguous.others.add(job_id)

    def _best(self, ambiguous: OldDoubt) -> str | None:
        found = ambiguous.found.keys() - self._dismissed
        return max(sorted(found), key=lambda job_id: ambiguous.found[job_id], default=None)

    def _adopt(self, job_id: str) -> Adopt:
        self._dismissed.add(job_id)
        return Adopt(self._found[job_id])

    def _settled(self, ambiguous: OldDoubt, last_s: float | None) -> bool:
        first_s = ambiguous.first_look_s
        return first_s is not None and last_s is not None and last_s > first_s and last_s - first_s >= self._settle_s


def _answers_late_s(_scenario: Scenario, status: str) -> int:
    """A job that ended well was read once more; every other was believed at once."""
    return LATE_RESULTS_S if status == JobStatus.SUCCESS else 0


DECISIONS_0_2 = Decisions(Evidence02, answers_late_s=_answers_late_s)
