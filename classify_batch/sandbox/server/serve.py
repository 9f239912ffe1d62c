"""Serves a sandbox on a real socket of this machine, inside a block or until it is stopped."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from classify_batch.clock import machine_wall_s
from classify_batch.errors import UsageError
from classify_batch.sandbox.documents.document_folder import Documents
from classify_batch.sandbox.documents.project import OpenProject, Project
from classify_batch.sandbox.jobs.job_table import JobTable
from classify_batch.sandbox.jobs.ledger import Ledger, read_jobs
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server.app import App
from classify_batch.sandbox.server.responses import CONNECTION_KEY

HOST = "127.0.0.1"
"""Never another: a sandbox trusts everybody who has its key, and the default key is in the manual."""

_STOPPING = "stopping"
"""The key in a connection's state for the server's `stopping` event."""

_ROOM_EVERY_S = 0.25
"""How often it looks whether the base URL can be announced."""

_KEEP_ALIVE_S = 60
_IN_FLIGHT_S = 3
"""How long a request under way may go on when the server stops: long enough for ranking the documents."""


@contextmanager
def open_sandbox(options: Options, wall_s: Callable[[], float] = machine_wall_s) -> Iterator[App]:
    """A sandbox, ready to be served, with the jobs of its ledger. Not to be called on an event loop: it opens every
    file.

    Raises:
        UsageError: the documents or the ledger can't be read.
    """
    project: Project = OpenProject(options.files) if options.documents is None else Documents(options.documents)
    ledger = None if options.ledger is None else Ledger(options.ledger)
    try:
        job_table = JobTable(options, secrets.randbits(63) if options.seed is None else options.seed)
        for job in read_jobs(ledger.path) if ledger is not None else ():
            job_table.add_job(job)
        yield App(options, job_table, project, ledger, wall_s)
    finally:
        project.close()
        if ledger is not None:
            ledger.close()


@asynccontextmanager
async def serve_in_loop(app: ASGIApp, port: int = 0) -> AsyncIterator[str]:
    """Serves on 127.0.0.1 inside a running asyncio loop, and gives the base URL. Signal handlers stay as they are.

    Args:
        port: 0 takes any free one.

    Raises:
        UsageError: the port can't be had.
    """
    listener = listen_on(port)
    config = uvicorn.Config(
        app,
        http=_BreakableProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=not sends_own_date(app),
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_IN_FLIGHT_S,
    )
    server = _Server(config)
    base_url = f"http://{HOST}:{listener.getsockname()[1]}"
    # No task group: it would wrap what the caller's block raises, and cancel a uvicorn, which then leaves
    # its sockets open. The task ends by `should_exit` only, and before this does.
    task = asyncio.create_task(server.serve([listener]))
    task.add_done_callback(lambda _: server.listening.set())
    try:
        await server.listening.wait()
        if not task.done():
            yield base_url
    finally:
        server.should_exit = True
        with anyio.CancelScope(shield=True):
            await task


async def serve_until_stopped(
    app: ASGIApp, port: int, announce: Callable[[str], None], can_announce: Callable[[], bool] = lambda: True
) -> None:
    """Serves until SIGINT, SIGTERM or SIGHUP; one that was ignored before (by `nohup`) stays ignored. Calls `announce`
    with the base URL once it listens, and `can_announce` says that this blocks nobody: a blocked loop hears no signal.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    with anyio.open_signal_receiver(*heard) as signals:
        async with serve_in_loop(app, port) as base_url:
            while not can_announce():
                with anyio.move_on_after(_ROOM_EVERY_S):
                    await anext(signals)
                    return
            announce(base_url)
            await anext(signals)


def listen_on(port: int) -> socket.socket:
    """A listening socket. uvicorn doesn't make it, since it exits the process when it can't bind."""
    # The protocol is named because asyncio sets TCP_NODELAY only then; without, every answer waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "no such port"
        hint = "choose another port, or 0 for any free one"
        raise UsageError(f"port {port} of {HOST} can't be had: {reason}", hint=hint) from None
    return listener


def sends_own_date(app: ASGIApp) -> bool:
    return isinstance(app, App) and app.options.date_ahead_s is not None


@dataclass(frozen=True)
class _TransportConnection:
    """A connection that can be broken."""

    transport: asyncio.Transport
    stopping: anyio.Event

    def close(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        if self.transport.is_closing():
            return
        # With SO_LINGER on and 0 seconds, closing a socket sends RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()


class _BreakableProtocol(H11Protocol):
    """Gives the application its connection, to break it: ASGI has no way to, and an exception becomes a 500."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # uvicorn copies `app_state` into the scope of each request of this connection.
        self.app_state = {**self.app_state, CONNECTION_KEY: _TransportConnection(transport, self.app_state[_STOPPING])}


class _Server(uvicorn.Server):
    """A server that leaves signals to the process it runs in, and says when it listens and when it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = anyio.Event()
        self.stopping = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan.state[_STOPPING] = self.stopping
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # First: responses that hang would keep the shutdown waiting.
        self.stopping.set()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
