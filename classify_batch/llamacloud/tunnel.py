"""Connections through an HTTP proxy: a tunnel to the API (`CONNECT`), which is then used like any connection.

The tunnel is made where connections are made, so every failure up to its end is an error of connecting: nothing of a
request has left, and it is certain that no create was accepted.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import anyio
import httpcore

from classify_batch.llamacloud.network import CLOSED_EARLY
from classify_batch.llamacloud.proxies import Proxy
from classify_batch.settings.host_names import format_address, tls_name

_HEAD_BYTES_MAX = 64 * 1024
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")  # RFC 9112, 2.2: a line may end without its CR
_FOR_LATER = frozenset({408, 425, 429})
"""Statuses of a proxy below 500 that pass by themselves."""


class ProxyRefusedError(httpcore.ProxyError):
    """The proxy makes no tunnel, and will make none until a person changes something.

    Attributes:
        status: the proxy's HTTP status.
        had_login: whether it was given a user and a password.
    """

    def __init__(self, message: str, status: int, *, had_login: bool) -> None:
        super().__init__(message)
        self.status = status
        self.had_login = had_login


class BrokenTunnelError(httpcore.ConnectError):
    """TLS could not be begun in a tunnel. What came instead may be the proxy's, which lost the server for now."""


class TunnelBackend(httpcore.AsyncNetworkBackend):
    """Makes connections through a proxy. `backend` makes those to the proxy itself."""

    def __init__(self, proxy: Proxy, context: ssl.SSLContext, backend: httpcore.AsyncNetworkBackend) -> None:
        self._proxy = proxy
        self._context = context
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        proxy = self._proxy
        name = f"the proxy {proxy.address}, which {proxy.variable} names"
        try:
            with anyio.fail_after(timeout):
                stream = await self._backend.connect_tcp(
                    proxy.host, proxy.port, local_address=local_address, socket_options=socket_options
                )
                return Tunnel(await self._open_tunnel(stream, host, port, name), name)
        except (TimeoutError, httpcore.TimeoutException) as error:
            raise httpcore.ConnectTimeout(f"{name}: nothing came within {timeout} s") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise httpcore.ConnectError(f"{name}: {str(error) or 'it closed the connection'}") from error

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)

    async def _open_tunnel(
        self, stream: httpcore.AsyncNetworkStream, host: str, port: int, name: str
    ) -> httpcore.AsyncNetworkStream:
        try:
            if self._proxy.scheme == "https":
                stream = await stream.start_tls(self._context, tls_name(self._proxy.host))
            await stream.write(self._build_connect(format_address(host, port)))
            status = await _read_status(stream)
            if not 200 <= status < 300:
                message = f"{name}, answers {status} {_reason_of(status)}".rstrip()
                # A ProxyError counts as no connection, so that it is tried again: nothing of a create has left.
                if status >= 500 or status in _FOR_LATER:
                    raise httpcore.ProxyError(message)
                raise ProxyRefusedError(message, status, had_login=self._proxy.authorization is not None)
        except BaseException:
            with anyio.CancelScope(shield=True):  # also in a cancelled task: nobody else knows this socket
                await stream.aclose()
            raise
        return stream

    def _build_connect(self, address: str) -> bytes:
        # RFC 9110, 9.3.6: the target is host and port alone.
        lines = [f"CONNECT {address} HTTP/1.1".encode(), f"Host: {address}".encode()]
        if self._proxy.authorization is not None:
            lines.append(b"Proxy-Authorization: " + self._proxy.authorization)
        return b"\r\n".join([*lines, b"", b""])


class Tunnel(httpcore.AsyncNetworkStream):
    """A tunnel before TLS is spoken in it: the error of what breaks it then names the proxy."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, proxy_name: str) -> None:
        self._stream = stream
        self._proxy_name = proxy_name

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except (httpcore.NetworkError, httpcore.TimeoutException) as error:
            kind = BrokenTunnelError if isinstance(error, httpcore.ConnectError) else type(error)
            raise kind(f"through {self._proxy_name}: {str(error) or CLOSED_EARLY}") from error

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


async def _read_status(stream: httpcore.AsyncNetworkStream) -> int:
    """The status of the proxy's answer, behind those that only say that it goes on (1xx). Behind its head nothing may
    come: in a tunnel, we speak first."""
    unread = b""
    while True:
        while (end := _END_OF_HEAD.search(unread)) is None:
            block = await stream.read(_HEAD_BYTES_MAX)
            unread += block
            if not block or len(unread) > _HEAD_BYTES_MAX:
                raise httpcore.RemoteProtocolError("it closed the connection, or doesn't speak HTTP")
        status = _parse_status(unread[: end.start()])
        unread = unread[end.end() :]
        if not 100 <= status < 200 or status == HTTPStatus.SWITCHING_PROTOCOLS:
            return status


def _parse_status(head: bytes) -> int:
    version, _, rest = head.split(b"\n", 1)[0].partition(b" ")
    status = rest[:3]
    if not (version.startswith(b"HTTP/1.") and status.isdigit() and len(status) == 3 and not rest[3:4].strip()):
        raise httpcore.RemoteProtocolError("it doesn't speak HTTP")
    return int(status)


def _reason_of(status: int) -> str:
    """What a status means, never in the proxy's own words: they may repeat the password that it was sent."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
