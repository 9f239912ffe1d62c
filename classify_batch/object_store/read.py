"""An object as blocks of bytes: asked for in ranges, each of the version that the first was of.

One request for all of it would have to be read in the time that a request may take, however slow its reader is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from classify_batch.object_store.connect import connect_to_bucket, explaining
from classify_batch.object_store.failures import is_empty_range
from classify_batch.object_store.url import ObjectUrl

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ObjectStore

RANGE_BYTES = 1 << 22
_BLOCK_BYTES = 1 << 18


async def read_object(url: ObjectUrl) -> AsyncIterator[bytes]:
    """The blocks of an object, in memory that doesn't grow with it.

    Raises:
        SourceError: there is no such object or bucket, or the store isn't set up well.
        ObjectAccessError: there are no credentials, or they don't suffice.
        ObjectStoreError: the store can't be reached, or the object changed meanwhile.
    """
    store = connect_to_bucket(url, reading=True)
    start, size, version = 0, 1, None
    while start < size:
        result = await _get_range(store, url, start, version)
        if result is None:
            return
        with explaining(url, reading=True):
            data = bytes(await result.bytes_async())
        size, version = result.meta["size"], result.meta["e_tag"]
        start = result.range[1]
        for place in range(0, len(data), _BLOCK_BYTES):
            yield data[place : place + _BLOCK_BYTES]


async def _get_range(store: ObjectStore, url: ObjectUrl, start: int, version: str | None) -> GetResult | None:
    """A range; None of an object without bytes."""
    import obstore  # noqa: PLC0415 - an extra

    options: GetOptions = {"range": (start, start + RANGE_BYTES)}
    if version is not None:
        options["if_match"] = version
    with explaining(url, reading=True):
        try:
            return await obstore.get_async(store, url.key, options=options)
        except Exception as error:
            if start == 0 and is_empty_range(error):
                return None
            raise
