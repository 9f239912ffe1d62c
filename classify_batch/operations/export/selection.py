"""Selects the outcomes to export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from classify_batch.errors import DamagedError, UsageError
from classify_batch.rundir.committed_outcomes import HINT, OutcomeLine
from classify_batch.rundir.run_json import RunFile
from classify_batch.vocabulary import RUN_JSON, Log

if TYPE_CHECKING:
    from classify_batch.settings import TriageSettings


class Only(StrEnum):
    """What outcomes can be selected by: how the file ended, or what the run's triage says of a classified file."""

    CLASSIFIED = "classified"
    UNMATCHED = "unmatched"
    FAILED = "failed"
    ACCEPTED = "accepted"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which outcomes are exported; all of them if `only` is None."""

    only: Only | None = None
    triage: TriageSettings | None = None

    @property
    def needed_logs(self) -> tuple[Log, ...]:
        """The files that can hold them, in the order of the export."""
        if self.only is None:
            return (Log.RESULTS, Log.FAILURES)
        return (Log.FAILURES,) if self.only is Only.FAILED else (Log.RESULTS,)

    def select_lines(self, lines: Sequence[OutcomeLine]) -> list[bool]:
        """For each outcome, whether it is selected."""
        return [True] * len(lines) if self.only is None else list(map(self.includes, lines))

    def includes(self, line: OutcomeLine) -> bool:
        """Whether an outcome is selected."""
        if self.triage is None:
            return self.only is None or line.outcome == self.only.value
        if line.type is None:
            return False
        return self.triage.accepts_answer(line.type, line.confidence) is (self.only is Only.ACCEPTED)


def make_selection(only: Only | None, run: RunFile, where: str) -> Selection:
    """The selection of `only` in a run. `where`: the run directory, for messages.

    Raises:
        UsageError: `only` needs a triage, and the run has none.
        DamagedError: the triage in run.json is damaged.
    """
    if only not in (Only.ACCEPTED, Only.REVIEW):
        return Selection(only)
    if (triage := run.settings.get("triage")) is None:
        raise UsageError(
            f"the run in {where} has no triage, which says which answers are accepted",
            hint="set `[triage] accept_above` in the config of a new run; with --reuse it reuses these answers",
        )
    # Loaded here: an export of all outcomes needs no settings, and would wait longer for these than for itself.
    from pydantic import ValidationError  # noqa: PLC0415

    from classify_batch.settings import TriageSettings  # noqa: PLC0415

    try:
        return Selection(only, TriageSettings.model_validate(triage))
    except ValidationError:
        message = f"{RUN_JSON} in {where} is damaged: settings.triage is invalid"
        raise DamagedError(message, hint=HINT) from None
