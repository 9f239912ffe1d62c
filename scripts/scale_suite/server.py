"""A sandbox that allows so many requests in any second, and writes down when each came: `python -m scale_suite.server`.

Prints its URL, and serves until it is ended.

On a busy machine this process waits for a CPU now and then, and finds together what came one after the other. So a
request has two times: when it was handled, and when nothing had come yet. It is refused if so many must have come
within a second, and not if they may have.
"""

from __future__ import annotations

import argparse
import asyncio
import selectors
import time
from collections import deque
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from classify_batch.sandbox import Options, open_sandbox, serve_in_loop

REFUSED = b'{"detail": "Rate limit exceeded"}'
IDLE_EVERY_S = 0.005
PRESSURE = Path("/proc/pressure/cpu")


class WatchedSelector(selectors.DefaultSelector):
    """Tells when the loop was idle the last time.

    Attributes:
        idle_s: whatever is handled later came later.
    """

    idle_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        asked_s = time.monotonic()
        found = super().select(timeout)
        if not found and timeout:  # nothing has come, and nothing that came before is left to do
            self.idle_s = asked_s
        return found


def be_idle_often(loop: asyncio.AbstractEventLoop) -> None:
    """Ends the loop's waits every few milliseconds."""
    loop.call_later(IDLE_EVERY_S, be_idle_often, loop)


def waits_for_cpu_s() -> float:
    """For how long, since the machine began, some process was ready to run and had no CPU; 0 where no system says."""
    try:
        return int(PRESSURE.read_text().splitlines()[0].rpartition("=")[2]) / 1e6
    except OSError:
        return 0.0


class Counted:
    """An app behind a window of a second. A request beyond what it allows is answered 429, and counts for nothing.

    Args:
        per_s: so many in any second; None: all.
        log: one line a request: its two times, the machine's waits for a CPU, the status if it was refused, method and
            path.
    """

    def __init__(self, app: ASGIApp, per_s: int | None, log: Path, selector: WatchedSelector) -> None:
        self._app, self._per_s, self._log = app, per_s, log.open("a", buffering=1)
        self._selector = selector
        self._passed_s: deque[float] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        now_s, idle_s = time.monotonic(), self._selector.idle_s
        while self._passed_s and self._passed_s[0] <= now_s - 1.0:
            self._passed_s.popleft()
        refused = self._per_s is not None and len(self._passed_s) >= self._per_s
        status = 429 if refused else 0
        self._log.write(
            f"{now_s:.4f} {idle_s:.4f} {waits_for_cpu_s():.4f} {status} {scope['method']} {scope['path']}\n"
        )
        if refused:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 429, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSED})
            return
        self._passed_s.append(idle_s)
        await self._app(scope, receive, send)


async def serve(folder: Path, per_s: int | None, job_s: float, selector: WatchedSelector) -> None:
    """Serves until it is cancelled; the ledger and the log are in the folder."""
    with open_sandbox(Options.from_values(ledger=folder / "ledger.jsonl", job_duration_s=job_s)) as app:
        async with serve_in_loop(Counted(app, per_s, folder / "requests.log", selector)) as base_url:
            print(base_url, flush=True)
            be_idle_often(asyncio.get_running_loop())
            await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-s", type=int)
    parser.add_argument("--job-s", type=float, default=0.5)
    given = parser.parse_args()
    selector = WatchedSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(serve(given.folder, given.per_s, given.job_s, selector))


if __name__ == "__main__":
    main()
