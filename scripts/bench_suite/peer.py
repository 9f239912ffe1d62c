"""What the programs around other libraries share: chunks, a semaphore, answers into a file. Standard library only."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

Classify = Callable[[list[str]], Awaitable[list[str]]]
"""Takes a chunk of file IDs; gives the answers as JSON, one for each file."""


def parser(doc: str | None) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=doc)
    options.add_argument("ids", type=Path)
    options.add_argument("answers", type=Path)
    options.add_argument("--files-per-job", type=int, required=True)
    options.add_argument("--jobs-in-flight", type=int, required=True)
    return options


async def classify_all(options: argparse.Namespace, classify: Classify) -> None:
    """Prints how many jobs came to nothing."""
    ids = options.ids.read_text().split()
    size = options.files_per_job
    chunks = [ids[start : start + size] for start in range(0, len(ids), size)]
    room = asyncio.Semaphore(options.jobs_in_flight)
    failed = 0
    with options.answers.open("a") as file:

        async def one(chunk: list[str]) -> None:
            nonlocal failed
            async with room:
                try:
                    answers = await classify(chunk)
                except Exception:  # noqa: BLE001 - whatever it is, these files have no answer
                    failed += 1
                    return
            file.writelines(f"{answer}\n" for answer in answers)
            file.flush()

        await asyncio.gather(*map(one, chunks))
    print(json.dumps({"failed_jobs": failed}))
