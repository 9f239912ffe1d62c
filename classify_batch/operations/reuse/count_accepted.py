"""How many of the reused outcomes a run's triage accepts."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from anyio.lowlevel import checkpoint

from classify_batch.ports import RunStore
from classify_batch.settings import TriageSettings
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import Log


class _Line(msgspec.Struct):
    type: str | None
    confidence: float | None


_decoder = msgspec.json.Decoder(_Line)


async def count_accepted(store: RunStore, triage: TriageSettings | None) -> int:
    """Reads results.jsonl as it was just written; nothing where nobody asked."""
    if triage is None:
        return 0
    accepted, rest = 0, b""
    async with closing(store.stream(Log.RESULTS)) as blocks:
        async for block in blocks:
            whole, _, rest = (rest + block).rpartition(b"\n")
            accepted += sum(
                line.type is not None and triage.accepts(line.type, line.confidence) for line in _lines(whole)
            )
            await checkpoint()
    return accepted


def _lines(data: bytes) -> list[_Line]:
    try:
        return _decoder.decode_lines(data)
    except (msgspec.MsgspecError, ValueError):  # what msgspec is too strict for, and json wrote
        found: list[dict[str, Any]] = [json.loads(line) for line in data.split(b"\n")]
        return [_Line(line["type"], line["confidence"]) for line in found]
