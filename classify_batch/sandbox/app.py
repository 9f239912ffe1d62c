"""The ASGI application: v1 of the API, strictly.

A request's path is `App._answer`: counted, let in (key, rate), struck by a misfortune or not, answered,
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
from classify_batch.sandbox.answers import Answer, NoAnswer, Refusal, refuse
from classify_batch.sandbox.asking import checked, page_size, position, read_body
from classify_batch.sandbox.faults import Call, Dice, Misfortune, Moment
from classify_batch.sandbox.ledger import Ledger
from classify_batch.sandbox.meter import Meter, RateLimit
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.project import Judge, Project
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
        self._dice = Dice(options.faults, world.seed)
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
            self.meter.count(call, "no answer" if isinstance(response, NoAnswer) else str(response.status_code))
            return response

        return Route(path, endpoint, methods=[method])

    async def _answer(self, call: Call, handler: Handler, request: Request) -> Response:
        now_s = self._wall_s()
        self.meter.arrive(now_s)
        try:
            self._let_in(request, now_s)
            if (struck := self._strike(call, "before")) is not None:
                return struck
            body = await handler(request, now_s)
        except Refusal as refusal:
            return refusal.response
        except ClientDisconnect:
            return NoAnswer()
        return self._strike(call, "after") or Answer(body)

    def _let_in(self, request: Request, now_s: float) -> None:
        if request.headers.get("authorization") != self._authorization:
            raise refuse(401, "Invalid API key. Please check your API key and try again.")
        if self._rate is not None and not self._rate.admit(now_s):
            raise self._too_many("Rate limit exceeded. Try again later.")

    def _strike(self, call: Call, moment: Moment) -> Response | None:
        misfortune = self._dice.throw(call, moment)
        return None if misfortune is None else self._suffer(misfortune)

    def _suffer(self, misfortune: Misfortune) -> Response:
        if misfortune.status is None:
            return NoAnswer()
        if misfortune.status == 429:
            return self._too_many(misfortune.detail).response
        return Answer(bodies.refusal_json(misfortune.detail), misfortune.status)

    def _too_many(self, detail: str) -> Refusal:
        after_s = self.options.faults.retry_after_s
        headers = None if after_s is None else {"Retry-After": f"{after_s:g}"}
        return Refusal(429, bodies.refusal_json(detail), headers)

    # --- The calls -----------------------------------------------------------------------------------------

    async def _create(self, request: Request, now_s: float) -> str:
        body = checked(await read_body(request))
        project_id = self._project_id(request)
        if (stranger := self.project.stranger(body.file_ids)) is not None:
            raise refuse(400, f"File ID {stranger} is not in Project ID {project_id}")
        most = self.options.jobs_at_once
        if most is not None and self.world.count_unfinished(now_s) >= most:
            raise self._too_many(f"You have already reached the maximum number of classify jobs at once ({most}).")
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
        answered = list(job.answered())
        pages = f"results of {job.job_id}"
        start = position(request, pages) or 0
        end = start + (self.options.results_page_size or len(answered))
        token = bodies.to_token(pages, end) if end < len(answered) else None
        judge = await self._judge(job)
        items = (
            bodies.to_json(bodies.item_body(job, place, file_id, judge if has_result else None))
            for place, file_id, has_result in answered[start:end]
        )
        return bodies.page_json(items, token, len(answered))

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
            raise refuse(404, "Classify job not found")
        return job

    async def _judge(self, job: Job) -> Judge:
        judge = self.project.judge_at_hand(job.brief)
        if judge is None:
            judge = await anyio.to_thread.run_sync(self.project.make_judge, job.brief)
        return judge


def _is_wanted(file_id: str, name: str, file_ids: frozenset[str], names: set[str]) -> bool:
    return (not file_ids or file_id in file_ids) and all(name == wanted for wanted in names)
