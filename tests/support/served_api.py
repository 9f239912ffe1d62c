"""Talking either version of the API with a served sandbox, through the port that a run talks through."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import pytest
from pydantic import SecretStr
from starlette.types import Message, Receive, Scope, Send

from classify_batch.clock import SystemClock
from classify_batch.errors import ApiError
from classify_batch.limits import RequestGate
from classify_batch.llamacloud.access import ApiAccess
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.v1.batch_api import ApiV1
from classify_batch.llamacloud.v2.batch_api import ApiV2
from classify_batch.model import Answer, Attempt, AttemptKey, JobView, Part
from classify_batch.ports import Api
from classify_batch.sandbox import App, Faults, Options, open_sandbox, serve_in_loop
from classify_batch.sandbox.jobs.job_table import count_billed
from classify_batch.settings.job_spec import JobSpec

RULES = [
    {"type": "invoice", "description": "has line items and a total"},
    {"type": "letter", "description": "has a salutation and a signature"},
]
SPEC = JobSpec.model_validate({"rules": RULES})
JOB_S = 10.0
NOON_S = 1_800_000_000.0


@dataclass
class Heard:
    """A request as it reached the server."""

    method: str
    query: dict[str, list[str]]
    data: bytes = b""

    @property
    def body(self) -> Any:
        return json.loads(self.data)


class Server:
    """A sandbox on a socket, all that reached it, and its clock, which a test moves. Jobs take `JOB_S`."""

    app: App
    url: str

    def __init__(self) -> None:
        self.now_s = NOON_S
        self.heard: list[Heard] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        heard = Heard(scope["method"], parse_qs(scope["query_string"].decode()))
        self.heard.append(heard)

        async def listen() -> Message:
            message = await receive()
            heard.data += message.get("body", b"")
            return message

        await self.app(scope, listen, send)

    def set_faults(self, **faults: float) -> None:
        """The same jobs from now on with other faults, or with none."""
        options = Options.from_values(seed=1, faults=Faults.from_values(faults, "faults"))
        self.app = App(options, self.app.job_table, self.app.project, wall_s=lambda: self.now_s)

    def billed(self) -> dict[str, int]:
        return dict(count_billed(self.app.job_table))


@asynccontextmanager
async def served(faults: dict[str, Any] | None = None, **told: Any) -> AsyncIterator[Server]:
    server = Server()
    steady = {
        "seed": 1,
        "job_duration_s": JOB_S,
        "job_duration_sigma": 0,
        "faults": Faults.from_values(faults or {}, "faults"),
    }
    with open_sandbox(Options.from_values(**{**steady, **told}), lambda: server.now_s) as server.app:
        async with serve_in_loop(server) as server.url:
            yield server


class Line(NamedTuple):
    api: Api
    gate: RequestGate


@asynccontextmanager
async def calling(
    server: Server,
    version: str,
    *,
    spec: JobSpec = SPEC,
    run_id: str = "run",
    key: str = "sandbox",
    timeout_s: float = 5.0,
    **params: str,
) -> AsyncIterator[Line]:
    async with RequestGate(requests_in_flight=4, requests_per_s=10_000.0) as gate:
        http = ApiClient(ApiAccess(server.url, SecretStr(key), params), gate, SystemClock(), timeout_s=timeout_s)
        try:
            yield Line(ApiV2(http, spec, run_id) if version == "v2" else ApiV1(http, spec), gate)
        finally:
            await http.aclose()


@dataclass
class Intents:
    """What stands in for the journal: how much the server had heard whenever an intent was written down."""

    server: Server
    heard: list[int] = field(default_factory=list)

    async def about_to_send(self) -> None:
        self.heard.append(len(self.server.heard))


async def nothing() -> None: ...


def attempt_at(*file_ids: str, chunk: int = 0, number: int = 1) -> Attempt:
    return Attempt(AttemptKey(chunk, number), Part(chunk), file_ids, tuple(range(len(file_ids))))


async def create(api: Api, version: str, file_ids: Sequence[str]) -> list[JobView]:
    """The jobs of some files: one on v1, and one for each of them on v2."""
    chunks = [tuple(file_ids)] if version == "v1" else [(file_id,) for file_id in file_ids]
    return [await api.create(attempt_at(*each, chunk=chunk), nothing) for chunk, each in enumerate(chunks)]


async def pages(
    api: Api, page_size: int, job_ids: Collection[str] = (), *, created_from_s: float | None = None
) -> list[tuple[JobView, ...]]:
    token: str | None = None
    shown: list[tuple[JobView, ...]] = []
    while not shown or token is not None:
        page = await api.list_page(
            page_size=page_size, page_token=token, job_ids=job_ids, created_from_s=created_from_s
        )
        token = page.next_page_token
        shown.append(page.jobs)
        assert len(shown) < 100
    return shown


async def answers(api: Api, jobs: Sequence[JobView], asked: Collection[str] = ()) -> dict[str | None, Answer]:
    """By file ID. Each job is looked at once more: results are asked of what the API showed last."""
    found = [await api.results(await api.get(job.job_id), asked) for job in jobs]
    items = [answer for each in found for answer in each.items]
    assert not any(each.withheld for each in found)
    return {answer.file_id: answer for answer in items}


async def refused(call: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await call
    return caught.value
