"""HTTP/1.1 on one socket, by h11: a request, its response, and then perhaps the next request.

httpcore's connection does the same for many tasks at once: six locks a request, each of which gives the event loop up
once, and as many records for tracing. A connection of ours has one borrower at a time, and needs neither. Measured, CPU
time of a run: a seventh of it.

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

_READ_BYTES = 64 * 1024
_HEAD_BYTES_MAX = 100 * 1024

_REQUEST_HEADERS_KEPT = 64


class Exchanges:
    """What was said on one open connection, and whether more can be said.

    Attributes:
        stream: the connection itself.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream, keepalive_s: float) -> None:
        """`keepalive_s`: for how long it may be idle between two requests."""
        self.stream = stream
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES_MAX)
        self._keepalive_s = keepalive_s
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
        self._idle = False
        try:
            with translate_errors():
                await self.stream.write(await self._encode(request), timeout=timeouts.get("write"))
                response = await self._receive_head(timeouts.get("read"))
        except BaseException:
            await self.close_shielded()
            raise
        body = _Body(self, timeouts.get("read"))
        return httpx.Response(response.status_code, headers=response.headers.raw_items(), stream=body)

    async def close_shielded(self) -> None:
        """Closes the connection, also in a cancelled task."""
        self._idle = False
        with anyio.CancelScope(shield=True):
            await self.stream.aclose()

    async def receive_block(self, timeout_s: float | None) -> bytes | None:
        """The next block of the response's body; None: it has ended. Raises httpx.TransportError."""
        with translate_errors():
            event = await self._receive_event(timeout_s)
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def end(self) -> None:
        """The response was read, or isn't wanted any more: then the connection can't be used again."""
        parser = self._parser
        unasked, _ = parser.trailing_data  # it would be taken for the answer to the next request
        if parser.our_state is h11.DONE and parser.their_state is h11.DONE and not unasked:
            parser.start_next_cycle()
            self._idle, self._expires_s = True, time.monotonic() + self._keepalive_s
        else:
            await self.close_shielded()

    async def _encode(self, request: httpx.Request) -> bytes:
        """The whole request as it is sent: head and body leave together."""
        parser = self._parser
        headers = _validated(tuple(request.headers.raw)).headers
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=headers)
        parts = [parser.send(head)]
        body = cast("httpx.AsyncByteStream", request.stream)  # all of ours are
        parts += [parser.send(h11.Data(data=block)) async for block in body if block]
        parts.append(parser.send(h11.EndOfMessage()))
        return b"".join(part for part in parts if part)

    async def _receive_head(self, timeout_s: float | None) -> h11.Response:
        while True:
            event = await self._receive_event(timeout_s)
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise httpcore.RemoteProtocolError(f"no response, but {event!r}")

    async def _receive_event(self, timeout_s: float | None) -> object:
        parser = self._parser
        while (event := parser.next_event()) is h11.NEED_DATA:
            data = await self.stream.read(_READ_BYTES, timeout=timeout_s)
            if not data and parser.their_state is h11.SEND_RESPONSE:
                raise httpcore.RemoteProtocolError("Server disconnected without sending a response.")
            parser.receive_data(data)
        return event


@lru_cache(_REQUEST_HEADERS_KEPT)
def _validated(headers: tuple[tuple[bytes, bytes], ...]) -> h11.Request:
    """Holds headers that h11 has validated, and doesn't validate again: most requests of a run have the same ones."""
    return h11.Request(method="GET", target="/", headers=list(headers))


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchanges: Exchanges, read_timeout_s: float | None) -> None:
        self._exchanges = exchanges
        self._read_timeout_s = read_timeout_s
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (block := await self._exchanges.receive_block(self._read_timeout_s)) is not None:
            yield block

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._exchanges.end()


_ERRORS: dict[type[Exception], type[httpx.TransportError]] = {
    h11.LocalProtocolError: httpx.LocalProtocolError,
    h11.RemoteProtocolError: httpx.RemoteProtocolError,
}


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raises h11's and httpcore's errors as httpx's, which does so only in its own transport. The cause is kept:
    certificates are judged by it."""
    try:
        yield
    except h11.ProtocolError as error:
        raise _ERRORS[type(error)](str(error)) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, httpcore.ProxyError) as error:
        name = "ProxyError" if isinstance(error, httpcore.ProxyError) else type(error).__name__
        kind: type[httpx.TransportError] = getattr(httpx, name)
        raise kind(str(error)) from error
