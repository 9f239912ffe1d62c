"""Why a run stops or ended, where no signal and no deadline asked for it."""

from __future__ import annotations

from collections.abc import Mapping

from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ApiError, ClassifyBatchError, ExitStatus, the_cause
from classify_batch.protocol.sanitize import printable_line
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.manifest_json import failed_percentage
from classify_batch.rundir.percentages import format_percentage
from classify_batch.vocabulary import OutcomeKind

JUDGED_FILES_MIN = 100
"""With fewer files, a percentage says nothing."""


def too_many_failures(outcomes: Mapping[str, int], allowed_percentage: float) -> Stop | None:
    """The stop of a run in which more files failed than are allowed; None where they didn't, or too few have ended."""
    failed = failed_percentage(outcomes)
    if sum(outcomes.values()) < JUDGED_FILES_MIN or failed <= allowed_percentage:
        return None
    hint = "look at failures.jsonl, mend the cause or raise limits.stop_at_failure_percentage, then the same command"
    total = sum(outcomes.values())
    share = format_percentage(outcomes[OutcomeKind.FAILED], total, apart_from=allowed_percentage)
    words = (  # what is collected after this changes the share: so the words say what it was a share of
        f"{outcomes[OutcomeKind.FAILED]:,} of the first {total:,} files that were sent failed ({share}), "
        f"and {allowed_percentage:g} % are allowed"
    )
    return Stop(words, ExitStatus.PERSON, hint, collects=True)


def stop_of_broken_run(error: Exception) -> Stop:
    """The stop that is recorded after an error that nothing handled."""
    cause = the_cause(error) if isinstance(error, BaseExceptionGroup) else error
    if isinstance(cause, ClassifyBatchError):
        return Stop.from_error(cause)
    return Stop(f"an internal error of classify-batch ({type(cause).__name__})", ExitStatus.BUG, "report it")


def reason_to_stop(stop: Stop | None) -> tuple[str, str, ExitStatus]:
    """Why a run ended incomplete, a hint what to do, and its exit status. None: its task was cancelled."""
    if stop is None:
        return "interrupted", "the same command goes on", ExitStatus.INCOMPLETE
    return stop.reason, stop.hint, stop.status


def only_other_accounts_remain(snapshot: RunSnapshot) -> tuple[str, str, ExitStatus]:
    """The same of a run in which nothing is left but what other accounts have sent."""
    open_attempts = snapshot.open_by_account()
    whose = [
        f"{count:,} jobs are {name_account(name)}"
        for name, count in sorted(open_attempts.items(), key=without_account_first)
    ]
    hint = "their files may be paid there: "
    named = sorted(name for name in open_attempts if name is not None)
    if None in open_attempts:
        hint += "give the same command without accounts, with that key"
    if named:
        hint += "; then " if None in open_attempts else ""
        hint += f"give the same command with account {' and '.join(named)} and its key"
    return f"{' and '.join(whose)}, and nothing else is left", hint, ExitStatus.PERSON


def name_account(name: str | None) -> str:
    """Whose something is, for people."""
    return "the key's that has no account" if name is None else f"account {name}'s"


def without_account_first(item: tuple[str | None, int]) -> str:
    """Sorts the key without an account first."""
    return item[0] or ""


def stop_for_vanished_job(job_id: str, error: ApiError) -> Stop:
    """The API made this job for us, and answers 404 for it now."""
    return Stop(
        f"job {printable_line(job_id)} vanished: the API made it, and now answers 404 ({error})",
        ExitStatus.PERSON,
        "use the key and api.project_id that the run was begun with, then give the same command",
        of_account=True,
    )
