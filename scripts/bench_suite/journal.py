"""Facts a second that the store makes durable, on a disk whose every fsync takes 5 ms; a process of its own.

The fsync is replaced before the package is imported, and only waits: what is measured is how many facts share one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

FSYNC_S = 0.005
TASKS = 100
FACTS_EACH = 400
NAIVE_FACTS = 400


def slowly(descriptor: int) -> None:  # noqa: ARG001
    time.sleep(FSYNC_S)


def line_of(number: int) -> bytes:
    from classify_batch.lifecycle import Submitted
    from classify_batch.model import AttemptKey
    from classify_batch.rundir.journal.entry import encode_facts

    fact = Submitted(AttemptKey(number, 1), f"0000abcd-0000-4000-8000-{number:012x}", 0.0)
    return encode_facts(number + 1, time.time(), number, (fact,))


async def in_groups(folder: Path, lines: list[bytes]) -> float:
    """Facts a second of the store, written by tasks that each wait for the disk before their next one."""
    from classify_batch.store.disk import DiskStore
    from classify_batch.vocabulary import Log

    async with DiskStore(folder) as store:
        await store.prepare()

        async def write(task: int) -> None:
            for turn in range(FACTS_EACH):
                store.append(Log.JOURNAL, lines[turn * TASKS + task])
                await store.commit()

        began_s = time.monotonic()
        await asyncio.gather(*map(write, range(TASKS)))
        return len(lines) / (time.monotonic() - began_s)


def one_by_one(path: Path, lines: list[bytes]) -> float:
    """Facts a second with an fsync each."""
    began_s = time.monotonic()
    with path.open("wb", buffering=0) as file:
        for line in lines:
            file.write(line)
            os.fsync(file.fileno())
    return len(lines) / (time.monotonic() - began_s)


def main() -> None:
    os.fsync = os.fdatasync = slowly  # type: ignore[assignment]
    folder = Path(sys.argv[1])
    lines = [line_of(number) for number in range(TASKS * FACTS_EACH)]
    grouped = asyncio.run(in_groups(folder / "grouped", lines))
    naive = one_by_one(folder / "naive.jsonl", lines[:NAIVE_FACTS])
    print(json.dumps({"facts a second": grouped, "with an fsync each": naive, "times as many": grouped / naive}))


if __name__ == "__main__":
    main()
