"""Which outcomes are handed on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import ValidationError

from classify_batch.errors import DamagedError, UsageError
from classify_batch.rundir.committed_outcomes import HINT, OutcomeLine
from classify_batch.rundir.run_json import RunFile
from classify_batch.settings.sections import TriageSettings
from classify_batch.vocabulary import RUN_JSON, Log


class Only(StrEnum):
    """By what outcomes can be asked for: how the file ended, or what the run's triage says of a classified one."""

    CLASSIFIED = "classified"
    UNMATCHED = "unmatched"
    FAILED = "failed"
    ACCEPTED = "accepted"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class Selection:
    """What is taken of the outcomes; all of them where `only` is None."""

    only: Only | None = None
    triage: TriageSettings | None = None

    @property
    def logs(self) -> tuple[Log, ...]:
        """The files in which it can be, in their order."""
        if self.only is None:
            return (Log.RESULTS, Log.FAILURES)
        return (Log.FAILURES,) if self.only is Only.FAILED else (Log.RESULTS,)

    def takes(self, line: OutcomeLine) -> bool:
        if self.triage is None:
            return self.only is None or line.outcome == self.only.value
        if line.type is None:
            return False
        return self.triage.accepts(line.type, line.confidence) is (self.only is Only.ACCEPTED)


def selection_of(only: Only | None, run: RunFile, where: str) -> Selection:
    """What is asked for, of a run. `where`: the run directory, for messages.

    Raises:
        UsageError: the run has no triage, and its triage is asked for.
        DamagedError: run.json holds a triage that is none.
    """
    if only not in (Only.ACCEPTED, Only.REVIEW):
        return Selection(only)
    if (told := run.settings.get("triage")) is None:
        raise UsageError(
            f"the run in {where} has no triage, so that nothing says which answers are accepted",
            hint="set `[triage] accept_above` in the config of a new run; with --reuse it takes these answers over",
        )
    try:
        return Selection(only, TriageSettings.model_validate(told))
    except ValidationError:
        words = f"{RUN_JSON} in {where} is damaged: settings.triage: not what it must be"
        raise DamagedError(words, hint=HINT) from None
