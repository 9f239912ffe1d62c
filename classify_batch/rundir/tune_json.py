"""tune.json: changed limits on their way from `tune` to the process that runs the run, which removes the file.

Each file is its own: behind the JSON stand blanks that no other has. So neither side takes another `tune`'s file for
the one that it means, though both may say the same, and removes what nobody has read. Readers of JSON pass over blanks,
those of older versions, too.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping

from classify_batch.ports import RunStore
from classify_batch.vocabulary import TUNE_JSON

_BLANKS = 64


def encode_limits(changes: Mapping[str, object]) -> bytes:
    """The bytes of a file that no other `tune` has written."""
    bits = secrets.randbits(_BLANKS)
    blanks = bytes(b" \t"[bits >> place & 1] for place in range(_BLANKS))
    return json.dumps(changes).encode() + blanks


async def holds_limits(store: RunStore, data: bytes) -> bool:
    """Whether the file is there, and is the one with these bytes."""
    try:
        return await store.read(TUNE_JSON) == data
    except FileNotFoundError:
        return False


async def remove_limits(store: RunStore, data: bytes) -> None:
    """Removes the file with these bytes; one that another `tune` has put there since stays."""
    if await holds_limits(store, data):
        await store.remove(TUNE_JSON)
