"""The responses: JSON, a refusal in the documented shape, or a connection that breaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from classify_batch.sandbox.server import bodies_v1 as bodies

CONNECTION_KEY = "line"
"""The key in `scope["state"]` under which a server puts the connection's `BreakableConnection`."""

RequestError = tuple[Sequence[str | int], str, str]
"""An error in a request as a 422 shows it: where it is, what it is, and its type."""


class BreakableConnection(Protocol):
    """A connection that faults can break, for which ASGI has no way."""

    @property
    def stopping(self) -> anyio.Event:
        """Set when the server stops: nobody should be made to wait any longer."""

    def close(self) -> None:
        """FIN, after what was sent."""

    def reset(self) -> None:
        """RST."""


class AnswerLost(Exception):  # noqa: N818 - what happened to the client, no fault of the server
    """Stands for an answer that doesn't come, or not whole, where the application is called in process."""


class JsonResponse(Response):
    """A response of JSON that is encoded already."""

    media_type = "application/json"


class BrokenResponse(Response):
    """Breaks the connection instead of answering, or in the middle of an answer.

    Args:
        how: what ends it; `hang`: only the client, or the server's own end.
        whole: the answer of which half is sent first.
    """

    def __init__(self, how: Literal["close", "reset", "hang"], whole: Response | None = None) -> None:
        super().__init__()
        self._how, self._whole = how, whole
        self.outcome = "no answer" if whole is None else "half an answer"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        line = connection_of(scope)
        if line is None:
            raise AnswerLost
        if self._whole is not None:
            await send_first_half(self._whole, send)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_connection, line)
            # A response that hangs ends when the client gives up, or when the server stops.
            while (await receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

    async def _end_connection(self, line: BreakableConnection) -> None:
        if self._how == "hang":
            await line.stopping.wait()
        if self._how == "reset":
            line.reset()
        else:
            line.close()


class Refusal(Exception):  # noqa: N818 - a way out of a handler, caught in one place
    """The answer to a call that is refused."""

    def __init__(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        self.response = JsonResponse(body, status, headers)


def make_refusal(status: int, detail: str) -> Refusal:
    return Refusal(status, bodies.detail_json(detail))


def make_422_refusal(*faults: RequestError) -> Refusal:
    return Refusal(422, bodies.validation_errors_json(faults))


def make_429_refusal(detail: str, retry_after_s: float | None) -> Refusal:
    headers = None if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}
    return Refusal(429, bodies.detail_json(detail), headers)


async def pause_unless_stopping(request: Request, for_s: float) -> None:
    """Makes a request take longer, unless the server stops meanwhile."""
    line = connection_of(request.scope)
    if line is None:
        await anyio.sleep(for_s)
        return
    with anyio.move_on_after(for_s):
        await line.stopping.wait()


def connection_of(scope: Scope) -> BreakableConnection | None:
    line: BreakableConnection | None = scope.get("state", {}).get(CONNECTION_KEY)
    return line


async def send_first_half(whole: Response, send: Send) -> None:
    body = bytes(whole.body)
    await send({"type": "http.response.start", "status": whole.status_code, "headers": whole.raw_headers})
    await send({"type": "http.response.body", "body": body[: (len(body) + 1) // 2], "more_body": True})
