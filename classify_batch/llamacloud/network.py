"""Bytes to and from a socket: httpcore's network backend on asyncio's own transports.

httpcore's usual backend, on anyio's streams, takes as long as all the rest of a request: three turns of the event loop
for each read, and system calls for what asyncio knows already. What is written here waits for the read that follows, so
that the head and the body of a request are sent together.

After a connection was made, every failure is a ReadError or a ReadTimeout, and never an error of connecting: what was
written may have arrived, and the caller must know that.
"""

from __future__ import annotations

import asyncio
import math
import os
import ssl
from collections.abc import Iterable
from typing import Any, cast

import anyio
import httpcore

from classify_batch.errors import ChildOfRunError, LeaseLostError
from classify_batch.ports import Lease

_BUFFER_BYTES = 1 << 18
"""With this much unread, reading pauses and the server has to wait."""


CLOSED_EARLY = "the connection was closed before TLS began"


class NetworkBackend(httpcore.AsyncNetworkBackend):
    """Makes connections; for asyncio's event loops only, uvloop among them. `lease`: without it nothing is written. A
    child by a fork can neither make nor use one: what it sent would stand between the bytes of its parent, or be a call
    that its parent makes, too."""

    def __init__(self, lease: Lease | None = None) -> None:
        self._lease = lease
        self._process = os.getpid()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - asyncio sets TCP_NODELAY, and nothing else is wanted
    ) -> httpcore.AsyncNetworkStream:
        # httpcore gives an address, asyncio takes an address and a port.
        refuse_child(self._process)
        local = None if local_address is None else (local_address, 0)
        loop = asyncio.get_running_loop()
        try:
            with anyio.fail_after(timeout):
                _, protocol = await loop.create_connection(_SocketProtocol, host, port, local_addr=local)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no connection within {timeout} s") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: for the resolver it is no host name
            raise httpcore.ConnectError(str(error)) from error
        return NetworkStream(protocol, self._lease)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class _SocketProtocol(asyncio.Protocol):
    """What came from the socket and was not read yet, and whether more may come."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.error: Exception | None = None
        self._reader: asyncio.Future[bool] | None = None
        self._due_s = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A TCP transport of any event loop; uvloop's has the methods of asyncio.Transport without being one.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        # Without this a server that sends fast would fill the memory.
        if len(self.data) > _BUFFER_BYTES:
            self.transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> None:
        self.ended = True
        self._wake_reader()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended, self.error = True, error  # None: an orderly end; what came before is still read
        if self._timer is not None:
            self._timer.cancel()
        self._wake_reader()

    async def wait_for_data(self, timeout_s: float | None) -> bool:
        """Waits for bytes or for the end; False: neither came in time."""
        loop = asyncio.get_running_loop()
        self._reader = loop.create_future()
        self._due_s = math.inf if timeout_s is None else loop.time() + timeout_s
        if timeout_s is not None and (self._timer is None or self._timer.when() > self._due_s):
            self._set_timer(loop)
        try:
            return await self._reader
        finally:
            self._reader = None

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        """One timer serves many reads: nearly all of them end long before it, and each would set one and cancel it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._due_s, self._end_wait, loop)

    def _end_wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._reader is None:
            return
        if loop.time() >= self._due_s:
            self._wake_reader(False)
        elif self._due_s < math.inf:  # another read, which began later
            self._set_timer(loop)

    def take_bytes(self, most: int) -> bytes:
        data = bytes(self.data[:most])
        del self.data[:most]
        if len(self.data) <= _BUFFER_BYTES and not self.ended:  # a transport that has ended can't be resumed
            self.transport.resume_reading()
        return data

    def _wake_reader(self, came: bool = True) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(came)


def refuse_child(process: int) -> None:
    """Raises ChildOfRunError in another process than this one: in a child of it."""
    if os.getpid() != process:
        raise ChildOfRunError


class NetworkStream(httpcore.AsyncNetworkStream):
    """One connection."""

    def __init__(self, protocol: _SocketProtocol, lease: Lease | None = None) -> None:
        self._protocol = protocol
        self._lease = lease
        self._process = os.getpid()
        self._unsent = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        protocol = self._protocol
        # httpcore writes the head and the body, and then reads: so both are sent in one write.
        if self._unsent:
            refuse_child(self._process)
            # The last step before a create is sent, behind all waiting: a process that was stopped may wake here.
            if self._lease is not None and not self._lease.check_held():
                raise LeaseLostError
            unsent, self._unsent = self._unsent, b""
            protocol.transport.write(unsent)
        if not protocol.data and not protocol.ended and not await protocol.wait_for_data(timeout):
            raise httpcore.ReadTimeout(f"nothing came within {timeout} s")
        if not protocol.data and protocol.error is not None:
            raise httpcore.ReadError(str(protocol.error)) from protocol.error
        return protocol.take_bytes(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._unsent += buffer

    async def aclose(self) -> None:
        if os.getpid() == self._process:  # a child would take the socket from its parent's event loop, too
            self._protocol.transport.abort()  # nothing is under way that an orderly close would wait for

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        protocol = self._protocol
        try:
            with anyio.fail_after(timeout):
                transport = await asyncio.get_running_loop().start_tls(
                    protocol.transport, protocol, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as error:
            protocol.transport.abort()
            raise httpcore.ConnectTimeout(f"no TLS within {timeout} s") from error
        except OSError as error:  # ssl.SSLError among them
            protocol.transport.abort()
            raise httpcore.ConnectError(str(error) or CLOSED_EARLY) from error
        if transport is None:
            raise httpcore.ConnectError(CLOSED_EARLY)
        protocol.transport = transport  # the plain one below it must not be read or written any more
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # httpcore asks this of an idle connection: data or an end means that it is closed
            return bool(self._protocol.data) or self._protocol.ended
        return self._protocol.transport.get_extra_info({"ssl_object": "ssl_object", "socket": "socket"}.get(info, ""))
