"""Proves that the key speaks for the run's project, before the first create of a process and before anybody believes
that a job isn't there.

Keys belong to a project. Another project's list is empty of our jobs, and another project's server refuses our files:
both look like facts about the run and are none. So a process begins with a read. What it shows is written beside every
intent, and what earlier processes wrote there has to be shown again. Keys may change (they are rotated): nothing of a
key is compared, or written down.

The same read gives the server's own time, where no job of the run has given it yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import anyio

from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.errors import ApiError, ExitStatus, FolderGoneError, NotUploadableError, Verdict
from classify_batch.limits.retry import Backoff, retry_transient
from classify_batch.model import JobPage
from classify_batch.ports import Api, Journal
from classify_batch.protocol.sanitize import printable_line

TENTH = 10
"""The server's time is taken from the tenth-newest of the listed jobs: a few may have been stamped by a wrong clock."""

FILE_CALLS_MAX = 4
AGAIN_S_FIRST = 1.0
AGAIN_S_MAX = 8.0

_HINT = "use the key, api.project_id and api.organization_id that the run was begun with, then give the same command"


@dataclass(frozen=True, slots=True)
class KnownProject:
    """What a run's journal says of its project when a process begins.

    Attributes:
        project_id: of its jobs, or of the intents that are still open; None: nothing is known.
        job_id: a job of the run; None where the API has named none.
        file_id: a file of the run.
        at_risk: whether a create of an earlier process may have been accepted without an answer.
        bring: where the file is a document of a folder, brings it to the project once more, and gives its new ID.
    """

    project_id: str | None
    job_id: str | None
    file_id: str
    at_risk: bool
    bring: Callable[[], Awaitable[str]] | None = None


class ProjectProof:
    """Made once a process.

    Attributes:
        project_id: the project that the key was seen to speak for; None where nothing says it.
    """

    def __init__(
        self,
        api: Api,
        shutdown: Shutdown,
        known: KnownProject,
        *,
        read_first_page: Callable[[], Awaitable[JobPage]],
        on_first_page: Callable[[JobPage], None],
        settle_s: float,
    ) -> None:
        """
        Args:
            read_first_page: reads the page with which the job list begins.
            on_first_page: gets it: its jobs were made before any of this process.
        """
        self._api = api
        self._shutdown = shutdown
        self._known = known
        self._read_first_page = read_first_page
        self._on_first_page = on_first_page
        self._settle_s = settle_s
        self._made = anyio.Event()
        self._proven = False
        self._list_is_refused = False
        self._files_fail = False
        self._file_id = known.file_id
        self._bring = known.bring
        self.project_id: str | None = None

    async def wait_until_proven(self) -> bool:
        """Returns when creates may be sent, and absence may be believed. False: nothing says which project it is, nor
        which it should be."""
        await self._made.wait()
        return self._proven

    async def prove_or_stop(self) -> None:
        """Proves it, or stops the run."""
        try:
            stop = await self._prove_project()
        except (ApiError, FolderGoneError) as error:
            stop = Stop.from_error(error)
        if stop is not None:
            self._shutdown.request_stop(stop)
        else:
            self._made.set()

    async def _prove_project(self) -> Stop | None:
        known = self._known
        page = await self._read_list_front()
        if known.project_id is not None:
            self.project_id = known.project_id
            return await self._prove_known_project(known.project_id, page)
        listed = projects_on_page(page)
        self._proven = not known.at_risk  # where no create of ours is ambiguous, there is nothing to prove
        if len(listed) == 1:
            (self.project_id,) = listed
        if self.project_id is None or known.at_risk:
            holds_file = await self._find_project_of_file()
            self._proven |= holds_file is not None
            self.project_id = holds_file or self.project_id
        return None

    async def _prove_known_project(self, project_id: str, page: JobPage | None) -> Stop | None:
        """What can't be read for now says nothing: it is read again, until the API answers or is down."""
        known = self._known
        self._proven = True
        backoff, reads = Backoff(AGAIN_S_FIRST, AGAIN_S_MAX), 0
        while project_id not in projects_on_page(page):
            if known.job_id is not None:
                return await self._prove_by_known_job(known.job_id, project_id)
            holds_file = await self._find_project_of_file()
            if holds_file == project_id:
                return None
            if not self._files_fail and (page is not None or self._list_is_refused):
                seen_projects = projects_on_page(page) or ({holds_file} if holds_file else set())
                # A day later the upload may be gone. Where no job was made, either, only a new upload shows the
                # project.
                if not seen_projects and await self._bring_document():
                    continue
                seen = ", ".join(map(printable_line, sorted(seen_projects)))
                none = "no read shows that the key speaks for that project"
                words = f"the key speaks for project {seen}" if seen else none
                return self._stop_for_other_project(
                    f"the run's creates went to project {printable_line(project_id)}, and {words}"
                )
            reads += 1
            await anyio.sleep(backoff.wait_s(reads))
            page = await self._read_list_front()
        return None

    async def _prove_by_known_job(self, job_id: str, project_id: str) -> Stop | None:
        """A job that was just made may be 404 for as long as it may be missing in the list."""
        until_s = anyio.current_time() + self._settle_s
        backoff, reads = Backoff(AGAIN_S_FIRST, AGAIN_S_MAX), 0
        while True:
            try:
                view = await retry_transient(lambda: self._api.get(job_id))
            except ApiError as error:
                if error.verdict not in (Verdict.MISSING, Verdict.REFUSED):
                    raise
                remaining_s = until_s - anyio.current_time()
                if remaining_s <= 0:
                    if await self._find_project_of_file() == project_id:
                        return None  # it is the project, and the job was deleted
                    if not self._files_fail:
                        return self._stop_for_other_project(
                            f"the run's job {printable_line(job_id)} isn't there for this key ({error})"
                        )
                reads += 1
                wait_s = backoff.wait_s(reads)
                await anyio.sleep(min(wait_s, remaining_s) if remaining_s > 0 else wait_s)
            else:
                # A server that names no project has shown the job all the same: another project's key would get a 404.
                if view.project_id in (None, project_id):
                    return None
                return self._stop_for_other_project(
                    f"the run's job {printable_line(job_id)} is in project {printable_line(view.project_id or '')}, "
                    f"and was made in {printable_line(project_id)}"
                )

    def _stop_for_other_project(self, words: str) -> Stop:
        return Stop(words, ExitStatus.PERSON, _HINT, of_account=True)

    async def _read_list_front(self) -> JobPage | None:
        """The page with which the list begins; None where it can't be read."""
        try:
            page = await self._read_first_page()
        except ApiError as error:
            if error.verdict in (Verdict.KEY_REFUSED, Verdict.BLOCKED, Verdict.DOWN):
                raise
            self._list_is_refused = error.verdict is not Verdict.LATER  # LATER says nothing yet: it is read again
            return None
        self._on_first_page(page)
        return page

    async def _bring_document(self) -> bool:
        """Uploads the document once more, by whose upload the project is then found out. False: that was done already,
        or can't be done."""
        bring, self._bring = self._bring, None
        if bring is None:
            return False
        try:
            self._file_id = await bring()
        except NotUploadableError:
            return False
        return True

    async def _find_project_of_file(self) -> str | None:
        """None where the file list doesn't tell; a key may be good for jobs only."""
        try:
            found = await retry_transient(lambda: self._api.project_of_file(self._file_id), calls_max=FILE_CALLS_MAX)
        except ApiError as error:
            if error.verdict in (Verdict.BLOCKED, Verdict.DOWN):
                raise
            self._files_fail = error.verdict is Verdict.LATER
            return None
        self._files_fail = False
        return found


def learn_from_first_page(
    journal: Journal, record_listed_before_creates: Callable[[Iterable[str], float], None], page: JobPage
) -> None:
    """Jobs that are listed before this process created any tell the server's time, and are none of its own."""
    record_listed_before_creates((view.job_id for view in page.jobs), anyio.current_time())
    if (server_s := server_s_of(page)) is not None:
        journal.learn_listed_s(server_s)


def server_s_of(page: JobPage) -> float | None:
    """The server's own time, from a page of its list; None where too few jobs tell theirs."""
    times = sorted((view.created_at_s for view in page.jobs if view.created_at_s is not None), reverse=True)
    return times[TENTH - 1] if len(times) >= TENTH else None


def projects_on_page(page: JobPage | None) -> frozenset[str]:
    jobs = () if page is None else page.jobs
    return frozenset(view.project_id for view in jobs if view.project_id is not None)
