"""Writes an object whole or not at all: until its last byte is there, the store shows the old one, or none.

What fits into one request is one. Everything else is a multipart upload, which is completed last. Who stops before that
aborts it, so that no parts are kept and paid for; of a process that is killed they stay until a rule of the bucket
removes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from classify_batch.object_store.connect import connect_to_bucket, explaining
from classify_batch.object_store.url import ObjectUrl
from classify_batch.streams.closing import closing

if TYPE_CHECKING:
    from obstore import Attributes, PutResult
    from obstore.store import ObjectStore

PART_BYTES = 1 << 23
"""A store takes 10,000 parts, each of 5 MiB at least."""
_PARTS_IN_FLIGHT = 2
_ABORT_WITHIN_S = 2.0

_CONTENT_TYPES = {
    ".arrow": "application/vnd.apache.arrow.file",
    ".csv": "text/csv; charset=utf-8",
    ".feather": "application/vnd.apache.arrow.file",
    ".htm": "text/html; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
}


async def write_object(url: ObjectUrl, blocks: AsyncIterator[bytes]) -> None:
    """Writes an object, in place of an older one if there is one. Needs asyncio.

    Raises:
        UsageError: there is no such bucket, or the store isn't set up well.
        ObjectAccessError: there are no credentials, or they don't suffice.
        ObjectStoreError: the store can't be reached.
    """
    import obstore  # noqa: PLC0415 - an extra

    store = connect_to_bucket(url, reading=False)
    async with closing(blocks) as stream:
        head = bytearray()
        while len(head) <= PART_BYTES:
            if (block := await anext(stream, None)) is None:
                with explaining(url, reading=False):
                    await obstore.put_async(store, url.key, bytes(head), attributes=_attributes(url))
                return
            head += block
        await _upload_blocks(store, url, bytes(head), stream)


def _attributes(url: ObjectUrl) -> Attributes:
    content_type = _CONTENT_TYPES.get(url.suffix)
    return {} if content_type is None else {"Content-Type": content_type}


async def _upload_blocks(store: ObjectStore, url: ObjectUrl, head: bytes, blocks: AsyncIterator[bytes]) -> None:
    import obstore  # noqa: PLC0415 - an extra

    give, take = anyio.create_memory_object_stream[bytes](1)
    parts = _Parts(take)
    upload = asyncio.ensure_future(
        obstore.put_async(
            store,
            url.key,
            parts,
            attributes=_attributes(url),
            use_multipart=True,
            chunk_size=PART_BYTES,
            max_concurrency=_PARTS_IN_FLIGHT,
        )
    )
    upload.add_done_callback(lambda _upload: take.close())  # then whoever feeds it hears that it has failed
    try:
        with give:
            await _feed_upload(give, head, blocks)
            parts.whole = True
        await asyncio.wait([upload])  # which doesn't cancel it
    except BaseException:
        await _let_abort(upload)
        raise
    with explaining(url, reading=False):
        upload.result()


async def _feed_upload(give: MemoryObjectSendStream[bytes], head: bytes, blocks: AsyncIterator[bytes]) -> None:
    try:
        await give.send(head)
        async for block in blocks:
            if block:
                await give.send(block)
    except anyio.BrokenResourceError:  # the upload has failed, and says why
        pass


async def _let_abort(upload: asyncio.Future[PutResult]) -> None:
    """Waits until the upload has ended: its parts end with an error, so it is aborted, unless it was complete."""
    with anyio.CancelScope(shield=True):
        await asyncio.wait([upload], timeout=_ABORT_WITHIN_S)
    if upload.done():
        upload.exception()  # nobody asks for it
    else:
        upload.cancel()


class _IncompleteError(Exception):
    """The blocks ended too early."""


class _Parts:
    """The blocks of an upload, for obstore: each is asked for by a task of its own.

    Attributes:
        whole: whether the last of them was sent.
    """

    def __init__(self, blocks: MemoryObjectReceiveStream[bytes]) -> None:
        self._blocks = blocks
        self.whole = False

    def __aiter__(self) -> _Parts:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._blocks.receive()
        except anyio.EndOfStream:
            if self.whole:
                raise StopAsyncIteration from None
            raise _IncompleteError from None
