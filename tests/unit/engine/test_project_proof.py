"""How a process proves that its key speaks for the run's project: by one read where that is enough, and never by
none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.engine.project_proof import FILE_CALLS_MAX, KnownProject, ProjectProof, server_s_of
from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.errors import ApiError, ExitStatus, Verdict
from classify_batch.model import JobPage, JobView
from tests.support.scripted_ports import ScriptedApi, refusal

pytestmark = pytest.mark.anyio

SETTLE_S = 20.0

Each = TypeVar("Each")

LATER = refusal(Verdict.LATER)
REFUSED = refusal(Verdict.REFUSED, status=422)
MISSING = refusal(Verdict.MISSING, "get", 404)
KEY_REFUSED = refusal(Verdict.KEY_REFUSED, status=403)
DOWN = refusal(Verdict.DOWN)
GOOD_FOR_JOBS_ONLY = refusal(Verdict.KEY_REFUSED, "files", 403)

EMPTY = JobPage((), None)


def page(*projects: str | None) -> JobPage:
    return JobPage(tuple(JobView(f"j{n}", "SUCCESS", project_id) for n, project_id in enumerate(projects)), None)


class Server(ScriptedApi):
    """What each of the three reads brings, one after the other; the last one for ever.

    Attributes:
        read: which reads were made.
    """

    def __init__(
        self,
        listed: Sequence[JobPage | ApiError],
        job: Sequence[JobView | ApiError] = (),
        file: Sequence[str | ApiError | None] = (),
    ) -> None:
        self._listed, self._job, self._file = list(listed), list(job), list(file)
        self.read: list[str] = []

    async def first_page(self) -> JobPage:
        self.read.append("list")
        return next_of(self._listed)

    async def get(self, job_id: str) -> JobView:
        assert job_id == "job"
        self.read.append("job")
        return next_of(self._job)

    async def project_of_file(self, file_id: str) -> str | None:
        assert file_id == "file"
        self.read.append("file")
        return next_of(self._file)


def next_of(answers: list[Each | ApiError]) -> Each:
    answer = answers.pop(0) if len(answers) > 1 else answers[0]
    if isinstance(answer, ApiError):
        raise answer
    return answer


@dataclass
class Proof:
    """What came of a proof: `ready`: what whoever waits for it gets; None: the run was stopped."""

    ready: bool | None
    project_id: str | None
    stop: Stop | None
    first_pages: int
    took_s: float


async def prove(server: Server, known: KnownProject) -> Proof:
    stopping, shown, began_s = Shutdown(), list[JobPage](), anyio.current_time()
    proof = ProjectProof(
        server,
        stopping,
        known,
        read_first_page=server.first_page,
        on_first_page=shown.append,
        settle_s=SETTLE_S,
    )
    told: list[bool] = []

    async def wait() -> None:
        told.append(await proof.wait_until_proven())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.lowlevel.checkpoint()
        await proof.prove_or_stop()
        took_s = anyio.current_time() - began_s
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    return Proof(told[0] if told else None, proof.project_id, stopping.stop, len(shown), took_s)


def known(project_id: str | None = None, job_id: str | None = None, *, at_risk: bool = False) -> KnownProject:
    return KnownProject(project_id, job_id, "file", at_risk)


# --- A run that knows its project ------------------------------------------------------------------------------------

OURS = known("p", "job")
INTENDED = known("p", at_risk=True)
JOB = JobView("job", "PENDING", "p")


@pytest.mark.parametrize(
    ("run", "server", "read"),
    [
        (OURS, Server([page("p")]), "list"),
        (OURS, Server([page(None, "q", "p")]), "list"),
        (OURS, Server([EMPTY], [JOB]), "list job"),
        (OURS, Server([page("q")], [JOB]), "list job"),
        (OURS, Server([page(None)], [JobView("job", "PENDING")]), "list job"),
        (OURS, Server([LATER], [JOB]), "list job"),
        (OURS, Server([REFUSED], [JOB]), "list job"),
        (OURS, Server([EMPTY], [LATER, MISSING, MISSING, JOB]), "list job job job job"),
        (INTENDED, Server([page("p")]), "list"),
        (INTENDED, Server([EMPTY], file=["p"]), "list file"),
        (INTENDED, Server([REFUSED], file=["p"]), "list file"),
        (INTENDED, Server([LATER], file=[LATER, "p"]), "list file file"),
        (INTENDED, Server([LATER, LATER, page("p")], file=[None]), "list file list file list"),
        (INTENDED, Server([LATER, EMPTY], file=[None, "p"]), "list file list file"),
    ],
)
async def test_any_read_that_shows_the_runs_project_proves_it(run: KnownProject, server: Server, read: str) -> None:
    """The list's first page, a job of the run, or one of its files: the first that does is enough."""
    proof = await prove(server, run)
    assert (proof.ready, proof.project_id, proof.stop) == (True, "p", None)
    assert server.read == read.split()


@pytest.mark.parametrize(
    ("run", "server", "words"),
    [
        (OURS, Server([EMPTY], [MISSING], [None]), "the run's job job isn't there for this key (get: missing)"),
        (OURS, Server([page("q")], [refusal(Verdict.REFUSED, "get", 422)], ["q"]), "the run's job job isn't there"),
        (
            OURS,
            Server([EMPTY], [JobView("job", "PENDING", "q")]),
            "the run's job job is in project q, and was made in p",
        ),
        (
            INTENDED,
            Server([page("q", "r", "q")], file=[None]),
            "went to project p, and the key speaks for project q, r",
        ),
        (INTENDED, Server([EMPTY], file=["q"]), "p, and the key speaks for project q"),
        (INTENDED, Server([EMPTY], file=[None]), "no read shows that the key speaks for that project"),
        (INTENDED, Server([EMPTY], file=[GOOD_FOR_JOBS_ONLY]), "no read shows that the key speaks for that project"),
        (INTENDED, Server([REFUSED], file=[None]), "no read shows that the key speaks for that project"),
    ],
)
async def test_another_projects_key_stops_the_run(run: KnownProject, server: Server, words: str) -> None:
    """Before anything is sent, and before anybody believes that a job isn't there: for a person to mend, and whoever
    waits does not go on."""
    proof = await prove(server, run)
    assert proof.ready is None
    assert proof.stop is not None
    assert words in proof.stop.reason
    assert (proof.stop.status, proof.stop.collects) == (ExitStatus.PERSON, False)
    assert "use the key, api.project_id and api.organization_id that the run was begun with" in proof.stop.hint


async def test_a_job_that_is_missing_is_asked_for_as_long_as_it_may_be() -> None:
    """One that was made a moment ago may be 404. One that was deleted is not: then a file proves the project."""
    for file, stops in ((None, True), ("q", True), ("p", False)):
        server = Server([EMPTY], [MISSING], [file])
        proof = await prove(server, OURS)
        assert (proof.stop is not None) is stops
        assert SETTLE_S <= proof.took_s < SETTLE_S + 2.0
        assert server.read[-1] == "file"


async def test_names_are_fit_for_a_terminal() -> None:
    """A server may call a project anything."""
    proof = await prove(Server([page("q\x1b[31m")], file=[None]), INTENDED)
    assert proof.stop is not None
    assert proof.stop.reason.isprintable()


@pytest.mark.parametrize(
    ("run", "server"),
    [
        (INTENDED, Server([EMPTY], file=[*[LATER] * FILE_CALLS_MAX, "p"])),
        (OURS, Server([EMPTY], [MISSING], [*[LATER] * FILE_CALLS_MAX, "p"])),
    ],
)
async def test_a_file_list_that_can_not_be_read_for_now_is_no_other_project(run: KnownProject, server: Server) -> None:
    """As a job list that can't: it is read again, and no person is called."""
    assert (await prove(server, run)).stop is None


async def test_a_list_that_comes_back_late_is_waited_for() -> None:
    """However long that takes: how long an API may be down is for `limits.patience_s` to say."""
    assert (await prove(Server([*[LATER] * 1500, page("p")], file=[None]), INTENDED)).ready is True


# --- A run that doesn't ----------------------------------------------------------------------------------------------

NEW, AT_RISK = known(), known(at_risk=True)


@pytest.mark.parametrize(
    ("run", "server", "ready", "project_id", "read"),
    [
        # Nothing can have been accepted: there is nothing to prove, and only the project to be written down.
        (NEW, Server([page("p", None, "p")]), True, "p", "list"),
        (NEW, Server([EMPTY], file=["p"]), True, "p", "list file"),
        (NEW, Server([EMPTY], file=[None]), True, None, "list file"),
        (NEW, Server([EMPTY], file=[GOOD_FOR_JOBS_ONLY]), True, None, "list file"),
        (NEW, Server([page("p", "q")], file=["q"]), True, "q", "list file"),
        (NEW, Server([page("p", "q")], file=[None]), True, None, "list file"),
        (NEW, Server([REFUSED], file=["p"]), True, "p", "list file"),
        (NEW, Server([LATER], file=[LATER]), True, None, "list file file file file"),
        # A create of an earlier process may have been accepted: only the project of its file is that of the run.
        (AT_RISK, Server([page("p")], file=["p"]), True, "p", "list file"),
        (AT_RISK, Server([page("p")], file=["q"]), True, "q", "list file"),
        (AT_RISK, Server([EMPTY], file=["p"]), True, "p", "list file"),
        (AT_RISK, Server([REFUSED], file=["p"]), True, "p", "list file"),
        (AT_RISK, Server([page("p")], file=[None]), False, "p", "list file"),
        (AT_RISK, Server([page("p")], file=[GOOD_FOR_JOBS_ONLY]), False, "p", "list file"),
        (AT_RISK, Server([EMPTY], file=[None]), False, None, "list file"),
    ],
)
async def test_a_run_that_knows_no_project_learns_it(
    run: KnownProject, server: Server, ready: bool, project_id: str | None, read: str
) -> None:
    """From the list, if it tells one, or from a file. Where a create may have been accepted and no read shows that the
    key sees its file, that is said, and nothing is stopped: perhaps nothing can tell."""
    proof = await prove(server, run)
    assert (proof.ready, proof.project_id, proof.stop) == (ready, project_id, None)
    assert server.read == read.split()


# --- In either case --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [OURS, INTENDED, NEW, AT_RISK])
@pytest.mark.parametrize("error", [KEY_REFUSED, DOWN])
async def test_a_key_that_is_refused_and_an_api_that_is_down_stop_the_run(run: KnownProject, error: ApiError) -> None:
    """In their own words: nothing is said of projects."""
    proof = await prove(Server([error]), run)
    assert proof.ready is None
    assert proof.stop == Stop.from_error(error)


async def test_an_api_that_goes_down_meanwhile_stops_the_run() -> None:
    """At the file, or at the job, as at the list."""
    for run, server in ((INTENDED, Server([EMPTY], file=[DOWN])), (OURS, Server([EMPTY], [DOWN]))):
        proof = await prove(server, run)
        assert (proof.ready, proof.stop) == (None, Stop.from_error(DOWN))


@pytest.mark.parametrize(
    ("server", "pages"),
    [
        (Server([page("p")], file=["p"]), 1),
        (Server([EMPTY], file=["p"]), 1),
        (Server([REFUSED], file=["p"]), 0),
        (Server([LATER, page("p")], file=[None]), 1),
    ],
)
async def test_the_first_page_carries_the_time_it_was_read(server: Server, pages: int) -> None:
    """Once: its jobs were made before any of this process."""
    assert (await prove(server, INTENDED)).first_pages == pages


# --- The server's own time -------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.none() | st.floats(0, 1e9), max_size=30))
def test_the_servers_time_is_that_of_the_tenth_newest_job(times: list[float | None]) -> None:
    """In whatever order they are listed; fewer jobs that tell their time tell nothing."""
    jobs = tuple(JobView(f"j{number}", "SUCCESS", created_at_s=time_s) for number, time_s in enumerate(times))
    told = sorted(time_s for time_s in times if time_s is not None)
    assert server_s_of(JobPage(jobs, None)) == (told[-10] if len(told) >= 10 else None)
