"""One connection to the API, as an httpx transport, without httpx's client and httpcore's pool around it.

Measured, CPU time of a GET while a run polls: 980 µs by an httpx client with a connection of its own, 430 by this one.
A pool of 100 takes time that grows with the square of its connections. httpx-aiohttp would take 360, but it reports a
server that hangs up after a request as a connection that was never made: the create would be sent again and paid twice.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress

import anyio
import httpcore
import httpx

from classify_batch.errors import SettingsError
from classify_batch.llamacloud.network import NetworkBackend
from classify_batch.llamacloud.proxies import choose_proxy
from classify_batch.llamacloud.tls import make_ssl_context
from classify_batch.llamacloud.tunnel import TunnelBackend
from classify_batch.ports import Lease

KEEPALIVE_S = 4.0
"""Shorter than the 5 s after which common servers close an idle connection. Of a create that meets a closed connection
it is unknown whether it was accepted."""


_CLOSING_ERRORS = (
    OSError,  # ssl.SSLError among them
    RuntimeError,  # of a transport, or an event loop, that was closed
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpx.TransportError,
)
"""What closing a connection may raise that is broken. It says nothing about what was sent by it."""

_PORTS = {"http": 80, "https": 443}


class Connection(httpx.AsyncBaseTransport):
    """A connection that is made when it is first used, and anew when it was closed or idle for too long."""

    def __init__(self, base_url: httpx.URL, context: ssl.SSLContext, backend: httpcore.AsyncNetworkBackend) -> None:
        port = base_url.port or _PORTS[base_url.scheme]
        self._origin = httpcore.Origin(base_url.raw_scheme, base_url.raw_host, port)
        self._context = context
        self._backend = backend
        self._connection: httpcore.AsyncHTTPConnection | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        connection = await self._connect_if_needed()
        url = httpcore.URL(
            scheme=self._origin.scheme, host=self._origin.host, port=self._origin.port, target=request.url.raw_path
        )
        return await send_through(connection, request, url)

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None  # one that can't be closed isn't used again
        if connection is not None:
            await close_quietly(connection)

    async def _connect_if_needed(self) -> httpcore.AsyncHTTPConnection:
        connection = self._connection
        # A server may have closed the connection while it was idle: a request must not be the first to find out.
        if connection is not None and (connection.has_expired() or not connection.is_idle()):
            await self.aclose()
            connection = None
        if connection is None:
            connection = self._connection = httpcore.AsyncHTTPConnection(
                self._origin, self._context, keepalive_expiry=KEEPALIVE_S, network_backend=self._backend
            )
        return connection


async def close_quietly(connection: httpcore.AsyncHTTPConnection | httpx.AsyncBaseTransport) -> None:
    """Closes a connection, which may be broken."""
    with suppress(*_CLOSING_ERRORS):
        await connection.aclose()


async def send_through(
    sender: httpcore.AsyncHTTPConnection | httpcore.AsyncConnectionPool, request: httpx.Request, url: httpcore.URL
) -> httpx.Response:
    """Sends an httpx request by a connection, or a pool, of httpcore."""
    with translate_errors():
        response = await sender.handle_async_request(
            httpcore.Request(
                request.method,
                url,
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
    return httpx.Response(response.status, headers=response.headers, stream=_Body(response))


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with translate_errors():
            async for block in self._response.aiter_stream():
                yield block

    async def aclose(self) -> None:
        with translate_errors():
            await self._response.aclose()


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raises httpcore's errors as httpx's, which have the same names."""
    try:
        yield
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, httpcore.ProxyError) as error:
        # httpx maps these errors itself only in its own transport. The cause is kept: certificates are judged by it.
        name = "ProxyError" if isinstance(error, httpcore.ProxyError) else type(error).__name__
        kind: type[httpx.TransportError] = getattr(httpx, name)
        raise kind(str(error)) from error


class UploadTransport(httpx.AsyncBaseTransport):
    """For bodies of any size: it sends a body block by block, as fast as the server takes it. A `Connection` keeps a
    whole body in memory until its response is awaited."""

    def __init__(self, context: ssl.SSLContext, backend: httpcore.AsyncNetworkBackend) -> None:
        # Without a bound of its own: the gate bounds the requests in flight, and so the connections.
        self._pool = httpcore.AsyncConnectionPool(
            context, max_connections=None, keepalive_expiry=KEEPALIVE_S, network_backend=backend
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        return await send_through(self._pool, request, target)

    async def aclose(self) -> None:
        await self._pool.aclose()


class Route:
    """The way to the API, the same for all calls: which certificates are trusted, and which proxy is used, if any.
    `lease`: without which no call but an upload leaves; None: none is needed.

    Raises:
        SettingsError: the environment names a proxy, certificates or a key log that can't be used.
    """

    def __init__(self, base_url: str, environ: Mapping[str, str] = os.environ, *, lease: Lease | None = None) -> None:
        self._backend = NetworkBackend(lease)
        try:
            self._url = httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise SettingsError(f"api.base_url: not a URL: {error}", hint="give the address of the API") from None
        # Settings allow plain HTTP for this machine only, where neither a proxy nor certificates are needed.
        is_local = self._url.scheme == "http"
        port = self._url.port or _PORTS[self._url.scheme]
        self._proxy = None if is_local else choose_proxy(self._url.host, port, environ)
        # One context for all connections: it takes 25 ms to make.
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_local else make_ssl_context(environ)

    def make_connection(self) -> Connection:
        return Connection(self._url, self._context, self._through_proxy(self._backend))

    def make_upload_transport(self) -> UploadTransport:
        # httpcore's own backend waits until the server takes what is written.
        return UploadTransport(self._context, self._through_proxy(httpcore.AnyIOBackend()))

    def _through_proxy(self, backend: httpcore.AsyncNetworkBackend) -> httpcore.AsyncNetworkBackend:
        return backend if self._proxy is None else TunnelBackend(self._proxy, self._context, backend)
