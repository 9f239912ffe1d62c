"""What the evidence tests have in common: attempts, jobs, and a stage that does in a few words what the evidence asks
for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from classify_batch.engine.reconciler.ambiguous_attempt import AmbiguousAttempt
from classify_batch.engine.reconciler.evidence import Evidence
from classify_batch.model import Attempt, AttemptKey, JobView, Part, ProvisionalRange
from classify_batch.ports import NamedFor
from classify_batch.settings.job_spec import JobSpec, JobSpecs, Rule

SETTLE_S, SPREAD_S = 20.0, 60.0
ACCEPT_UNTIL_S, GIVE_UP_S = 100.0, 7200.0
SERVER_S = 1_700_000_000.0
SPEC = JobSpec(rules=(Rule(type="x", description="anything at all"),))
SPECS = JobSpecs(SPEC, SPEC.model_copy(update={"mode": "MULTIMODAL"}))


def ambiguous(
    *file_ids: str, chunk: int = 0, second: bool = False, transaction_id: str | None = None, **told: Any
) -> AmbiguousAttempt:
    """An attempt whose call may be accepted until 100 s, and which is given up at 7200 s."""
    part = Part(chunk, first=ProvisionalRange(0, 1) if second else None)
    attempt_told = {name: told.pop(name) for name in ("server_s", "intended_s") if name in told}
    attempt = Attempt(AttemptKey(chunk, 1), part, file_ids, tuple(range(len(file_ids))), **attempt_told)
    times = {"accept_until_s": ACCEPT_UNTIL_S, "give_up_s": GIVE_UP_S} | told
    return AmbiguousAttempt(attempt, transaction_id=transaction_id, **times)


def job(job_id: str = "j", status: str = "PENDING", **shown: Any) -> JobView:
    return JobView(job_id, status, **shown)


class EvidenceStage(Evidence):
    """Evidence, and the stage beside it in a few words: the journal names nothing but what it is given."""

    def __init__(self, *ambiguous_attempts: AmbiguousAttempt, named: dict[str, NamedFor] | None = None) -> None:
        super().__init__(SPECS, settle_s=SETTLE_S, clock_spread_s=SPREAD_S)
        self._named = named or {}
        for each in ambiguous_attempts:
            self.add_attempt(each)

    def read_list(self, now_s: float, *views: JobView, complete: bool = True) -> None:
        """Reads the list from `now_s` on; it takes no time."""
        self.begin_list_reading(now_s)
        for view in views:
            self.record_view(view, now_s)
        self.end_list_reading(complete=complete)
        for job_id in self.candidates:
            self.record_named_for(job_id, self._named.get(job_id, frozenset()))

    def read_twice(self, *views: JobView, from_s: float = ACCEPT_UNTIL_S) -> float:
        """Two complete readings, as far apart as they must be. Returns the time of the second."""
        self.read_list(from_s, *views)
        self.read_list(from_s + SETTLE_S, *views)
        return from_s + SETTLE_S

    def answer(self, job_id: str, now_s: float, answered: Iterable[str], null: Iterable[str] = ()) -> None:
        """The job's results are read."""
        self.record_results(job_id, now_s, [*answered, *null], answered)

    def asked(self) -> list[str]:
        return [each.job_id for each in self.candidates_to_poll()]

    def due(self, now_s: float) -> list[str]:
        return [each.job_id for each in self.candidates_to_read(now_s)]
