"""The ASGI application: v1 and v2 of the API, strictly, over the same jobs and files.

`App.handle_request` takes each request through the same steps: it is counted, checked (outage, key, rate), perhaps
met by a fault, handled (`handlers_v1`, `handlers_v2`, and the files in `uploads`), and perhaps met by a fault again.
Whatever is sent is a starlette response, a refusal and a lost answer included.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from email.utils import formatdate
from typing import TypedDict

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from classify_batch.clock import machine_wall_s
from classify_batch.protocol import v1, v2
from classify_batch.protocol.file_bodies import FILES_PATH
from classify_batch.protocol.parse_jobs import PARSE_JOBS_PATH
from classify_batch.sandbox.documents.project import Project
from classify_batch.sandbox.faults.request_faults import (
    Call,
    CreateFaultSampler,
    Draw,
    FaultSampler,
    Phase,
    certain_draw,
)
from classify_batch.sandbox.jobs.job_table import JobTable, count_billed
from classify_batch.sandbox.jobs.ledger import Ledger
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server import bodies_v1 as bodies
from classify_batch.sandbox.server.fault_responses import KEY_WORDS, RATE_WORDS, make_fault_response
from classify_batch.sandbox.server.handlers_v1 import JobHandlersV1
from classify_batch.sandbox.server.handlers_v2 import JobHandlersV2
from classify_batch.sandbox.server.meter import Meter, RateLimit
from classify_batch.sandbox.server.request_checks import read_body
from classify_batch.sandbox.server.responses import (
    BrokenResponse,
    JsonResponse,
    Refusal,
    make_429_refusal,
    make_refusal,
    pause_unless_stopping,
)
from classify_batch.sandbox.server.uploads import UploadStore

Handler = Callable[[Request, float], Awaitable[str]]


class Stats(TypedDict):
    """What was asked of a sandbox: the body of `/sandbox/stats`."""

    creates_accepted: int
    creates_waiting: int
    files_accepted: int
    files_billed: int
    files_billed_more_than_once: list[str]
    requests: dict[str, dict[str, int]]
    """By call, and then by what was answered."""
    requests_429: int
    requests_per_s_max: int


class App:
    """A sandbox as an ASGI application.

    Args:
        wall_s: seconds since the epoch; virtual in tests.

    Attributes:
        creates_waiting: how many creates have arrived and are accepted later.
    """

    def __init__(
        self,
        options: Options,
        job_table: JobTable,
        project: Project,
        ledger: Ledger | None = None,
        wall_s: Callable[[], float] = machine_wall_s,
    ) -> None:
        self.options, self.job_table, self.project, self.ledger = options, job_table, project, ledger
        self.meter = Meter()
        self._wall_s = wall_s
        self._projects: dict[str, str | None] = {f"Bearer {options.api_key}": None}
        self._projects |= {f"Bearer {key}": project_id for key, project_id in options.further_keys.items()}
        self._rate = RateLimit(options.requests_per_s) if options.requests_per_s is not None else None
        self._started_s = wall_s()
        self._faults = options.faults
        seed = job_table.seed if self._faults.seed is None else self._faults.seed
        self._fault_sampler = FaultSampler(self._faults.request_probabilities(), seed)
        self._create_faults = CreateFaultSampler(self._faults.create_probabilities(), seed)
        self.creates_waiting = 0
        upload_store = UploadStore(project, options, wall_s, job_table.seed)
        self._router = Router(
            [
                *self._make_routes_v1(JobHandlersV1(options, job_table, upload_store, ledger, self._create_faults)),
                *self._make_routes_v2(JobHandlersV2(options, job_table, upload_store, ledger, self._create_faults)),
                self._make_route("GET", FILES_PATH, "files", upload_store.list_files),
                self._make_route("POST", FILES_PATH, "upload", upload_store.upload_file),
                self._make_route("DELETE", f"{FILES_PATH}/{{file_id}}", "delete", upload_store.delete_file),
                self._make_route("GET", f"{PARSE_JOBS_PATH}/{{job_id}}", "files", upload_store.get_parse_job),
                Route("/sandbox/stats", self._respond_with_stats, methods=["GET"]),
            ],
            redirect_slashes=False,
            default=JsonResponse(bodies.detail_json("Not Found"), 404),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.options.date_ahead_s is not None:
            send = self._with_date_header(send, self.options.date_ahead_s)
        scope["app"] = self  # starlette's routes then raise for a wrong method, instead of answering in plain text
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            refusal = JsonResponse(bodies.detail_json(error.detail), error.status_code, dict(error.headers or {}))
            await refusal(scope, receive, send)

    def _with_date_header(self, send: Send, ahead_s: float) -> Send:
        """Sends a `Date` with each answer."""

        async def send_with_date(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._wall_s() + ahead_s, usegmt=True)
                message["headers"] = [*message["headers"], (b"date", date.encode())]
            await send(message)

        return send_with_date

    def _make_routes_v1(self, handlers: JobHandlersV1) -> Iterator[Route]:
        yield self._make_route("POST", v1.JOBS_PATH, "create", handlers.create_job)
        yield self._make_route("GET", v1.JOBS_PATH, "list", handlers.list_jobs)
        yield self._make_route("GET", f"{v1.JOBS_PATH}/{{job_id}}", "get", handlers.get_job)
        yield self._make_route("GET", f"{v1.JOBS_PATH}/{{job_id}}/results", "results", handlers.get_results)

    def _make_routes_v2(self, handlers: JobHandlersV2) -> Iterator[Route]:
        yield self._make_route("POST", v2.JOBS_PATH, "create", handlers.create_job)
        yield self._make_route("GET", v2.JOBS_PATH, "list", handlers.list_jobs)
        yield self._make_route("GET", f"{v2.JOBS_PATH}/{{job_id}}", "get", handlers.get_job)
        yield self._make_route("POST", f"{v2.JOBS_PATH}/{{job_id}}/cancel", "cancel", handlers.cancel_job)
        yield self._make_route("DELETE", f"{v2.JOBS_PATH}/{{job_id}}", "delete", handlers.delete_job)

    # --- A request's path ----------------------------------------------------------------------------------

    def _make_route(self, method: str, path: str, call: Call, handler: Handler) -> Route:
        async def respond_and_count(request: Request) -> Response:
            response = await self.handle_request(call, handler, request)
            self.meter.count_response(
                call, response.outcome if isinstance(response, BrokenResponse) else str(response.status_code)
            )
            return response

        return Route(path, respond_and_count, methods=[method])

    async def handle_request(self, call: Call, handler: Handler, request: Request) -> Response:
        now_s = self._wall_s()
        self.meter.count_arrival(now_s)
        try:
            # An outage comes before the key is checked: a server that is down knows no keys.
            if self._faults.is_in_outage(now_s - self._started_s):
                fault_response = await self._apply_fault(certain_draw(self._faults.outage_what), call, request)
                if fault_response is not None:
                    return fault_response
            self._check_access(request, now_s)
            if (fault_response := await self._draw_and_apply_fault(call, "before", request)) is not None:
                return fault_response
            if call == "create" and self._create_faults.happens_to_next("create_slow"):
                response = JsonResponse(await self._accept_after_delay(handler, request))
            else:
                body = await handler(request, self._wall_s())
                response = JsonResponse(body, 200 if body else 204)
            return await self._draw_and_apply_fault(call, "after", request, response) or response
        except Refusal as refusal:
            return refusal.response
        # The client hung up while its body was read: nothing can be sent, and the request still counts.
        except ClientDisconnect:
            return BrokenResponse("close")

    def _check_access(self, request: Request, now_s: float) -> None:
        authorization = request.headers.get("authorization", "")
        if authorization not in self._projects:
            raise make_refusal(401, KEY_WORDS)
        request.state.own_project = self._projects[authorization]
        if self._rate is not None and not self._rate.try_to_pass(now_s):
            raise make_429_refusal(RATE_WORDS, self._faults.retry_after_s)

    async def _draw_and_apply_fault(
        self, call: Call, phase: Phase, request: Request, response: Response | None = None
    ) -> Response | None:
        return await self._apply_fault(self._fault_sampler.draw_fault(call, phase), call, request, response)

    async def _apply_fault(
        self, draw: Draw, call: Call, request: Request, response: Response | None = None
    ) -> Response | None:
        """Waits if the draw says so. Gives the response that replaces the real one; None: there is none."""
        if draw.slow:
            await read_body(request)  # a client that gives up while it waits has asked all the same
            await pause_unless_stopping(request, self._faults.slow_s)
        if draw.what is None:
            return None
        files_field = "file_input" if request.url.path.startswith(v2.JOBS_PATH) else "file_ids"
        return make_fault_response(draw.what, call, response, self._faults.retry_after_s, files_field)

    async def _accept_after_delay(self, handler: Handler, request: Request) -> str:
        """Handles a create after a wait, which goes on even if the client hangs up or the task is cancelled."""
        await read_body(request)  # from here on it has arrived
        self.creates_waiting += 1
        try:
            with anyio.CancelScope(shield=True):
                await pause_unless_stopping(request, self._faults.accept_after_s)
                body = await handler(request, self._wall_s())
        finally:
            self.creates_waiting -= 1
        return body

    # --- Stats of the sandbox itself -------------------------------------------------------------------------

    async def _respond_with_stats(self, request: Request) -> Response:  # noqa: ARG002
        return JsonResponse(bodies.encode_json(self.request_stats()))

    def request_stats(self) -> Stats:
        """What was asked so far: jobs and files since the ledger began, requests since the start. Foreign jobs are not
        counted."""
        jobs = [job for job in self.job_table if not job.by_other]
        billed = count_billed(jobs)
        requests = self.meter.responses_by_call()
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
