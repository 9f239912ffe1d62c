"""The ASGI application: v1 of the API, strictly.

A request's path is `App._answer`: counted, let in (outage, key, rate), struck by a misfortune or not, answered,
struck or not. Whatever is sent is a starlette response, a refusal and a lost answer included.

Where the vendor documents nothing, it does this: results of a job that isn't finished are 400; those of an
ERROR or CANCELLED job are an empty page; jobs show only under the project they were created in; a bad page
token is 422.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from classify_batch.sandbox import bodies
from classify_batch.sandbox.admission import admit
from classify_batch.sandbox.answers import Answer, Broken, Refusal, pause, refuse, too_many
from classify_batch.sandbox.asking import checked, page_size, position, read_body
from classify_batch.sandbox.ledger import Ledger
from classify_batch.sandbox.meter import Meter, RateLimit
from classify_batch.sandbox.misfortunes import Call, Dice, Lot, Moment, sure
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.project import Judge, Project
from classify_batch.sandbox.results import page_of
from classify_batch.sandbox.struck import KEY_WORDS, NO_JOB_WORDS, RATE_WORDS, suffer
from classify_batch.sandbox.world import Job, World, count_billed
from classify_batch.wire.files import FILES_PATH
from classify_batch.wire.files import PAGE_SIZE_MAX as FILES_PAGE_SIZE_MAX
from classify_batch.wire.v1 import JOBS_PATH

PAGE_SIZE_DEFAULT = 50
Handler = Callable[[Request, float], Awaitable[str]]


class App:
    """A sandbox as an ASGI application.

    Args:
        wall_s: seconds since the epoch; virtual in tests.
    """

    def __init__(
        self,
        options: Options,
        world: World,
        project: Project,
        ledger: Ledger | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.options, self.world, self.project, self.ledger = options, world, project, ledger
        self.meter = Meter()
        self._wall_s = wall_s
        self._authorization = f"Bearer {options.api_key}"
        self._rate = RateLimit(options.requests_per_s) if options.requests_per_s is not None else None
        size = options.results_page_size
        self._results_page_size = options.faults.results_page_size if size is None else size
        self._started_s = wall_s()
        self._faults = options.faults
        self._dice = Dice(self._faults.by_request(), world.seed if self._faults.seed is None else self._faults.seed)
        job_path = f"{JOBS_PATH}/{{job_id}}"
        self._router = Router(
            [
                self._route("POST", JOBS_PATH, "create", self._create),
                self._route("GET", JOBS_PATH, "list", self._list),
                self._route("GET", job_path, "get", self._get),
                self._route("GET", f"{job_path}/results", "results", self._results),
                self._route("GET", FILES_PATH, "files", self._files),
                Route("/sandbox/stats", self._stats, methods=["GET"]),
            ],
            redirect_slashes=False,
            default=Answer(bodies.refusal_json("Not Found"), 404),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._router(scope, receive, send)

    # --- A request's path ----------------------------------------------------------------------------------

    def _route(self, method: str, path: str, call: Call, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            response = await self._answer(call, handler, request)
            self.meter.count(call, response.words if isinstance(response, Broken) else str(response.status_code))
            return response

        return Route(path, endpoint, methods=[method])

    async def _answer(self, call: Call, handler: Handler, request: Request) -> Response:
        now_s = self._wall_s()
        self.meter.arrive(now_s)
        try:
            if self._faults.is_down(now_s - self._started_s):
                struck = await self._suffer(sure(self._faults.outage_what), call, request)
                if struck is not None:
                    return struck
            self._let_in(request, now_s)
            if (struck := await self._strike(call, "before", request)) is not None:
                return struck
            answer = Answer(await handler(request, self._wall_s()))
            return await self._strike(call, "after", request, answer) or answer
        except Refusal as refusal:
            return refusal.response
        except ClientDisconnect:
            return Broken("close")

    def _let_in(self, request: Request, now_s: float) -> None:
        if request.headers.get("authorization") != self._authorization:
            raise refuse(401, KEY_WORDS)
        if self._rate is not None and not self._rate.admit(now_s):
            raise too_many(RATE_WORDS, self._faults.retry_after_s)

    async def _strike(
        self, call: Call, moment: Moment, request: Request, answer: Response | None = None
    ) -> Response | None:
        return await self._suffer(self._dice.throw(call, moment), call, request, answer)

    async def _suffer(self, lot: Lot, call: Call, request: Request, answer: Response | None = None) -> Response | None:
        """What is answered instead; None: nothing happens, or only late."""
        if lot.slow:
            await read_body(request)  # a client that gives up while it waits has asked all the same
            await pause(request, self._faults.slow_s)
        return None if lot.what is None else suffer(lot.what, call, answer, self._faults.retry_after_s)

    # --- The calls -----------------------------------------------------------------------------------------

    async def _create(self, request: Request, now_s: float) -> str:
        body = checked(await read_body(request))
        project_id = self._project_id(request)
        admit(body, project_id, self.options, self.project, self.world, now_s)
        job = self.world.draft(body, project_id, now_s)
        if self.ledger is not None:
            self.ledger.append(job)
        return bodies.job_json(self.world.add(job), now_s)

    async def _get(self, request: Request, now_s: float) -> str:
        return bodies.job_json(self._job(request, now_s), now_s)

    async def _list(self, request: Request, now_s: float) -> str:
        project_id = self._project_id(request)
        most = self.options.list_page_size_max
        size = page_size(request, min(PAGE_SIZE_DEFAULT, most), most, clamp=self.options.list_page_size_clamp)
        place = f"jobs of {project_id}"
        page = self.world.page(project_id, size, position(request, place), now_s)
        token = None if page.last_rank is None else bodies.to_token(place, page.last_rank)
        return bodies.page_json((bodies.job_json(job, now_s) for job in page.jobs), token, page.total)

    async def _results(self, request: Request, now_s: float) -> str:
        job = self._job(request, now_s)
        if not job.is_finished(now_s):
            raise refuse(400, "Classify job is not finished")
        place = f"results of {job.job_id}"
        page = page_of(job, position(request, place) or 0, self._results_page_size)
        token = None if page.next_start is None else bodies.to_token(place, page.next_start)
        judge = await self._judge(job)
        items = (bodies.to_json(bodies.item_body(job, entry, judge)) for entry in page.entries)
        return bodies.page_json(items, token, page.total)

    async def _files(self, request: Request, now_s: float) -> str:  # noqa: ARG002
        query = request.query_params
        files = self.project.files
        wanted_ids = frozenset(query.getlist("file_ids"))
        names = {query[key] for key in ("file_name", "external_file_id") if key in query}
        if wanted_ids or names:
            files = [each for each in files if _is_wanted(each.file_id, each.name, wanted_ids, names)]
        size = page_size(request, PAGE_SIZE_DEFAULT, FILES_PAGE_SIZE_MAX)
        start = position(request, "files") or 0
        token = bodies.to_token("files", start + size) if start + size < len(files) else None
        project_id = self._project_id(request)
        items = (bodies.to_json(bodies.file_body(each, project_id)) for each in files[start : start + size])
        return bodies.page_json(items, token, len(files))

    async def _stats(self, request: Request) -> Response:  # noqa: ARG002
        return Answer(bodies.to_json(self.stats()))

    def stats(self) -> dict[str, Any]:
        """What has been asked so far; jobs and files since the ledger began, requests since the start."""
        billed = count_billed(self.world)
        requests = self.meter.by_call()
        return {
            "creates_accepted": sum(1 for _ in self.world),
            "files_accepted": sum(len(job.file_ids) for job in self.world),
            "files_billed": len(billed),
            "files_billed_more_than_once": sorted(file_id for file_id, count in billed.items() if count > 1),
            "requests": requests,
            "requests_429": sum(by_status.get("429", 0) for by_status in requests.values()),
            "requests_per_s_max": self.meter.per_s_max,
        }

    # --- What calls have in common -------------------------------------------------------------------------

    def _project_id(self, request: Request) -> str:
        return request.query_params.get("project_id") or self.options.project_id

    def _job(self, request: Request, now_s: float) -> Job:
        job = self.world.get(request.path_params["job_id"], self._project_id(request), now_s)
        if job is None:
            raise refuse(404, NO_JOB_WORDS)
        return job

    async def _judge(self, job: Job) -> Judge:
        judge = self.project.judge_at_hand(job.brief)
        if judge is None:
            judge = await anyio.to_thread.run_sync(self.project.make_judge, job.brief)
        return judge


def _is_wanted(file_id: str, name: str, file_ids: frozenset[str], names: set[str]) -> bool:
    return (not file_ids or file_id in file_ids) and all(name == wanted for wanted in names)
