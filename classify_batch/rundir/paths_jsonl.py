"""`paths.jsonl`: the paths of a folder's contents that are more than what one file may carry.

A line for each path, `{"file_id": "sha256:…", "path": "…"}`, those of one content one after the other. Written whole,
before run.json; where nothing is more than what fits, there is no such file.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from anyio.lowlevel import checkpoint

from classify_batch.ports import RunStore
from classify_batch.streams.spill import LIMITS, Spool
from classify_batch.vocabulary import PATHS_JSONL

_LINES_PER_BLOCK = 4096


class FurtherPaths:
    """Collects them in bounded memory while a run is planned, and writes them then."""

    def __init__(self, directory: Path | None) -> None:
        """`directory`: where temporary files go."""
        self._lines = Spool(directory, LIMITS)
        self._any = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.__exit__(kind, error, trace)

    def add_paths(self, file_id: str, carried: Sequence[str]) -> None:
        """Takes what a content carries beyond what fits: JSON objects with a path."""
        for start in range(0, len(carried), _LINES_PER_BLOCK):
            objects = map(json.loads, carried[start : start + _LINES_PER_BLOCK])
            self._lines.add_ids([json.dumps({"file_id": file_id, **each}) for each in objects])
        self._any = True

    async def write_file(self, store: RunStore) -> None:
        """Writes the file; or removes one that a killed planning left."""
        if self._any:
            await store.replace(PATHS_JSONL, self._encode_blocks())
        elif await store.size(PATHS_JSONL) is not None:
            await store.remove(PATHS_JSONL)

    async def _encode_blocks(self) -> AsyncIterator[bytes]:
        for lines in self._lines.replay_ids():
            yield "\n".join([*lines, ""]).encode()
            await checkpoint()
