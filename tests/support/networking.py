"""Real things between a command and its server, on 127.0.0.1: a proxy that makes tunnels, and a server that speaks TLS
before one that doesn't."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpcore
import pytest
import trustme

from classify_batch.llamacloud.connection import Connection
from tests.support.command_line import PATIENCE_S

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

AUTHORITY = trustme.CA()


def connect_patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """For short waits for an answer: a busy machine may take longer to make a connection, and TLS on it."""
    connect = Connection._connect

    async def connect_in_time(connection: Connection, _timeout_s: float | None) -> httpcore.AsyncNetworkStream:
        return await connect(connection, PATIENCE_S)

    monkeypatch.setattr(Connection, "_connect", connect_in_time)


def write_authority(path: Path, authority: trustme.CA = AUTHORITY) -> str:
    """Writes the certificate of an authority; returns the path."""
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_context(host: str = "127.0.0.1") -> ssl.SSLContext:
    """The context of a server whose certificate `AUTHORITY` has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(host).configure_cert(context)
    return context


@contextmanager
def listening(talk: Talk, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[int]:
    """Serves in a thread of its own; gives the port."""
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    ready = threading.Event()
    stop = asyncio.Event()

    async def talk_quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def serve() -> None:
        server = await asyncio.start_server(talk_quietly, host, 0, ssl=context, limit=1 << 20)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await stop.wait()
        server.close()
        talks = asyncio.all_tasks() - {asyncio.current_task()}
        for each in talks:
            each.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets in the loop's next round

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(PATIENCE_S)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(65536):
        writer.write(block)
        await writer.drain()


async def connect_both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    """Carries bytes both ways until either side ends."""
    their_reader, their_writer = await asyncio.open_connection(host, port)
    ways = [asyncio.ensure_future(pump(reader, their_writer)), asyncio.ensure_future(pump(their_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        their_writer.transport.abort()  # first: a second cancellation ends the waiting below
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


@contextmanager
def tls_front(base_url: str, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """HTTPS before a server that speaks HTTP; gives the base URL."""
    port_behind = urlsplit(base_url).port
    assert port_behind is not None

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await connect_both(reader, writer, "127.0.0.1", port_behind)

    with listening(talk, context or server_context()) as port:
        yield f"https://127.0.0.1:{port}"


@contextmanager
def tls_refusing(context: ssl.SSLContext) -> Iterator[str]:
    """A server on which every handshake fails; gives the base URL. asyncio's servers close such a connection without
    the alert that says why."""
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        with suppress(OSError):  # the end: the listener is closed
            while True:
                connection, _ = listener.accept()
                connection.settimeout(PATIENCE_S)
                secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                with secured, suppress(OSError):
                    try:
                        secured.do_handshake()
                    finally:
                        socket.socket.shutdown(secured, socket.SHUT_WR)
                        while socket.socket.recv(secured, 65536):  # unread bytes would tear the alert away
                            pass

    thread = threading.Thread(target=refuse)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # ends an accept that waits; closing alone doesn't
        listener.close()
        thread.join()


class ConnectProxy:
    """A proxy that makes tunnels to this machine, whatever host is asked for.

    Args:
        user: "user:password" that a client has to give, else it is answered 407.
        status: what it answers to everything, if not 200. Its reason repeats the user and password that it was given.

        behind: what it sends in the tunnel before it closes it; None: a tunnel that leads somewhere.
        established: how it says that the tunnel stands.

    Attributes:
        asked: the addresses for which tunnels were asked.
    """

    def __init__(
        self,
        user: str | None = None,
        status: int = 200,
        behind: bytes | None = None,
        established: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n",
    ) -> None:
        self._established = established
        self._behind = behind
        self._login = None if user is None else b"Basic " + b64encode(user.encode())
        self._status = status
        self.asked: list[str] = []
        self.heads: list[bytes] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, address, _ = head.split(b" ", 2)
        self.asked.append(address.decode())
        if method != b"CONNECT":
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
        elif self._login is not None and b"Proxy-Authorization: " + self._login not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        elif self._status != 200:
            login = b64decode(head.partition(b"Basic ")[2].partition(b"\r\n")[0])
            writer.write(b"HTTP/1.1 %d not %s\r\nContent-Length: 0\r\n\r\n" % (self._status, login))
        else:
            writer.write(self._established)
            await writer.drain()
            if self._behind is not None:
                await reader.read(65536)  # the beginning of TLS
                writer.write(self._behind)
                await writer.drain()
                return
            await connect_both(reader, writer, "127.0.0.1", int(address.rpartition(b":")[2]))
        await writer.drain()

    @contextmanager
    def serving(self, context: ssl.SSLContext | None = None) -> Iterator[str]:
        """Gives host and port."""
        with listening(self.talk, context) as port:
            yield f"127.0.0.1:{port}"
