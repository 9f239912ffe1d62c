"""The program's decisions, as the model asks for them: the real ones, each of which a test may exchange for another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from classify_batch.engine.reconciler.evidence import Evidence
from classify_batch.engine.reconciler.found import FoundJob, Settlement, decide_found_jobs
from classify_batch.model import Attempt
from classify_batch.settings.job_spec import JobSpec, JobSpecs, Rule
from tests.explorer.server_model import Scenario

_RULES = (Rule(type="invoice", description="has line items and a total"),)
SPECS = JobSpecs(JobSpec(rules=_RULES, mode="FAST"), JobSpec(rules=_RULES, mode="MULTIMODAL"))


@dataclass(frozen=True, slots=True)
class Decisions:
    """How the program decides.

    Attributes:
        evidence: makes what the reconciler decides by, for a process whose clock is so wrong, and a server whose `Date`
            is so wrong.
        accept_s: for how long the program lets a call be accepted.
        answers_late_s: for how long it waits for what a known job that ended so has not answered yet.
        settle_found: what found jobs mean for the files of an attempt.
        durable_intents: whether an intent is durable before its call leaves.
        decides_again: whether results that were read for a decision can change it.
    """

    evidence: Callable[[Scenario, int, int], Evidence]
    accept_s: Callable[[Scenario], int] = lambda scenario: scenario.accept_s
    answers_late_s: Callable[[Scenario, str], int] = lambda scenario, _status: scenario.settle_s
    decide_found_jobs: Callable[[Attempt, Sequence[FoundJob], int, str], Settlement] = decide_found_jobs
    durable_intents: bool = True
    decides_again: bool = True


def deciding_by(kind: type[Evidence]) -> Decisions:
    """The present decisions, but for a class of evidence."""

    def evidence(scenario: Scenario, _wall_offset_s: int, _date_offset_s: int) -> Evidence:
        return kind(SPECS, settle_s=scenario.settle_s, clock_spread_s=scenario.clock_spread_s)

    return Decisions(evidence)


PRESENT = deciding_by(Evidence)
"""As they stand in the program."""
