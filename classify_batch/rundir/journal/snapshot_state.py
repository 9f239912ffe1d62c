"""What is known of a run, and what can be asked of it: see replay.py for how it changes.

Memory: two bytes per chunk, and objects only for the chunks that have open attempts or parts to send. Failed files that
get a new chance are taken up a few at a time (see `PendingRetries`).
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from classify_batch.file_keys import file_key
from classify_batch.lifecycle import AccountKeys, Closed, Opened
from classify_batch.model import AttemptKey, Part
from classify_batch.rundir.journal.chunk_bytes import bytes_of_chunks
from classify_batch.rundir.journal.open_attempts import ActiveChunk, AttemptCounts, OpenAttempt, PendingRetries
from classify_batch.rundir.journal.plain import PlainAttempts
from classify_batch.rundir.journal.starts import Starts
from classify_batch.rundir.journal.totals import Totals
from classify_batch.vocabulary import CancelState, State

PLANNED, OPEN, DONE = 0, 1, 2


class SeenByAccount(NamedTuple):
    """What was read with one key, and says nothing of what another one's server or project would show: see
    SnapshotState."""

    project_id: str | None = None
    job_id: str | None = None
    server_s: float | None = None
    server_s_is_listed: bool = False
    names_jobs_without_time: bool = False
    clocks_disagree: bool = False


class SnapshotState(Totals):
    """Where a run stands: its sums (see Totals), and what is known of its chunks.

    An attempt belongs to the account with whose key it was sent: only that one can ask what became of it. What is in
    `SeenByAccount` is the last process's account's, and so is `jobs_in_flight`.

    Attributes:
        open_attempts: the attempts that have not ended, of whatever account; jobs_in_flight: own ones that have a job.
        open_of_other_accounts: how many of them are other accounts'.
        account_keys: of each account, where its key led when it was last used.
        results_end, failures_end, provisional_end: bytes of the outcome files that are committed.
        generation: how often the failed files got a new chance; earlier_failures: lines and bytes of the failures
            that were put aside each time.
        pending_retries: of the failed files that got a new chance, those that wait still, by generation.
        durations: the last jobs', in seconds.
        job_id: the last one that the API named.
        server_s: the server's own time, as far as it was read: the latest `created_at` of a job of this run.
        server_s_is_listed: whether that is still the time of a listed job, since no job of this run has shown one.
        names_jobs_without_time: whether a line names jobs without a time: older versions wrote such lines, up to
            0.2.
        clocks_disagree: whether the server's clocks were seen to disagree by more than `limits.clock_spread_s`.
        accept_s: the longest that a process of this run gave a create call to be accepted; None: none has said.
        credits_all_journalled: whether every credit that was spent stands in the journal: versions up to 0.2 let v2's
            creates leave before their intents were written.
        cancel: how far the cancelling of the run is; None: it isn't cancelled, or has gone on since.
    """

    def __init__(self, chunks: int, first_chunk: int = 0) -> None:
        super().__init__()
        self.chunk_states = bytes_of_chunks(chunks, first_chunk)
        self.done_chunks = 0
        self.open_attempts: dict[AttemptKey, OpenAttempt] = {}
        self.jobs_in_flight = 0
        self._active_chunks: dict[int, ActiveChunk] = {}
        self._plain = PlainAttempts()
        self.results_end = 0
        self.failures_end = 0
        self.provisional_end = 0
        self.generation = 0
        self.earlier_failures: list[tuple[int, int]] = []
        self.pending_retries: dict[int, PendingRetries] = {}
        self._attempts = AttemptCounts(chunks, first_chunk)
        self.project_id: str | None = None
        self.starts = Starts()
        self.opened: Opened | None = None
        self.closed: Closed | None = None
        self.job_id: str | None = None
        self.server_s: float | None = None
        self.server_s_is_listed = False
        self.names_jobs_without_time = False
        self.clocks_disagree = False
        self.accept_s: float | None = None
        self.credits_all_journalled = True
        self.cancel: CancelState | None = None
        self._attempt_by_job: dict[str, AttemptKey] = {}
        self.open_of_other_accounts = 0
        self.account_keys: dict[str, AccountKeys] = {}
        self._seen_by: dict[str | None, SeenByAccount] = {}

    @property
    def complete(self) -> bool:
        """Whether every chunk is done, and none has failed files that are to be retried."""
        return self.done_chunks == len(self.chunk_states) and not self.pending_retries

    @property
    def only_others_remain(self) -> bool:
        """Whether the run isn't complete, and all that is left of it are attempts of other accounts."""
        return (
            0 < self.open_of_other_accounts == len(self.open_attempts)
            and self.done_chunks + len(self._active_chunks) == len(self.chunk_states)
            and not self.pending_retries
            and not any(active.waiting for active in self._active_chunks.values())
        )

    def is_own(self, attempt: OpenAttempt) -> bool:
        """Whether an open attempt is this account's."""
        return attempt.account == self.account

    def open_by_account(self) -> Counter[str | None]:
        """How many attempts of each account are open."""
        return Counter(attempt.account for attempt in self.open_attempts.values())

    def begin_session(self, account: AccountKeys | None) -> None:
        """A process takes the run over, with this account's key; None: with the run's own."""
        self._seen_by[self.account] = SeenByAccount(*(getattr(self, name) for name in SeenByAccount._fields))
        self.begin_account(None if account is None else account["name"])
        if account is not None:
            self.account_keys[account["name"]] = account
        seen = self._seen_by.get(self.account, SeenByAccount())
        self.project_id, self.job_id = seen.project_id, seen.job_id
        self.server_s, self.server_s_is_listed = seen.server_s, seen.server_s_is_listed
        self.names_jobs_without_time, self.clocks_disagree = seen.names_jobs_without_time, seen.clocks_disagree
        own = [attempt for attempt in self.open_attempts.values() if self.is_own(attempt)]
        self.open_of_other_accounts = len(self.open_attempts) - len(own)
        self.jobs_in_flight = sum(attempt.job_id is not None for attempt in own)

    @property
    def had_accounts(self) -> bool:
        """Whether a process worked with an account's key."""
        return len(self._seen_by) > 1 or self.account is not None

    def is_planned(self, chunk: int) -> bool:
        """Whether a chunk has never gone out."""
        return self.chunk_states[chunk] == PLANNED

    def is_done(self, chunk: int) -> bool:
        """Whether every file of a chunk has its outcome."""
        return self.chunk_states[chunk] == DONE

    def waiting_parts(self) -> list[Part]:
        """Parts of begun chunks that go out again, in the order of their chunks."""
        return [part for chunk in sorted(self._active_chunks) for part in self._active_chunks[chunk].waiting]

    def next_attempt(self, chunk: int) -> int:
        active = self._active_chunks.get(chunk)
        return (self._attempts.count_of_chunk(chunk) if active is None else active.attempts) + 1

    def attempt_of_job(self, job_id: str) -> AttemptKey | None:
        """The open attempt of this account that has this job."""
        key = self._attempt_by_job.get(file_key(job_id))
        return None if key is None or not self.is_own(self.open_attempts[key]) else key

    def is_in_flight(self, job_id: str) -> bool:
        """Whether it is a job of this account that hasn't been seen to have ended."""
        key = self.attempt_of_job(job_id)
        return key is not None and self.open_attempts[key].state is State.SUBMITTED

    def other_file_suspected(self, key: AttemptKey) -> bool:
        """Whether a bad job that an open attempt's file shared may have been the fault of another file: of one that is
        still out or waits to go out, or has failed by itself since."""
        active = self._active_chunks[key.chunk]
        return (
            active.guilty
            or any(part.shared_bad_jobs for part in active.waiting)
            # By number, not over all that is open: there may be thousands of other chunks' attempts.
            or any(
                other.part.shared_bad_jobs
                for number in range(1, active.attempts + 1)
                if number != key.attempt
                and (other := self.open_attempts.get(AttemptKey(key.chunk, number))) is not None
            )
        )

    def learn_server_s(self, created_at_s: float | None) -> None:
        """Takes the time of a job of this run that was read, where it is the latest."""
        if created_at_s is None:
            return
        if self.server_s is None or self.server_s_is_listed or created_at_s > self.server_s:
            self.server_s, self.server_s_is_listed = created_at_s, False
