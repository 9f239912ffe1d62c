"""Every error that leaves this package, as one tree.

    ClassifyBatchError            carries `exit_status` and a `hint`
    ├── UsageError            2   a person mends it; nothing was sent
    │   ├── SettingsError         a setting is missing, unknown or out of its range
    │   ├── SourceError           the input can't be read as file IDs
    │   └── RunDirectoryError     the directory doesn't fit the command
    │       └── DamagedError      what was committed is no longer what was written
    ├── WorldError           75   the same command goes on later
    │   ├── LockedError           another process holds the run
    │   ├── StoreError            the disk refused a write (full, read-only, gone)
    │   ├── LeaseLostError        a shard's owner stood still for too long
    │   ├── ChildOfRunError       a fork's child came to what is its parent's
    │   ├── FolderGoneError       the folder of documents isn't there
    │   ├── ObjectStoreError      an object store is out of reach, or in trouble
    │   └── InterruptedEarlyError a signal came before anything was sent
    ├── ObjectAccessError    77   an object store wants other credentials
    ├── ApiError                  what the API answered, or failed to; `verdict` says what follows
    └── InternalError        70   a fault of ours

Whose fault it is decides the class, what a scheduler should do decides the exit status, and the facts (file, line,
value, job, HTTP status, the server's words) stand in the message.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ExitStatus(IntEnum):
    """What a scheduler sees."""

    COMPLETE = 0
    FAILURES = 1
    USAGE = 2
    BUG = 70  # EX_SOFTWARE of sysexits.h
    INCOMPLETE = 75  # EX_TEMPFAIL: schedulers know it as "try again later"
    PERSON = 77  # EX_NOPERM: trying again changes nothing
    SIGHUP_TWICE = 129  # 128 and the signal's number, as shells tell it; likewise below
    SIGINT_TWICE = 130
    SIGTERM_TWICE = 143


EXIT_STATUS_MEANINGS: dict[ExitStatus, str] = {
    ExitStatus.COMPLETE: "complete; failures within the tolerance",
    ExitStatus.FAILURES: "complete; more failures than tolerated: see failures.jsonl",
    ExitStatus.USAGE: "wrong usage or settings, or a directory that doesn't fit or is damaged",
    ExitStatus.BUG: "a fault of ours; the run can still be resumed",
    ExitStatus.INCOMPLETE: "incomplete; the same command goes on",
    ExitStatus.PERSON: "incomplete; a person must act first (key, credits, too many failures)",
    ExitStatus.SIGHUP_TWICE: "second SIGHUP: left at once, still resumable",
    ExitStatus.SIGINT_TWICE: "second Ctrl-C: left at once, still resumable",
    ExitStatus.SIGTERM_TWICE: "second SIGTERM: left at once, still resumable",
}


class ClassifyBatchError(Exception):
    """The root. `str(error)` is one clear message; `hint` says what to do next."""

    exit_status: ExitStatus = ExitStatus.BUG

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Errors go from process to process: by what they hold, since not all are made of their message alone."""
        return _restore_error, (type(self), self.args, self.__dict__)


def _restore_error(
    kind: type[ClassifyBatchError], args: tuple[object, ...], attributes: dict[str, object]
) -> ClassifyBatchError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class UsageError(ClassifyBatchError):
    """A person mends it: settings, input or directory don't fit. Nothing was sent."""

    exit_status = ExitStatus.USAGE


def missing_extra(what: str, extra: str) -> UsageError:
    """The error of what needs a package that isn't installed."""
    return UsageError(f"{what}, which is not installed", hint=f"pip install 'classify-batch[{extra}]'")


class SettingsError(UsageError):
    """A setting is missing, unknown, of the wrong type or out of its range. Names all of them at once."""


class SourceError(UsageError):
    """The input can't be read as file IDs. Names file and line."""


class RunDirectoryError(UsageError):
    """The run directory doesn't fit the command."""


class DamagedError(RunDirectoryError):
    """Something that was committed is not there any more as it was written. Nothing was overwritten."""


class WorldError(ClassifyBatchError):
    """The world is in the way for now; the same command, or call, goes on later."""

    exit_status = ExitStatus.INCOMPLETE


class LockedError(WorldError):
    """Another process holds the run directory."""


class StoreError(WorldError):
    """The disk refused. What is committed stays; the same command goes on when there is room."""


class LeaseLostError(WorldError):
    """A call may not leave, since the shard is another process's, or may be. Nothing of it was sent."""

    def __init__(self) -> None:
        super().__init__(
            "this process stood still for longer than limits.lease_s: its shard may be another process's",
            hint="the same command goes on, if no other process does",
        )


class ChildOfRunError(WorldError):
    """A child by a fork came to what is its parent's, the run or a connection. Nothing was sent or written."""

    def __init__(self) -> None:
        super().__init__(
            "this process is a child (os.fork) of the one that has the run",
            hint="a child ends by os._exit(), or starts another program; a run of its own has a directory of its own",
        )


class FolderGoneError(WorldError):
    """The folder of documents isn't there, or is empty, though it held documents. None of them is judged by that."""


class ObjectStoreError(WorldError):
    """An object store can't be reached, or is in trouble; or an object changed while it was read."""


class InterruptedEarlyError(WorldError):
    """A signal came before anything was sent."""


class ObjectAccessError(ClassifyBatchError):
    """An object store refuses the credentials, or there are none: a person must act."""

    exit_status = ExitStatus.PERSON


INPUT_ERRORS = (SourceError, ObjectAccessError, ObjectStoreError)
"""What reading an input may end with."""


class NotUploadableError(Exception):
    """A document can't be brought to the project; the message says why. It fails one file, and not the run."""


class InternalError(ClassifyBatchError):
    """A state that the code calls impossible. Never the user's fault."""

    exit_status = ExitStatus.BUG


class Verdict(StrEnum):
    """What an answer, or the lack of one, means for the call that was made."""

    LATER = "later"
    """Surely not accepted (or a read, which may always be repeated): the same call again, later."""
    AMBIGUOUS = "ambiguous"
    """A create that was perhaps accepted: never simply sent again."""
    REFUSED = "refused"
    """The API said no to what was sent (400, 413, 422): the same call would be refused again."""
    MISSING = "missing"
    """404: no such thing, or not yet."""
    KEY_REFUSED = "key_refused"
    """401, 403: a person must act."""
    BLOCKED = "blocked"
    """No call reaches the API until a person acts: the proxy refuses it, or the server's certificate isn't trusted."""
    NO_CREDIT = "no_credit"
    """402: no more creates; reads stay allowed."""
    PLAN_FULL = "plan_full"
    """429 that counts things of the plan, not requests: trying again soon is useless."""
    DOWN = "down"
    """Surely not accepted, and there was no answer to anything for so long that trying again now is useless."""
    PERSON = "person"
    """Whatever files are sent, this call will be refused (wrong address, rules that the API won't take)."""


class ApiError(ClassifyBatchError):
    """A call that brought no usable answer.

    Attributes:
        call: "create", "get", "list", "results", "cancel", "files", "upload" …, as in `ApiClient.send_request`.
        verdict: what it means for that call.
        status: the HTTP status, or None where no answer came.
        detail: the server's own words, cleaned of control characters and cut to 500 characters.
        file_indexes: positions in the sent `file_ids` that a 422 names in `loc`.
        ambiguous: whether it was a create that may have been accepted, though the same call may be made again.
    """

    exit_status = ExitStatus.INCOMPLETE

    def __init__(
        self,
        call: str,
        verdict: Verdict,
        message: str,
        *,
        status: int | None = None,
        detail: str = "",
        file_indexes: tuple[int, ...] = (),
        hint: str = "",
        ambiguous: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.ambiguous = ambiguous or verdict is Verdict.AMBIGUOUS
        self.call = call
        self.verdict = verdict
        self.status = status
        self.detail = detail
        self.file_indexes = file_indexes
        if verdict in (Verdict.KEY_REFUSED, Verdict.BLOCKED, Verdict.NO_CREDIT, Verdict.PERSON):
            self.exit_status = ExitStatus.PERSON


def the_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that a person should hear of: the world's before ours before anything else."""
    errors = _single_errors(group)
    # A disk that refuses ends every stage: what the others say then follows from that.
    for kind in (StoreError, ClassifyBatchError):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]


def _single_errors(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_single_errors(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
