"""A bound for the whole answer to an upload, however long the sending takes.

httpcore bounds each read, so an answer that drips would be waited for for ever. `Exchanges` bounds all other calls.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore


class AnswerTimeBackend(httpcore.AsyncNetworkBackend):
    """Makes connections by another backend, on each of which a whole answer has the time of a read."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _AnswerTimeStream(
            await self._backend.connect_tcp(host, port, timeout, local_address, socket_options=socket_options)
        )

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _AnswerTimeStream(httpcore.AsyncNetworkStream):
    """The time begins with the first read behind a write: then all was sent, or the server takes no more."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._due_s: float | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if timeout is None:
            return await self._stream.read(max_bytes)
        if self._due_s is None:
            self._due_s = time.monotonic() + timeout
        try:
            return await self._stream.read(max_bytes, max(0.0, self._due_s - time.monotonic()))
        except httpcore.ReadTimeout as error:
            raise httpcore.ReadTimeout(f"no whole response within {timeout:g} s") from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._due_s = None
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _AnswerTimeStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
