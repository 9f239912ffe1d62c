"""One connection to the API, as an httpx transport, without httpx's client and httpcore's pool around it.

Measured, CPU time of a GET while a run polls: 980 µs by an httpx client with a connection of its own, 430 by this one.
A pool of 100 takes time that grows with the square of its connections. httpx-aiohttp would take 360, but it reports a
server that hangs up after a request as a connection that was never made: the create would be sent again and paid twice.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from classify_batch.errors import SettingsError
from classify_batch.llamacloud.network import NetworkBackend

KEEPALIVE_S = 4.0
"""Shorter than the 5 s after which common servers close an idle connection. Of a create that meets a closed connection
it is unknown whether it was accepted."""


_BACKEND = NetworkBackend()


class Connection(httpx.AsyncBaseTransport):
    """A connection that is made when it is first used, and anew when it was closed or idle for too long."""

    def __init__(self, base_url: httpx.URL, context: ssl.SSLContext) -> None:
        port = base_url.port or {"http": 80, "https": 443}[base_url.scheme]
        self._origin = httpcore.Origin(base_url.raw_scheme, base_url.raw_host, port)
        self._context = context
        self._connection: httpcore.AsyncHTTPConnection | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        connection = await self._connect_if_needed()
        url = httpcore.URL(
            scheme=self._origin.scheme, host=self._origin.host, port=self._origin.port, target=request.url.raw_path
        )
        with translate_errors():
            response = await connection.handle_async_request(
                httpcore.Request(
                    request.method,
                    url,
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response))

    async def aclose(self) -> None:
        if self._connection is not None:
            await self._connection.aclose()
            self._connection = None

    async def _connect_if_needed(self) -> httpcore.AsyncHTTPConnection:
        connection = self._connection
        # A server may have closed the connection while it was idle: a request must not be the first to find out.
        if connection is not None and (connection.has_expired() or not connection.is_idle()):
            await self.aclose()
            connection = None
        if connection is None:
            connection = self._connection = httpcore.AsyncHTTPConnection(
                self._origin, self._context, keepalive_expiry=KEEPALIVE_S, network_backend=_BACKEND
            )
        return connection


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
        # httpx maps these errors itself only in its own transport.
        kind: type[httpx.TransportError] = getattr(httpx, type(error).__name__)
        raise kind(str(error)) from error


def connection_factory(base_url: str) -> Callable[[], httpx.AsyncBaseTransport]:
    """A function that makes connections to a URL, through the proxy that the environment names for it, if any.

    Raises:
        SettingsError: the proxy is no HTTP proxy.
    """
    url = httpx.URL(base_url)
    is_local = url.scheme == "http"  # settings allow plain HTTP for this machine only, where no proxy is needed
    # One context for all connections: it takes 25 ms to make. Plain HTTP needs no certificates.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_local else httpx.create_ssl_context()
    proxy = None if is_local else find_proxy(url)
    if proxy is None:
        return lambda: Connection(url, context)
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_S)
    return lambda: httpx.AsyncHTTPTransport(verify=context, proxy=proxy, limits=limits)


def find_proxy(url: httpx.URL) -> str | None:
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.host):
        return None
    if urlsplit(proxy).scheme not in ("http", "https"):
        raise SettingsError(
            f"the environment names a proxy for {url.host} that is no HTTP proxy",
            hint="set HTTPS_PROXY to one like http://host:port, or NO_PROXY to that host",
        )
    return proxy
