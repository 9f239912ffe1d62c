"""What a handler may answer with: JSON, a refusal in the documented shape, or a connection that breaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from classify_batch.sandbox.server import bodies_v1 as bodies

LINE = "line"
"""The key in `scope["state"]` under which a server puts the connection's `Line`."""

Faulty = tuple[Sequence[str | int], str, str]
"""A fault in a request as a 422 tells it: where it is, what it is, and its type."""


class Line(Protocol):
    """A connection, as misfortunes need it: ASGI has no way to break one."""

    @property
    def stopping(self) -> anyio.Event:
        """Set when the server stops: nobody should be made to wait any longer."""

    def close(self) -> None:
        """FIN, after what was sent."""

    def reset(self) -> None:
        """RST."""


class AnswerLost(Exception):  # noqa: N818 - what happened to the client, no fault of the server
    """Stands for an answer that doesn't come, or not whole, where the application is called in process."""


class Answer(Response):
    """JSON that is text already."""

    media_type = "application/json"


class Broken(Response):
    """Breaks the connection instead of answering, or in the middle of an answer.

    Args:
        how: what ends it; `hang`: only the client, or the server's own end.
        whole: the answer of which half is sent first.
    """

    def __init__(self, how: Literal["close", "reset", "hang"], whole: Response | None = None) -> None:
        super().__init__()
        self._how, self._whole = how, whole
        self.words = "no answer" if whole is None else "half an answer"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        line = _line_of(scope)
        if line is None:
            raise AnswerLost
        if self._whole is not None:
            await _send_half(self._whole, send)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end, line)
            while (await receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

    async def _end(self, line: Line) -> None:
        if self._how == "hang":
            await line.stopping.wait()
        if self._how == "reset":
            line.reset()
        else:
            line.close()


class Refusal(Exception):  # noqa: N818 - a way out of a handler, caught in one place
    """The answer to a call that is refused."""

    def __init__(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        self.response = Answer(body, status, headers)


def refuse(status: int, detail: str) -> Refusal:
    return Refusal(status, bodies.refusal_json(detail))


def invalid(*faults: Faulty) -> Refusal:
    return Refusal(422, bodies.faults_json(faults))


def too_many(detail: str, retry_after_s: float | None) -> Refusal:
    headers = None if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}
    return Refusal(429, bodies.refusal_json(detail), headers)


async def pause(request: Request, for_s: float) -> None:
    """Makes a request take longer, unless the server stops meanwhile."""
    line = _line_of(request.scope)
    if line is None:
        await anyio.sleep(for_s)
        return
    with anyio.move_on_after(for_s):
        await line.stopping.wait()


def _line_of(scope: Scope) -> Line | None:
    line: Line | None = scope.get("state", {}).get(LINE)
    return line


async def _send_half(whole: Response, send: Send) -> None:
    body = bytes(whole.body)
    await send({"type": "http.response.start", "status": whole.status_code, "headers": whole.raw_headers})
    await send({"type": "http.response.body", "body": body[: (len(body) + 1) // 2], "more_body": True})
