"""Counts the reused outcomes that a run's triage accepts."""

from __future__ import annotations

import json

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
    """Counts the accepted lines of results.jsonl, which holds only reused ones yet; 0 without a triage."""
    if triage is None:
        return 0
    accepted, rest = 0, b""
    async with closing(store.stream(Log.RESULTS)) as blocks:
        async for block in blocks:
            whole, _, rest = (rest + block).rpartition(b"\n")
            accepted += sum(
                line.type is not None and triage.accepts_answer(line.type, line.confidence)
                for line in decode_lines(whole)
            )
            await checkpoint()
    return accepted


def decode_lines(data: bytes) -> list[_Line]:
    """The type and confidence of each line."""
    try:
        return _decoder.decode_lines(data)
    except (msgspec.MsgspecError, ValueError):  # json wrote something that msgspec refuses, like a lone surrogate
        return [msgspec.convert(json.loads(line), _Line) for line in data.split(b"\n")]
