"""The ASGI application: v1 and v2 of the API, strictly, in one world.

A request's path is `App._answer`: counted, let in (outage, key, rate), struck by a misfortune or not, answered
(`handlers_v1`, `handlers_v2`, and the files of `uploads`), struck or not. Whatever is sent is a starlette response, a refusal
and a lost answer included.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from email.utils import formatdate
from typing import Any

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from classify_batch.protocol import v1, v2
from classify_batch.protocol.file_bodies import FILES_PATH
from classify_batch.sandbox.documents.project import Project
from classify_batch.sandbox.faults.request_faults import Call, CreateFaultSampler, Draw, FaultSampler, Moment, sure
from classify_batch.sandbox.jobs.job_table import JobTable, count_billed
from classify_batch.sandbox.jobs.ledger import Ledger
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server import bodies_v1 as bodies
from classify_batch.sandbox.server.fault_responses import KEY_WORDS, RATE_WORDS, suffer
from classify_batch.sandbox.server.handlers_v1 import JobHandlersV1
from classify_batch.sandbox.server.handlers_v2 import JobHandlersV2
from classify_batch.sandbox.server.meter import Meter, RateLimit
from classify_batch.sandbox.server.request_checks import read_body
from classify_batch.sandbox.server.responses import Answer, Broken, Refusal, pause, refuse, too_many
from classify_batch.sandbox.server.uploads import UploadStore

Handler = Callable[[Request, float], Awaitable[str]]


class App:
    """A sandbox as an ASGI application.

    Args:
        wall_s: seconds since the epoch; virtual in tests.

    Attributes:
        creates_waiting: creates that have arrived and are accepted later.
    """

    def __init__(
        self,
        options: Options,
        world: JobTable,
        project: Project,
        ledger: Ledger | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.options, self.world, self.project, self.ledger = options, world, project, ledger
        self.meter = Meter()
        self._wall_s = wall_s
        self._projects: dict[str, str | None] = {f"Bearer {options.api_key}": None}
        self._projects |= {f"Bearer {key}": project_id for key, project_id in options.further_keys.items()}
        self._rate = RateLimit(options.requests_per_s) if options.requests_per_s is not None else None
        self._started_s = wall_s()
        self._faults = options.faults
        seed = world.seed if self._faults.seed is None else self._faults.seed
        self._dice = FaultSampler(self._faults.by_request(), seed)
        self._create_faults = CreateFaultSampler(self._faults.by_create(), seed)
        self.creates_waiting = 0
        shelf = UploadStore(project, options, wall_s)
        self._router = Router(
            [
                *self._v1_routes(JobHandlersV1(options, world, shelf, ledger, self._create_faults)),
                *self._v2_routes(JobHandlersV2(options, world, shelf, ledger, self._create_faults)),
                self._route("GET", FILES_PATH, "files", shelf.list),
                self._route("POST", FILES_PATH, "files", shelf.upload),
                Route("/sandbox/stats", self._stats, methods=["GET"]),
            ],
            redirect_slashes=False,
            default=Answer(bodies.refusal_json("Not Found"), 404),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.options.date_ahead_s is not None:
            send = self._dated(send, self.options.date_ahead_s)
        scope["app"] = self  # by which a route raises for a wrong method, instead of answering in plain text
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            refusal = Answer(bodies.refusal_json(error.detail), error.status_code, dict(error.headers or {}))
            await refusal(scope, receive, send)

    def _dated(self, send: Send, ahead_s: float) -> Send:
        """Sends a `Date` with each answer."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._wall_s() + ahead_s, usegmt=True)
                message["headers"] = [*message["headers"], (b"date", date.encode())]
            await send(message)

        return send_dated

    def _v1_routes(self, handlers: JobHandlersV1) -> Iterator[Route]:
        yield self._route("POST", v1.JOBS_PATH, "create", handlers.create)
        yield self._route("GET", v1.JOBS_PATH, "list", handlers.list)
        yield self._route("GET", f"{v1.JOBS_PATH}/{{job_id}}", "get", handlers.get)
        yield self._route("GET", f"{v1.JOBS_PATH}/{{job_id}}/results", "results", handlers.results)

    def _v2_routes(self, handlers: JobHandlersV2) -> Iterator[Route]:
        yield self._route("POST", v2.JOBS_PATH, "create", handlers.create)
        yield self._route("GET", v2.JOBS_PATH, "list", handlers.list)
        yield self._route("GET", f"{v2.JOBS_PATH}/{{job_id}}", "get", handlers.get)
        yield self._route("POST", f"{v2.JOBS_PATH}/{{job_id}}/cancel", "cancel", handlers.cancel)
        yield self._route("DELETE", f"{v2.JOBS_PATH}/{{job_id}}", "delete", handlers.delete)

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
            if call == "create" and self._create_faults.happens("create_slow"):
                answer = Answer(await self._accept_late(handler, request))
            else:
                answer = Answer(await handler(request, self._wall_s()))
            return await self._strike(call, "after", request, answer) or answer
        except Refusal as refusal:
            return refusal.response
        except ClientDisconnect:
            return Broken("close")

    def _let_in(self, request: Request, now_s: float) -> None:
        authorization = request.headers.get("authorization", "")
        if authorization not in self._projects:
            raise refuse(401, KEY_WORDS)
        request.state.own_project = self._projects[authorization]
        if self._rate is not None and not self._rate.admit(now_s):
            raise too_many(RATE_WORDS, self._faults.retry_after_s)

    async def _strike(
        self, call: Call, moment: Moment, request: Request, answer: Response | None = None
    ) -> Response | None:
        return await self._suffer(self._dice.throw(call, moment), call, request, answer)

    async def _suffer(self, lot: Draw, call: Call, request: Request, answer: Response | None = None) -> Response | None:
        """What is answered instead; None: nothing happens, or only late."""
        if lot.slow:
            await read_body(request)  # a client that gives up while it waits has asked all the same
            await pause(request, self._faults.slow_s)
        if lot.what is None:
            return None
        files_field = "file_input" if request.url.path.startswith(v2.JOBS_PATH) else "file_ids"
        return suffer(lot.what, call, answer, self._faults.retry_after_s, files_field)

    async def _accept_late(self, handler: Handler, request: Request) -> str:
        """Handles a create after a wait that neither its client nor a cancellation ends."""
        await read_body(request)  # from here on it has arrived
        self.creates_waiting += 1
        try:
            with anyio.CancelScope(shield=True):
                await pause(request, self._faults.accept_after_s)
                body = await handler(request, self._wall_s())
        finally:
            self.creates_waiting -= 1
        return body

    # --- What is told of the sandbox itself ------------------------------------------------------------------

    async def _stats(self, request: Request) -> Response:  # noqa: ARG002
        return Answer(bodies.to_json(self.stats()))

    def stats(self) -> dict[str, Any]:
        """What has been asked so far; jobs and files since the ledger began, requests since the start. What others made
        is not counted."""
        jobs = [job for job in self.world if not job.by_other]
        billed = count_billed(jobs)
        requests = self.meter.by_call()
        return {
            "creates_accepted": len(jobs),
            "creates_waiting": self.creates_waiting,
            "files_accepted": sum(len(job.file_ids) for job in jobs),
            "files_billed": len(billed),
            "files_billed_more_than_once": sorted(file_id for file_id, count in billed.items() if count > 1),
            "requests": requests,
            "requests_429": sum(by_status.get("429", 0) for by_status in requests.values()),
            "requests_per_s_max": self.meter.per_s_max,
        }
