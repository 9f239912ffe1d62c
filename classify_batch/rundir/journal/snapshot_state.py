"""What is known of a run at a moment, and what can be asked of it: see replay.py for how it changes.

Memory: two bytes per chunk, and objects only for the chunks that have open attempts or parts to send. Failed files that
get a new chance are taken into hand a few at a time (see `Untaken`).
"""

from __future__ import annotations

from classify_batch.lifecycle import Closed, Opened
from classify_batch.model import AttemptKey, Part
from classify_batch.rundir.journal.chunk_bytes import bytes_of_chunks
from classify_batch.rundir.journal.open_attempts import AttemptCounts, ChunkInHand, OpenAttempt, Untaken
from classify_batch.rundir.journal.plain import PlainAttempts
from classify_batch.rundir.journal.starts import Starts
from classify_batch.rundir.journal.totals import Totals
from classify_batch.vocabulary import CancelState

PLANNED, OPEN, DONE = 0, 1, 2


class SnapshotState(Totals):
    """Where a run stands: its sums (see Totals), and what is known of its chunks.

    Attributes:
        open: the attempts that have not ended; jobs_in_flight: those of them that have a job.
        results_end, failures_end, provisional_end: bytes of the outcome files that are committed.
        generation: how often the failed files got a new chance; earlier_failures: lines and bytes of the failures
            that were put aside each time.
        retries: of the failed files that got a new chance, those that are not in hand yet, by generation.
        durations: the last jobs', in seconds.
        job_id: the last one that the API named.
        server_s: the server's own time, as far as it was read: the latest `created_at` of a job of this run.
        server_s_is_listed: whether that is still the time of a listed job, since none of this run has told one.
        names_untimed: whether a line names jobs and tells no time: the older ones do, up to 0.2.
        times_apart: whether the server's clocks were seen to disagree by more than `limits.clock_spread_s`.
        accept_s: the longest that a process of this run gave a create call to be accepted; None: none has said.
        bound_holds: whether every credit that was spent stands in the journal: versions up to 0.2 let v2's creates
            leave before their intents were written.
        cancel: how far the cancelling of the run is; None: it isn't cancelled, or has gone on since.
    """

    def __init__(self, chunks: int, first_chunk: int = 0) -> None:
        super().__init__()
        self.chunk_states = bytes_of_chunks(chunks, first_chunk)
        self.done_chunks = 0
        self.open: dict[AttemptKey, OpenAttempt] = {}
        self.jobs_in_flight = 0
        self._in_hand: dict[int, ChunkInHand] = {}
        self._plain = PlainAttempts()
        self.results_end = 0
        self.failures_end = 0
        self.provisional_end = 0
        self.generation = 0
        self.earlier_failures: list[tuple[int, int]] = []
        self.retries: dict[int, Untaken] = {}
        self._attempts = AttemptCounts(chunks, first_chunk)
        self.project_id: str | None = None
        self.starts = Starts()
        self.opened: Opened | None = None
        self.closed: Closed | None = None
        self.job_id: str | None = None
        self.server_s: float | None = None
        self.server_s_is_listed = False
        self.names_untimed = False
        self.times_apart = False
        self.accept_s: float | None = None
        self.bound_holds = True
        self.cancel: CancelState | None = None
        self._holders: dict[str, AttemptKey] = {}

    @property
    def complete(self) -> bool:
        """Whether every chunk is done, and none has failed files that are to be retried."""
        return self.done_chunks == len(self.chunk_states) and not self.retries

    def is_planned(self, chunk: int) -> bool:
        """Whether a chunk has never gone out."""
        return self.chunk_states[chunk] == PLANNED

    def is_done(self, chunk: int) -> bool:
        """Whether every file of a chunk has its outcome."""
        return self.chunk_states[chunk] == DONE

    def waiting_parts(self) -> list[Part]:
        """Parts of begun chunks that go out again, in the order of their chunks."""
        return [part for chunk in sorted(self._in_hand) for part in self._in_hand[chunk].waiting]

    def next_attempt(self, chunk: int) -> int:
        in_hand = self._in_hand.get(chunk)
        return (self._attempts.of(chunk) if in_hand is None else in_hand.attempts) + 1

    def holder_of(self, job_id: str) -> AttemptKey | None:
        """The open attempt that has this job."""
        return self._holders.get(job_id)

    def others_suspect(self, key: AttemptKey) -> bool:
        """Whether a bad job that an open attempt's file shared may have been the fault of another file: of one that is
        still out or waits to go out, or has failed by itself since."""
        in_hand = self._in_hand[key.chunk]
        return (
            in_hand.guilty
            or any(part.shared_bad_jobs for part in in_hand.waiting)
            # By number, not over all that is open: there may be thousands of other chunks' attempts.
            or any(
                other.part.shared_bad_jobs
                for number in range(1, in_hand.attempts + 1)
                if number != key.attempt and (other := self.open.get(AttemptKey(key.chunk, number))) is not None
            )
        )

    def learn_server_s(self, created_at_s: float | None) -> None:
        """Takes the time of a job of this run that was read, where it is the latest."""
        if created_at_s is None:
            return
        if self.server_s is None or self.server_s_is_listed or created_at_s > self.server_s:
            self.server_s, self.server_s_is_listed = created_at_s, False
