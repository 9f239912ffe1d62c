"""A laboratory for whole runs in virtual time: orchestrator, a store in memory, and a sandbox called in process.

    with laboratory(count=100, faults={"error": 0.1}) as lab:
        ending = await lab.run()
        assert lab.outcomes().keys() == set(lab.file_ids)

Nothing here waits for the real clock: run it under trio's autojump clock. The wire between the two sides is a `Wire`:
it takes its time, and a test can put faults of its own into it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import anyio
import httpx
import trio
from pydantic import SecretStr

from classify_batch.engine.context import PlannedRun
from classify_batch.engine.deadline import Deadline
from classify_batch.engine.orchestrator import Orchestrator
from classify_batch.engine.planner import cut_into_chunks
from classify_batch.engine.progress import Ending, Progress
from classify_batch.engine.shutdown import Shutdown
from classify_batch.errors import ExitStatus
from classify_batch.llamacloud.access import ApiAccess
from classify_batch.llamacloud.client import ApiClient
from classify_batch.operations.api_version import make_api_of_run
from classify_batch.operations.reporting_progress import PROGRESS_EVERY_S
from classify_batch.operations.run_resources import make_request_gate
from classify_batch.operations.verify import Verification, verify_store
from classify_batch.ports import Observer
from classify_batch.protocol.v1 import webhook_secrets
from classify_batch.rundir.opened_run import read_run
from classify_batch.rundir.plan import PlanReader, write_plan
from classify_batch.rundir.run_json import write_run_file
from classify_batch.sandbox import AnswerLost, App, Faults, JobTable, Options, open_sandbox
from classify_batch.sandbox.jobs.job_table import count_billed
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.settings import Settings
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Log
from tests.support.documents_in_memory import FOLDER, DocumentsInMemory, rows_of_folder
from tests.support.loop_clock import LoopClock

BASE_URL = "https://sandbox.test"
RULES = (
    {"type": "invoice", "description": "has line items and a total"},
    {"type": "letter", "description": "has a salutation and a signature"},
)

RUN_S_MAX = 200_000.0
"""In virtual time: a run that goes on for ever fails its test instead of holding it up."""

Before = Callable[[httpx.Request], Awaitable[httpx.Response | None]]
After = Callable[[httpx.Request, httpx.Response], Awaitable[httpx.Response]]


def answer(status: int, body: object = None, **headers: str) -> httpx.Response:
    """An answer that the sandbox didn't give."""
    return httpx.Response(status, json=body, headers=headers)


def is_create(request: httpx.Request) -> bool:
    return request.method == "POST"


Choose = Callable[[int, int], int]
KEPT: dict[str, Choose] = {"nothing": min, "half": lambda least, most: (least + most) // 2, "everything": max}
"""How much of what was pending a power cut leaves."""


async def nothing(request: httpx.Request) -> httpx.Response | None:
    return None


async def as_it_is(request: httpx.Request, response: httpx.Response) -> httpx.Response:
    return response


@dataclass
class Wire:
    """What lies between client and server.

    Attributes:
        latency_s: how long a request takes to arrive, and an answer to come back.
        before: answers in the server's place where it doesn't return None; raises what the client shall meet.
        after: hands the server's answer on, another one, or raises.
        requests: everything that left, as (virtual time, method, path).
    """

    app: App
    latency_s: Callable[[], float] = lambda: 0.0
    before: Before = nothing
    after: After = as_it_is
    requests: list[tuple[float, str, str]] = field(default_factory=list)

    def end(self) -> httpx.AsyncBaseTransport:
        """The client's end."""
        return _End(self)

    def lose_create_answers(self, random: Random, share: float) -> None:
        """From now on so many answers to creates get lost on the way."""

        async def lose_some(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_create(request) and random.random() < share:
                raise httpx.ReadError("lost")
            return response

        self.after = lose_some

    def count(self, method: str) -> int:
        return sum(each == method for _, each, _ in self.requests)


@dataclass
class _Journey:
    """A request on its way to the server, and what it brings back."""

    request: httpx.Request
    answer: httpx.Response | Exception | None = None
    ended: anyio.Event = field(default_factory=anyio.Event)

    async def response(self) -> httpx.Response:
        await self.ended.wait()
        if not isinstance(self.answer, httpx.Response):
            raise self.answer or AssertionError("a journey that ended brought nothing back")
        return self.answer


class _End(httpx.AsyncBaseTransport):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._server = httpx.ASGITransport(wire.app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        wire = self._wire
        await request.aread()  # so that a test can look into it
        wire.requests.append((anyio.current_time(), request.method, request.url.path))
        journey = _Journey(request)
        # A task of nobody's: what has left arrives, whatever becomes of the client, which waits for it no longer.
        trio.lowlevel.spawn_system_task(self._travel, journey)
        with anyio.move_on_after(request.extensions["timeout"]["read"]):
            response = await wire.after(request, await journey.response())
            await anyio.sleep(wire.latency_s())
            return httpx.Response(
                response.status_code, headers=response.headers, stream=httpx.ByteStream(await response.aread())
            )
        raise httpx.ReadTimeout("no answer in time", request=request)

    async def _travel(self, journey: _Journey) -> None:
        try:
            await anyio.sleep(self._wire.latency_s())
            journey.answer = await self._wire.before(journey.request) or await self._ask(journey.request)
        except Exception as error:  # noqa: BLE001 - the client gets it, as over a wire
            journey.answer = error
        journey.ended.set()

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self._server.handle_async_request(request)
        except AnswerLost:
            raise httpx.ReadError("the connection was closed", request=request) from None
        await response.aread()
        return response


@dataclass
class Lab:
    """One run directory, one sandbox, and what lies between them. `stopping` is that of the run that is on, or next;
    `api_key` that of the next run, the sandbox's own unless a test sets another. `on_progress` is
    called as often as a user's. `account`, `account_credits`: whose key the next run has, and its budget.
    `folder`: the documents that are the input, by path; none: `file_ids` are."""

    app: App
    wire: Wire
    settings: Settings
    store: MemoryStore
    file_ids: Sequence[str]
    clock: LoopClock
    stopping: Shutdown = field(default_factory=Shutdown)
    api_key: str | None = None
    on_progress: Callable[[Progress], None] | None = None
    observers: Sequence[Observer] = ()
    account: str | None = None
    account_credits: float | None = None
    folder: Mapping[str, bytes] = field(default_factory=dict)

    async def plan(self) -> None:
        """Plans the run, if that has not been done."""
        if await read_run(self.store) is None:
            rows = rows_of_folder(self.folder) if self.folder else self.file_ids
            plan = await write_plan(self.store, cut_into_chunks(_batches(rows), self.settings.files_per_job))
            folder = FOLDER if self.folder else None
            await write_run_file(self.store, self.settings, plan, 0, self.clock, folder=folder)

    async def run(
        self,
        *,
        retry_failed: bool = False,
        until_s: float | None = None,
        max_runtime_s: float | None = None,
        submit_only: bool = False,
        cancel: bool = False,
    ) -> Ending:
        """Takes the run from where the store says that it stands to its end, or to a stop."""
        await self.plan()
        found = await read_run(self.store)
        assert found is not None
        found = replace(found, account=self.account, account_credits=self.account_credits)
        plan = PlanReader(self.store)
        await plan.scan_whole_file(found.run.plan_sha256)
        async with make_request_gate(self.settings) as gate:
            http = ApiClient(
                ApiAccess(
                    BASE_URL,
                    SecretStr(self.api_key or self.app.options.api_key),
                    more_secrets=webhook_secrets(self.settings.job.webhook_configurations),
                ),
                gate,
                self.clock,
                timeout_s=self.settings.api.timeout_s,
                patience_s=self.settings.limits.patience_s,
                transport=self.wire.end,
            )
            api = make_api_of_run(self.settings, http, found.run)
            documents = None
            if self.folder:
                documents = DocumentsInMemory(self.folder, http, self.store, self.clock)
                await documents.open()
            orchestrator = Orchestrator(
                self.settings, api, gate, self.clock, PlannedRun(found, plan, documents), self.stopping, self.observers
            )
            try:
                with anyio.fail_after(RUN_S_MAX):
                    async with _reporting(orchestrator, self.on_progress):
                        return await orchestrator.run(
                            retry_failed=retry_failed,
                            deadline=Deadline(
                                math.inf if until_s is None else until_s,
                                math.inf if max_runtime_s is None else anyio.current_time() + max_runtime_s,
                            ),
                            submit_only=submit_only,
                            cancel=cancel,
                        )
            finally:
                with anyio.CancelScope(shield=True):
                    await http.aclose()
                self.store, self.stopping = self.store.crash(), Shutdown()  # what the next process finds

    async def run_until_power_cut(
        self, after_s: float, choose: Choose = min, *, retry_failed: bool = False, cancel: bool = False
    ) -> Ending | None:
        """Runs, and pulls the plug after so long: the store is then what a disk would show. None: it was pulled."""
        found: list[MemoryStore] = []
        endings: list[Ending] = []
        async with anyio.create_task_group() as tasks:

            async def cut() -> None:
                await anyio.sleep(after_s)
                found.append(self.store.crash(choose))
                tasks.cancel_scope.cancel()

            tasks.start_soon(cut)
            endings.append(await self.run(retry_failed=retry_failed, cancel=cancel))
            tasks.cancel_scope.cancel()
        if found:
            self.store = found[0]
            return None
        return endings[0]

    async def run_through_power_cuts(self, random: Random, mean_s: float, cuts: int) -> Ending:
        """Runs to an end through so many power cuts at random moments."""
        for _ in range(cuts):
            ending = await self.run_until_power_cut(random.expovariate(1 / mean_s), random.randint)
            if ending is not None:
                return ending
        return await self.run()

    # --- What came of it --------------------------------------------------------------------------------------------

    def lines(self, log: Log) -> list[dict[str, Any]]:
        data = self.store.files.get(log, b"")
        return [json.loads(line) for line in data.splitlines()]

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """The one outcome of each file ID."""
        lines = self.lines(Log.RESULTS) + self.lines(Log.FAILURES)
        by_id = {line["file_id"]: line for line in lines}
        assert len(by_id) == len(lines), "a file has two outcomes"
        return by_id

    def codes(self) -> dict[str, str]:
        """The failure codes by file ID."""
        return {line["file_id"]: line["code"] for line in self.lines(Log.FAILURES)}

    def billed(self) -> Counter[str]:
        """How often each file was paid."""
        return count_billed(self.app.job_table)

    def paid_twice(self) -> list[str]:
        return sorted(file_id for file_id, count in self.billed().items() if count > 1)

    def accepted(self) -> int:
        """How many jobs the server made, whoever asked for them."""
        return sum(1 for _ in self.app.job_table)

    async def verify(self) -> Verification:
        found = await verify_store(self.store)
        assert found is not None
        return found

    async def judge(self) -> dict[str, object]:
        """Everything that is promised of a complete run and doesn't hold; nothing, if all is well."""
        verified = await self.verify()
        outcomes = self.outcomes()
        faults: dict[str, object] = {
            "lost": sorted(set(self.file_ids) - outcomes.keys()),
            "invented": sorted(outcomes.keys() - set(self.file_ids)),
            "paid twice": self.paid_twice(),
            "verify": verified.errors + ([] if verified.complete else ["incomplete"]),
        }
        return {name: found for name, found in faults.items() if found}


@asynccontextmanager
async def _reporting(orchestrator: Orchestrator, on_progress: Callable[[Progress], None] | None) -> AsyncIterator[None]:
    if on_progress is None:
        yield
        return
    async with anyio.create_task_group() as tasks:

        async def report(observe: Callable[[Progress], None]) -> None:
            while True:
                observe(orchestrator.progress())
                await anyio.sleep(PROGRESS_EVERY_S)

        tasks.start_soon(report, on_progress)
        yield
        tasks.cancel_scope.cancel()


async def ends_well(lab: Lab) -> None:
    """The run completes, with one outcome for each ID, no file paid twice, and nothing for verify to say."""
    ending = await lab.run()
    assert (ending.state, ending.reason) == ("complete", None)
    assert await lab.judge() == {}


async def retried_well(lab: Lab) -> None:
    """All failed files have an answer now, nothing was paid twice, and verify has nothing to say."""
    ending = await lab.run(retry_failed=True)
    assert (ending.state, ending.exit_status) == ("complete", ExitStatus.COMPLETE)
    assert await lab.judge() == {}
    assert lab.codes() == {}


def change_options(lab: Lab, jobs: Iterable[SandboxJob] | None = None, **options: object) -> None:
    """The same sandbox under other options; with the jobs that it has, or with these in their place."""
    changed = Options.from_values(**(lab.app.options.model_dump() | {"faults": lab.app.options.faults} | options))
    job_table = JobTable(changed, lab.app.job_table.seed)
    for job in lab.app.job_table if jobs is None else jobs:
        job_table.add_job(job)
    lab.app = lab.wire.app = App(changed, job_table, lab.app.project, wall_s=LoopClock().wall_s)


def change_faults(lab: Lab, **faults: object) -> None:
    """Other faults from now on; none, where none is named."""
    change_options(lab, faults=Faults.from_values(faults, "faults"))


@contextmanager
def laboratory(
    count: int = 100,
    *,
    files_per_job: int = 10,
    limits: Mapping[str, object] | None = None,
    faults: Mapping[str, object] | None = None,
    latency_s: float | Callable[[], float] = 0.0,
    commit_s: float = 0.0,
    seed: int = 1,
    skew_s: float = 0.0,
    version: str = "v1",
    timeout_s: float = 60.0,
    config: Mapping[str, object] | None = None,
    **options: object,
) -> Iterator[Lab]:
    """Sets everything up. `config`: further sections of the settings; `options`: the sandbox's; `skew_s`: how far its
    clock is ahead, which it says; `timeout_s`: how long an answer is waited for, and so the least that a create may
    take to be accepted (`limits.accept_s`)."""
    clock = LoopClock()
    told: dict[str, Any] = dict(config or {})
    settings = Settings(
        api={"base_url": BASE_URL, "version": version, "timeout_s": timeout_s},
        job={"rules": RULES, **told.pop("job", {})},
        plan={"files_per_job": files_per_job, **told.pop("plan", {})},
        limits={"requests_per_s": 1000.0, "settle_s": 5.0, **(limits or {})},
        **told,
    )
    asked = Options.from_values(seed=seed, faults=Faults.from_values(dict(faults or {}), "faults"), **options)
    with open_sandbox(asked, lambda: clock.wall_s() + skew_s) as app:
        wire = Wire(app, latency_s if callable(latency_s) else lambda: latency_s)
        store = MemoryStore(commit_s=commit_s)
        yield Lab(app, wire, settings, store, [f"file-{number}" for number in range(count)], clock)


async def _batches(file_ids: Sequence[str]) -> AsyncIterator[list[str]]:
    yield list(file_ids)
