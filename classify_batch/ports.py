"""What the stages need of the world, and nothing more.

Each port has more than one implementation (a server over HTTP and its twin in virtual time; a disk, a memory, and in
the tests objects that never change), and one conformance suite that all of them must pass.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import anyio

from classify_batch.events import Event
from classify_batch.lifecycle import AboutRun, Fact
from classify_batch.model import Answers, Attempt, AttemptKey, JobPage, JobView, Segment, Uploads
from classify_batch.run_records import Holder
from classify_batch.vocabulary import Kind, Log


class Clock(Protocol):
    """Wall time. What waits or measures uses anyio's own clock."""

    def wall_s(self) -> float:
        """Seconds since the Unix epoch."""


class Observer(Protocol):
    """Watches a run. It is called from a task of its own, one event after the other."""

    async def observe(self, event: Event) -> None:
        """Is given each event in turn. Whatever it raises ends its watching, and not the run."""


class Api(Protocol):
    """One version of the classifier's API. Every method raises ApiError and nothing else."""

    @property
    def requests(self) -> int:
        """Requests that were sent since this client was opened."""

    @property
    def idempotent(self) -> bool:
        """Whether a create call that is made again for the same attempt gives the same job."""

    def transaction_id(self, attempt: Attempt) -> str | None:
        """What identifies the attempt's job among all others in the list; None where the API has no such thing.
        The same in every process."""

    async def project_of_file(self, file_id: str) -> str | None:
        """The project that holds a file, by the file list; None where it doesn't."""

    async def create(self, attempt: Attempt, about_to_send: Callable[[], Awaitable[None]]) -> JobView:
        """Creates an attempt's job. `about_to_send` is awaited after all waiting for a turn, right before the first
        byte leaves: the intent is made durable there, so that an attempt that waits for its turn is never ambiguous."""

    async def get(self, job_id: str) -> JobView:
        """One job. A job that was just created may be MISSING for a short while."""

    async def list_page(
        self,
        *,
        page_size: int,
        page_token: str | None = None,
        job_ids: Collection[str] = (),
        created_from_s: float | None = None,
    ) -> JobPage:
        """One page of the project's jobs. With `job_ids` only of these, and only how they stand: what they were told
        to do is left out. An API that can't filter may show none of them on a page, and jobs made before
        `created_from_s` (by the server's own clock), too."""

    async def cancel(self, job_id: str) -> JobView:
        """Stops a job that isn't finished, where the version can; gives it as it is then. REFUSED: it has ended, or
        can't be stopped now. May be repeated: a second call changes nothing."""

    async def results(self, job: JobView, asked: Collection[str]) -> Answers:
        """A finished job's answers, all pages of them; no page is read once all files of `asked` have an answer."""


class Lease(Protocol):
    """That a shard is this process's for a while. Beside the lock, which a process keeps while it stands still, and
    which another machine may not see.

    Attributes:
        epoch: which owner of the shard this is, from 1; a higher one ends the lease.
        lost: set once it has ended: by another owner, or since it was not renewed in time.
    """

    epoch: int
    lost: anyio.Event

    @property
    def is_valid(self) -> bool:
        """Whether the shard is this process's now, by a clock that runs through a suspend. Asks no disk, and
        may be asked from any thread."""

    def check_held(self) -> bool:
        """The same in the event loop's thread; once it is not, the lease is lost for good, and `lost` is set."""

    async def keep(self) -> None:
        """Renews it again and again, until it is lost."""

    async def release(self) -> None:
        """Gives it back: the next owner need not wait for its end."""


class Documents(Protocol):
    """The documents that a run's file IDs stand for, where its input is a folder."""

    async def bring(self, file_id: str, paths: Sequence[str]) -> str:
        """The project's file ID of a content, which is uploaded if the project doesn't have it. `paths`: where the
        folder has the content. Raises NotUploadableError for this document; ApiError, FolderGoneError and StoreError
        for all of them."""

    @property
    def uploads(self) -> Uploads:
        """How far they are."""

    async def gone(self, sent_ids: Sequence[str]) -> set[str]:
        """Those of the project's file IDs that it has no more: deleted, or expired. None where nobody knows. Raises
        ApiError."""


class RunStore(Protocol):
    """A run's files on a medium, to read and to write: everything that touches them goes through here.

    Names are opaque: a medium gives none of them a meaning, but that bytes which are appended to other logs are durable
    before those that are appended to the journal later. Offsets are logical: they count a name's bytes from its
    beginning, however the medium keeps them (as one file, or as objects that never change). So no method changes bytes
    in place, and only `open_log` takes any away.

    Reading needs no ceremony, and is safe while a run is on. Who writes opens the store with `async with`, calls
    `prepare`, holds `lock()` meanwhile, and says by `open_log` where each log goes on. Raises StoreError where the
    medium refuses; after a failed append or commit every later one fails too.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Commits what is left, unless a commit failed before."""

    @property
    def where(self) -> str:
        """How a person names this place."""

    # --- Who may write ----------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Makes the place, where it isn't there, and tries to write to it. What is made is taken away again at the end
        of `lock()`, where no file was added meanwhile. Raises RunDirectoryError."""

    def lock(self, *, seize: Lease | None = None) -> AbstractAsyncContextManager[None]:
        """Holds the run for one process at a time; raises LockedError naming host and pid of the holder.

        `seize`: the lease of this process, by which it also takes the run from one that holds it and whose lease has
        ended; see `fence`. Raises LockedError where this lease has ended, too: the run may be a third one's by now.
        """

    async def fence(self, lease: Lease, why: str, *, contested: bool) -> None:
        """Lets this store write only while the lease is valid: each later write asks it as its last step, and raises
        StoreError with the words `why`. After the lease was claimed, and before anything is read for the run.

        `contested`: an owner before may live, and wake in the middle of a write. What it has half-written never gets
        its name, and whatever it appends to its logs reaches no file of the run.
        """

    def abandon(self, why: str) -> None:
        """The run is another process's: every later write raises StoreError with these words."""

    async def holder(self) -> Holder | None:
        """Who holds the run now."""

    # --- Reading ----------------------------------------------------------------------------------------------------

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from `start` to `end` (exclusive). Raises FileNotFoundError."""

    def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The same in blocks, in bounded memory. Raises FileNotFoundError at the first step."""

    async def sha256(self, name: str) -> str:
        """The SHA-256 of a file, in hex; that of nothing where there is no such file. Beside other work: hashing lets
        go of the interpreter's lock."""

    async def size(self, name: str) -> int | None:
        """Bytes, or None where there is no such file."""

    async def names(self) -> frozenset[str]:
        """The files that are there."""

    # --- Files that are written whole -------------------------------------------------------------------------------

    async def replace(self, name: str, blocks: AsyncIterator[bytes]) -> None:
        """Writes a file whole: afterwards, also after a power loss, either the old one or the new one is there."""

    async def create(self, name: str, data: bytes) -> None:
        """Like replace, but raises FileExistsError where the name is taken, also when two race for it."""

    async def remove(self, name: str) -> None:
        """Takes a file away; nothing happens where there is none."""

    # --- Files that nobody needs ------------------------------------------------------------------------------------

    async def append_undurable(self, name: str, data: bytes) -> int:
        """Puts bytes behind a file's end, and gives its size then. Nothing makes them durable, so only for what may be
        lost; a failure here says nothing about the logs."""

    async def rename(self, name: str, new_name: str) -> None:
        """Gives a file another name, in the place of what had that name. Raises FileNotFoundError."""

    # --- Logs -------------------------------------------------------------------------------------------------------

    async def open_log(self, log: Log, end: int) -> None:
        """Lets a log go on behind its first `end` bytes, which are durable afterwards: what stands behind them (a
        killed process left it) is no part of it any more. Before the first append to it.

        Raises:
            DamagedError: the log has fewer bytes.
        """

    def append(self, log: Log, data: bytes) -> int:
        """Puts bytes behind a log's end, in the order of the calls, and returns the offset at which they begin.

        Returns at once; they are durable after the next `commit`. What is appended to the other logs is durable
        before what is appended to the journal later: a journal line never speaks of bytes that can still be lost.
        A log that was not opened begins at 0; the commit fails where there was one.
        """

    async def commit(self) -> None:
        """Returns when everything that was appended before the call is durable. Calls that wait together share one."""


class RunReader(Protocol):
    """A run's files, read at once, and without loading what it takes to run or to write one. Safe while a run
    is on. Raises StoreError where the medium refuses."""

    @property
    def where(self) -> str:
        """How a person names this place."""

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes | None:
        """The bytes from `start` to `end` (exclusive); None where there is no such file."""

    def size(self, name: str) -> int | None:
        """Bytes, or None where there is no such file."""

    def holder(self) -> Holder | None:
        """Who holds the run now."""


class RunPlace(Protocol):
    """Where a run is, or will be: a directory, or what another medium has in its place."""

    @property
    def where(self) -> str:
        """How a person names this place."""

    @property
    def canonical(self) -> str:
        """The same for one place, however it was named; with a slash between levels."""

    @property
    def folder(self) -> Path | None:
        """The folder of this machine that it is, for temporary files and the embedded sandbox; None on a medium that
        has none."""

    @property
    def trusted(self) -> bool:
        """Whether the caller said to use it though other users could misuse it; False on a medium where none can."""

    def open(self) -> RunStore:
        """Its files, to read and to write. Nothing is touched yet."""

    def reader(self) -> RunReader:
        """Its files, to read."""

    def child(self, name: str) -> RunPlace:
        """The place of this name inside it, whether it is there or not."""

    def sibling(self, name: str) -> RunPlace:
        """The place of this name beside it, whether it is there or not."""

    def inside(self) -> Sequence[RunPlace] | None:
        """The places inside it, in the order of their names; None where it isn't there. Raises StoreError."""


NamedFor = frozenset[int] | None
"""What a journal names a job for: None, where one of our own creates was answered with it; otherwise the chunks whose
files were found in its results."""


class OutcomeSink(Protocol):
    """Where outcomes and the facts that end attempts go."""

    def record(self, fact: Fact) -> None:
        """Appends a fact; it is true at once for this process, and durable after the next `durable()`."""

    def append(self, log: Log, lines: bytes) -> Segment | None:
        """Appends lines of outcomes, if there are any. The Ended fact that names the segment must be recorded before
        anything else."""


class Journal(OutcomeSink, Protocol):
    """The run's truth, as the stages see it: they record facts, and wait for durability where it matters."""

    def allot_attempt(self, chunk: int) -> int:
        """The number of the chunk's next attempt."""

    def record_about_run(self, kind: Kind, values: AboutRun) -> None:
        """Appends a fact about the run as a whole."""

    async def wait_durable(self) -> None:
        """Returns when all that was recorded before the call is durable. Raises StoreError."""

    @property
    def server_s(self) -> float | None:
        """The server's own time, as far as it was read: the latest `created_at` of a job of this run, by whatever
        process; until there is one, that of a job on a list page. None: unknown, or of no use any more."""

    @property
    def clocks_disagree(self) -> bool:
        """Whether the server's clocks were seen to disagree by more than is allowed for: no time excludes a job."""

    def learn_listed_s(self, created_at_s: float) -> None:
        """Takes a listed job's time, until a job of this run has one."""

    def record_clocks_disagree(self) -> None:
        """The server's clocks disagree: from now on, and for every later process, no time excludes a job."""

    @property
    def jobs_made(self) -> int:
        """How many jobs the run has made so far, adopted ones among them."""

    @property
    def jobs_in_flight(self) -> int:
        """How many of them have not ended."""

    def other_file_suspected(self, key: AttemptKey) -> bool:
        """Whether a bad job that an open attempt's file shared may have been another file's doing."""

    def was_cancelled(self, key: AttemptKey) -> bool:
        """Whether an open attempt was open when the run was cancelled."""

    def attempt_of_job(self, job_id: str) -> AttemptKey | None:
        """The open attempt that has this job."""

    def is_in_flight(self, job_id: str) -> bool:
        """Whether it is a job of this account that hasn't been seen to have ended."""

    async def begin_search_from(self, server_s: float | None) -> int:
        """A byte of the journal before which it names no job that was made at `server_s` or later, by the server's own
        clock. None: the journal's beginning."""

    async def named_jobs(self, job_ids: Collection[str], start: int) -> tuple[dict[str, NamedFor], int]:
        """The keys (`file_keys`) of those of `job_ids` that the journal names from byte `start` on, and where it ended
        then."""

    async def latest_jobs(self) -> Mapping[str, float | None]:
        """The jobs that creates were answered with last, by whatever process and account, oldest first. With each the
        server's own time as it was known when it was answered: the job is as much older as the answer took."""
