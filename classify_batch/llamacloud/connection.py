"""One connection to the API, as an httpx transport, without httpx's client and httpcore's pool around it.

A pool of 100 takes time that grows with the square of its connections. httpx-aiohttp would take 360, but it reports a
server that hangs up after a request as a connection that was never made: the create would be sent again and paid twice.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

import anyio
import httpcore
import httpx

from classify_batch.errors import SettingsError
from classify_batch.llamacloud.answer_time import AnswerTimeBackend
from classify_batch.llamacloud.exchange import Exchanges, translate_errors
from classify_batch.llamacloud.network import NetworkBackend
from classify_batch.llamacloud.proxies import choose_proxy
from classify_batch.llamacloud.tls import make_plain_context, make_ssl_context
from classify_batch.llamacloud.tunnel import TunnelBackend
from classify_batch.ports import Lease
from classify_batch.settings.host_names import tls_name

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
        self._is_secure = base_url.scheme == "https"
        self._host = base_url.raw_host.decode("ascii")
        self._port = base_url.port or _PORTS[base_url.scheme]
        self._context = context
        self._backend = backend
        self._exchanges: Exchanges | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._exchanges is None or not self._exchanges.usable:
            await self.aclose()
            with translate_errors():
                stream = await self._connect(request.extensions.get("timeout", {}).get("connect"))
            self._exchanges = Exchanges(stream, KEEPALIVE_S)
        return await self._exchanges.exchange(request)

    async def aclose(self) -> None:
        exchanges, self._exchanges = self._exchanges, None  # one that can't be closed isn't used again
        if exchanges is not None:
            await close_quietly(exchanges.stream)

    async def _connect(self, timeout_s: float | None) -> httpcore.AsyncNetworkStream:
        stream = await self._backend.connect_tcp(self._host, self._port, timeout=timeout_s)
        if not self._is_secure:
            return stream
        self._context.set_alpn_protocols(["http/1.1"])
        try:
            return await stream.start_tls(self._context, tls_name(self._host), timeout=timeout_s)
        except BaseException:
            with anyio.CancelScope(shield=True):  # also in a cancelled task: nobody else knows this socket
                await close_quietly(stream)
            raise


async def close_quietly(connection: httpcore.AsyncNetworkStream | httpx.AsyncBaseTransport) -> None:
    """Closes a connection, which may be broken."""
    with suppress(*_CLOSING_ERRORS):
        await connection.aclose()


async def send_through(
    sender: httpcore.AsyncConnectionPool, request: httpx.Request, url: httpcore.URL
) -> httpx.Response:
    """Sends an httpx request by a pool of httpcore."""
    with translate_errors():
        response = await sender.handle_async_request(
            httpcore.Request(
                request.method,
                url,
                headers=request.headers.raw,
                content=request.stream,
                extensions={**request.extensions, "sni_hostname": tls_name(url.host.decode("ascii"))},
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
        self._context = make_plain_context() if is_local else make_ssl_context(environ)

    def make_connection(self) -> Connection:
        return Connection(self._url, self._context, self._through_proxy(self._backend))

    def make_upload_transport(self) -> UploadTransport:
        # httpcore's own backend waits until the server takes what is written.
        return UploadTransport(self._context, AnswerTimeBackend(self._through_proxy(httpcore.AnyIOBackend())))

    def _through_proxy(self, backend: httpcore.AsyncNetworkBackend) -> httpcore.AsyncNetworkBackend:
        return backend if self._proxy is None else TunnelBackend(self._proxy, self._context, backend)
