"""tune.json and cancel.json: requests of `tune` and `cancel` to the process that runs the run.

Each file is its own: behind the JSON stand blanks that no other has. So neither side takes another command's file for
the one that it means, though both may say the same, and removes what nobody has read. Readers of JSON pass over blanks,
those of older versions, too.

The process claims a request by renaming it, which happens or doesn't: from then on it can't be taken back, and whoever
asked knows that it is carried out. When that is done, the process removes it; its absence is the answer. (An older
version reads the file where it is, and removes it when that is done.)
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping

import anyio

from classify_batch.ports import RunStore
from classify_batch.vocabulary import REQUESTS

CARRIED_OUT_WITHIN_S = 2.0
"""So long an interrupted command, which has to end within 3.6 s, waits for what a process has claimed: that takes one
durable line of the journal."""

_POLL_EVERY_S = 0.05
_BLANKS = 64


def encode_request(values: Mapping[str, object]) -> bytes:
    """The bytes of a file that no other command has written."""
    bits = secrets.randbits(_BLANKS)
    blanks = bytes(b" \t"[bits >> place & 1] for place in range(_BLANKS))
    return json.dumps(values).encode() + blanks


async def claim_request(store: RunStore, name: str) -> bytes | None:
    """The request, which nobody can take back from here on; None where there is none any more. For the process that
    runs the run, which says by `finish_request` that it is carried out."""
    try:
        await store.rename(name, REQUESTS[name])
        return await store.read(REQUESTS[name])
    except FileNotFoundError:
        return None


async def finish_request(store: RunStore, name: str) -> None:
    """Removes the request that was claimed."""
    await store.remove(REQUESTS[name])


async def forget_requests(store: RunStore) -> None:
    """Removes all: they were meant for an earlier process. Whoever asked sees that nobody answered."""
    for name, claimed in REQUESTS.items():
        for each in (name, claimed, _withdrawn(name)):  # a killed command leaves the last one
            await store.remove(each)


async def is_open(store: RunStore, name: str, data: bytes) -> bool:
    """Whether the request with these bytes is there, claimed or not: it isn't carried out yet."""
    return await _holds(store, name, data) or await _holds(store, REQUESTS[name], data)


async def take_back(store: RunStore, name: str, data: bytes) -> bool:
    """Takes the request with these bytes back; one that another command has put there since stays. Returns whether
    nothing of it was, or will be, carried out. Where it was claimed, waits until it is carried out."""
    if await _holds(store, name, data):
        withdrawn = _withdrawn(name)
        try:
            await store.rename(name, withdrawn)
        except FileNotFoundError:
            pass  # it is being claimed at this very moment
        else:
            await store.remove(withdrawn)
            return True
    with anyio.move_on_after(CARRIED_OUT_WITHIN_S):
        while await is_open(store, name, data):  # noqa: ASYNC110 - another process sets no event
            await anyio.sleep(_POLL_EVERY_S)
    return False


def _withdrawn(name: str) -> str:
    return f"{name}.withdrawn"


async def _holds(store: RunStore, name: str, data: bytes) -> bool:
    try:
        return await store.read(name) == data
    except FileNotFoundError:
        return False
