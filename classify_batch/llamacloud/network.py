"""Bytes to and from a socket: httpcore's network backend on asyncio's own transports.

Its usual backend, through anyio's streams, takes as long as all the rest of a request: three turns of the event loop
for each read, and system calls to ask and to tell what asyncio knows. What is written here waits for the read that
follows, so that the head and the body of a request leave together.

What breaks once a connection was made is a ReadError or a ReadTimeout, and never an error of connecting: what was
written may have arrived.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import anyio
import httpcore

_BUFFER_BYTES = 1 << 18
"""With so much unread the server has to wait."""


class Backend(httpcore.AsyncNetworkBackend):
    """Makes connections; for asyncio only."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - asyncio sets TCP_NODELAY, and nothing else is wanted
    ) -> httpcore.AsyncNetworkStream:
        local = None if local_address is None else (local_address, 0)
        loop = asyncio.get_running_loop()
        try:
            with anyio.fail_after(timeout):
                _, wire = await loop.create_connection(_Wire, host, port, local_addr=local)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no connection within {timeout} s") from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        return Stream(wire)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class _Wire(asyncio.Protocol):
    """asyncio's side: what came, and whether more may come."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.error: Exception | None = None
        self._reader: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        if len(self.data) > _BUFFER_BYTES:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.ended = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended, self.error = True, error
        self._wake()

    async def news(self, timeout_s: float | None) -> bool:
        """Waits for bytes or the end; False if neither came in time."""
        loop = asyncio.get_running_loop()
        self._reader = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, self._wake, False)
        try:
            return await self._reader
        finally:
            self._reader = None
            if timer is not None:
                timer.cancel()

    def take(self, most: int) -> bytes:
        data = bytes(self.data[:most])
        del self.data[:most]
        if len(self.data) <= _BUFFER_BYTES and not self.ended:
            self.transport.resume_reading()
        return data

    def _wake(self, came: bool = True) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(came)


class Stream(httpcore.AsyncNetworkStream):
    """One connection."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._unsent = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        wire = self._wire
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            wire.transport.write(unsent)
        if not wire.data and not wire.ended and not await wire.news(timeout):
            raise httpcore.ReadTimeout(f"nothing came within {timeout} s")
        if not wire.data and wire.error is not None:
            raise httpcore.ReadError(str(wire.error)) from wire.error
        return wire.take(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._unsent += buffer

    async def aclose(self) -> None:
        self._wire.transport.abort()  # nothing is under way, and nobody waits for a farewell

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        wire = self._wire
        try:
            with anyio.fail_after(timeout):
                transport = await asyncio.get_running_loop().start_tls(
                    wire.transport, wire, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as error:
            wire.transport.abort()
            raise httpcore.ConnectTimeout(f"no TLS within {timeout} s") from error
        except OSError as error:  # ssl.SSLError among them
            wire.transport.abort()
            raise httpcore.ConnectError(str(error)) from error
        if transport is None:
            raise httpcore.ConnectError("the connection was closed before TLS began")
        wire.transport = transport
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # an idle connection that has anything to say is at its end
            return bool(self._wire.data) or self._wire.ended
        return self._wire.transport.get_extra_info({"ssl_object": "ssl_object", "socket": "socket"}.get(info, ""))
