"""What stands between a run and the sandbox: it changes answers, and loses one."""

from __future__ import annotations

import json
from collections.abc import Collection

import httpx

from classify_batch.protocol import v1, v2
from classify_batch.protocol.file_bodies import FILES_PATH
from tests.changed_answers.changer import Changer
from tests.changed_answers.changes import EMPTY_PAGE, Given, Unreadable
from tests.support.simulated_run import Lab, is_create

REQUESTS_MAX = 4_000


class TooManyRequestsError(AssertionError):
    """The run asks without end."""


class ChangingServer:
    """Changes what a laboratory's sandbox answers, and loses the answers to some creates.

    Attributes:
        given: what the sandbox answered.
        is_changing: whether answers are changed now.
    """

    def __init__(self, lab: Lab, lost_creates: Collection[int], changer: Changer | None = None) -> None:
        self._lab, self._lost_creates, self._changer = lab, lost_creates, changer
        self._creates = self._requests = 0
        self.given: list[Given] = []
        self.is_changing = True
        lab.wire.before, lab.wire.after = self._before, self._after

    async def _before(self, request: httpx.Request) -> httpx.Response | None:
        self._requests += 1
        if self._requests > REQUESTS_MAX:
            raise TooManyRequestsError(f"more than {REQUESTS_MAX} requests")
        token = request.url.params.get("page_token")
        if token is None or self._changer is None:
            return None
        if token == EMPTY_PAGE:
            return await self._get(request, request.url.copy_remove_param("page_token"))
        given_token = self._changer.given_token(token)
        if given_token == token:
            return None
        return await self._get(request, request.url.copy_set_param("page_token", given_token))

    async def _get(self, request: httpx.Request, url: httpx.URL) -> httpx.Response:
        """The sandbox's answer for another URL."""
        return await httpx.ASGITransport(self._lab.app).handle_async_request(
            httpx.Request("GET", url, headers=request.headers)
        )

    async def _after(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if not response.is_success:
            return response
        given = read_answer(request, json.loads(await response.aread()))
        self.given.append(given)
        body = self._change(given)
        if given.call == "create":
            self._creates += 1
            if self._creates in self._lost_creates:
                raise httpx.ReadError("lost")
        if body is given.body:
            return response
        text = body.text if isinstance(body, Unreadable) else json.dumps(body)
        return httpx.Response(response.status_code, headers={"Content-Type": "application/json"}, text=text)

    def uploaded(self) -> dict[str, str]:
        """The external IDs of what was uploaded, by file ID."""
        return {each.body["id"]: each.body["external_file_id"] for each in self.given if each.call == "upload"}

    def _change(self, given: Given) -> object:
        if self._changer is None:
            return given.body
        if self.is_changing:
            return self._changer.change(given)
        self._changer.note(given)
        return given.body


def read_answer(request: httpx.Request, body: dict[str, object]) -> Given:
    call = call_of(request)
    owner: object = None
    if call in {"create", "get"}:
        owner = body["id"]
    elif call == "results":
        owner = request.url.path.split("/")[-2]
    return Given(call, request.url, None if owner is None else str(owner), body)


def call_of(request: httpx.Request) -> str:
    """Which call a request is."""
    path = request.url.path
    if path.startswith(FILES_PATH):
        if request.method == "POST":
            return "upload"
        return "content" if "external_file_id" in request.url.params else "files"
    if is_create(request):
        return "create"
    if path in {v1.JOBS_PATH, v2.JOBS_PATH}:
        return "list"
    return "results" if path.endswith("/results") else "get"
