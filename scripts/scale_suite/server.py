"""A sandbox that allows so many requests in any second, and writes down when each came: `python -m scale_suite.server`.

Prints its URL, and serves until it is ended.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import deque
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from classify_batch.sandbox import Options, open_sandbox, serve_in_loop

REFUSED = b'{"detail": "Rate limit exceeded"}'


class Counted:
    """An app behind a window of a second. A request beyond what it allows is answered 429, and counts for nothing.

    Args:
        per_s: so many in any second; None: all.
        log: one line a request: the moment, the status if it was refused, method and path.
    """

    def __init__(self, app: ASGIApp, per_s: int | None, log: Path) -> None:
        self._app, self._per_s, self._log = app, per_s, log.open("a", buffering=1)
        self._passed_s: deque[float] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        now_s = time.monotonic()
        while self._passed_s and self._passed_s[0] <= now_s - 1.0:
            self._passed_s.popleft()
        refused = self._per_s is not None and len(self._passed_s) >= self._per_s
        self._log.write(f"{now_s:.4f} {429 if refused else 0} {scope['method']} {scope['path']}\n")
        if refused:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 429, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSED})
            return
        self._passed_s.append(now_s)
        await self._app(scope, receive, send)


async def serve(folder: Path, per_s: int | None, job_s: float) -> None:
    """Serves until it is cancelled; the ledger and the log are in the folder."""
    with open_sandbox(Options.from_values(ledger=folder / "ledger.jsonl", job_duration_s=job_s)) as app:
        async with serve_in_loop(Counted(app, per_s, folder / "requests.log")) as base_url:
            print(base_url, flush=True)
            await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-s", type=int)
    parser.add_argument("--job-s", type=float, default=0.5)
    given = parser.parse_args()
    asyncio.run(serve(given.folder, given.per_s, given.job_s))


if __name__ == "__main__":
    main()
