"""What a handler may answer with: JSON, a refusal in the documented shape, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from classify_batch.sandbox import bodies

HANG_UP = "hang_up"
"""The key in `scope["state"]` under which a server puts the function that closes the connection."""

Faulty = tuple[Sequence[str | int], str, str]
"""A fault in a request as a 422 tells it: where it is, what it is, and its type."""


class AnswerLost(Exception):  # noqa: N818 - what happened to the client, no fault of the server
    """Stands for a closed connection where the application is called in process, without a server."""


class Answer(Response):
    """JSON that is text already."""

    media_type = "application/json"


class NoAnswer(Response):
    """Closes the connection instead of answering."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        hang_up = scope.get("state", {}).get(HANG_UP)
        if hang_up is None:
            raise AnswerLost
        hang_up()
        while (await receive())["type"] != "http.disconnect":
            pass


class Refusal(Exception):  # noqa: N818 - a way out of a handler, caught in one place
    """The answer to a call that is refused."""

    def __init__(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        self.response = Answer(body, status, headers)


def refuse(status: int, detail: str) -> Refusal:
    return Refusal(status, bodies.refusal_json(detail))


def invalid(*faults: Faulty) -> Refusal:
    return Refusal(422, bodies.faults_json(faults))
