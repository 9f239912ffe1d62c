"""HTTP/1.1 on one socket: a request, its response, and then perhaps the next request.

httpcore's connection does the same for many tasks at once: six locks a request, each of which gives the event loop up
once, and as many records for tracing. A connection of ours has one borrower at a time, and needs neither. Measured, CPU
time of a run: a seventh of it. Responses are read by httptools, which is Node's parser: h11 takes a tenth of a run for
them.

What is left of it here is what it promises: 100-continue and other 1xx answers are passed over, a connection is used
again only where both sides have ended the exchange and want to go on, and whatever fails closes it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import cast

import anyio
import h11
import httpcore
import httpx

from classify_batch.llamacloud.response_parser import ResponseParser

_READ_BYTES = 64 * 1024
_HEADERS_KEPT = 64


class Exchanges:
    """What was said on one open connection, and whether more can be said.

    Attributes:
        stream: the connection itself.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream, keepalive_s: float) -> None:
        """`keepalive_s`: for how long it may be idle between two requests."""
        self.stream = stream
        self._parser = ResponseParser()
        self._keepalive_s = keepalive_s
        self._timeout_s: float | None = None
        self._due_s = 0.0
        self._expires_s = time.monotonic() + keepalive_s
        self._idle = True

    @property
    def usable(self) -> bool:
        """Whether another request may leave by it. Not where the server has closed it, or sent what nobody asked for:
        a request must not be the first to find out."""
        if not self._idle or time.monotonic() > self._expires_s:
            return False
        return not self.stream.get_extra_info("is_readable")

    async def exchange(self, request: httpx.Request) -> httpx.Response:
        """Sends a request whose body is in memory, and reads the head of its response. Raises httpx.TransportError."""
        timeouts = request.extensions.get("timeout", {})
        parser, self._timeout_s = self._parser, timeouts.get("read")
        self._due_s = time.monotonic() + (self._timeout_s or 0.0)
        self._idle = False
        try:
            with translate_errors():
                await self.stream.write(await _encode(request), timeout=timeouts.get("write"))
                parser.begin()
                while not parser.has_head:
                    await self._receive()
        except BaseException:
            await self.close_shielded()
            raise
        return httpx.Response(parser.status, headers=parser.headers, stream=_Body(self))

    async def close_shielded(self) -> None:
        """Closes the connection, also in a cancelled task."""
        self._idle = False
        with anyio.CancelScope(shield=True):
            await self.stream.aclose()

    async def receive_body(self) -> bytes:
        """The body's bytes that came meanwhile; empty: it has ended. Raises httpx.TransportError."""
        parser = self._parser
        if not parser.blocks and not parser.ended:
            with translate_errors():
                while not parser.blocks and not parser.ended:
                    await self._receive()
        blocks, parser.blocks = parser.blocks, []
        return b"".join(blocks)

    async def end(self) -> None:
        """The response was read, or isn't wanted any more: then the connection can't be used again."""
        if self._parser.can_reuse_connection:
            self._idle, self._expires_s = True, time.monotonic() + self._keepalive_s
        else:
            await self.close_shielded()

    async def _receive(self) -> None:
        # All of a response has the time, and not each of its bytes: a server that drips would be waited for for ever.
        left_s = None if self._timeout_s is None else max(0.0, self._due_s - time.monotonic())
        try:
            data = await self.stream.read(_READ_BYTES, timeout=left_s)
        except httpcore.ReadTimeout as error:
            raise httpcore.ReadTimeout(f"no whole response within {self._timeout_s:g} s") from error
        if data:
            self._parser.feed(data)
        else:
            self._parser.feed_eof()


async def _encode(request: httpx.Request) -> bytes:
    """The whole request as it is sent: head and body leave together. httpx has made the URL's characters safe."""
    head = b"%b %b HTTP/1.1\r\n%b" % (
        request.method.encode("ascii"),
        request.url.raw_path,
        _header_lines(tuple(request.headers.raw)),
    )
    body = cast("httpx.AsyncByteStream", request.stream)  # all of ours are
    return b"".join([head, *[block async for block in body]])


@lru_cache(_HEADERS_KEPT)
def _header_lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Headers as they are sent, with the empty line. Raises h11.LocalProtocolError: one of them can't be sent."""
    head = h11.Connection(h11.CLIENT).send(h11.Request(method="GET", target="/", headers=list(headers)))
    return head.partition(b"\r\n")[2]


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while block := await self._exchanges.receive_body():
            yield block

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._exchanges.end()


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raises h11's and httpcore's errors as httpx's, which does so only in its own transport. The cause is kept:
    certificates are judged by it."""
    try:
        yield
    except h11.LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error)) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, httpcore.ProxyError) as error:
        names = [kind.__name__ for kind in type(error).__mro__]  # some of ours are narrower
        kind: type[httpx.TransportError] = next(getattr(httpx, name) for name in names if hasattr(httpx, name))
        raise kind(str(error)) from error
