"""The sandboxes of scripts/crash: processes of their own, on real sockets of this machine, with faults."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from classify_batch.sandbox.server.app import Stats

COMMAND = (sys.executable, "-m", "classify_batch")
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("CLASSIFY_BATCH_", "LLAMA_"))}
ENVIRON |= {"LLAMA_CLOUD_API_KEY": "sandbox", "CRASH_EAST_KEY": "sandbox", "CRASH_WEST_KEY": "sandbox-west"}

FAULTS = {"lost_create_answer": 0.05, "rate_429": 0.05, "read_503": 0.05}
DURATION = "--job-duration-s"
BRISK = {"retry_after_s": 0.1}
"""So that a run of a second isn't made of waiting: without it a 429 costs a second and more."""


def faults_of_requests(noise: float | None) -> dict[str, object]:
    """What every sandbox of the proof does. `noise`: this share of 429s without `Retry-After`, which tell nothing of
    when to come back, instead of the usual ones."""
    return {**FAULTS, **BRISK} if noise is None else {**FAULTS, "rate_429": noise}


CASES_A_SANDBOX = 60
"""A new sandbox after so many: its ledger is read after each case."""


@dataclass(frozen=True, slots=True)
class Server:
    """A sandbox that listens, and where it notes what it accepted."""

    base_url: str
    ledger: Path
    version: str = "v1"
    """Of the API, as it is spoken to it."""

    def requests(self) -> Counter[str]:
        """What it was asked so far, by how it answered."""
        return sum((Counter(by_status) for by_status in self.stats()["requests"].values()), Counter())

    def stats(self) -> Stats:
        """What it counts: requests by call and answer, creates, files."""
        with urllib.request.urlopen(f"{self.base_url}/sandbox/stats") as answer:
            stats: Stats = json.load(answer)
        return stats


@asynccontextmanager
async def sandbox(
    folder: Path,
    seed: int,
    faults: Mapping[str, object],
    *,
    job_duration_s: float = 0.1,
    version: str = "v1",
    options: Sequence[str] = (),
) -> AsyncIterator[Server]:
    """A sandbox in a process of its own. `options`: further ones of its command line."""
    ledger = folder / "ledger.jsonl"
    fault_options = [word for name, value in faults.items() for word in ("--fault", f"{name}={value}")]
    told = ["--port", "0", "--ledger", str(ledger), "--seed", str(seed)]
    if DURATION not in options:
        told += [DURATION, str(job_duration_s)]
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "sandbox", *told, *fault_options, *options, stdout=asyncio.subprocess.PIPE, env=ENVIRON
    )
    try:
        assert process.stdout is not None
        base_url = (await process.stdout.readline()).decode().strip()
        if not base_url:
            raise RuntimeError("the sandbox doesn't start")
        yield Server(base_url, ledger, version)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@dataclass
class _Place:
    """A sandbox with room for so many cases more."""

    server: Server
    stack: AsyncExitStack
    left: int = CASES_A_SANDBOX
    guests: int = 0


@dataclass
class Lab:
    """Where cases are carried out: a folder, and sandboxes in it, one for each kind of faults.

    Attributes:
        lanes: runs at once.
        until_s: by the monotonic clock; no case is begun later.
        keep: whether the directories of what went wrong are kept.
        version: of the API.
        noise: the share of 429s without `Retry-After`; None: 5 % with one.
    """

    folder: Path
    seed: int
    lanes: int
    until_s: float
    keep: bool
    version: str = "v1"
    noise: float | None = None
    _places: dict[str, _Place] = field(default_factory=dict)
    _running: list[_Place] = field(default_factory=list)
    _opened: int = 0
    _requests: int = 0
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for place in [*self._running]:
            await self._close(place)

    @property
    def over(self) -> bool:
        return time.monotonic() > self.until_s

    @asynccontextmanager
    async def borrow(self, faults: Mapping[str, object], options: Sequence[str] = ()) -> AsyncIterator[Server]:
        """A sandbox with the usual faults and these, for one case."""
        kind = json.dumps([faults, options])
        async with self._opening:
            place = self._places.get(kind)
            if place is None or not place.left:
                if place is not None and not place.guests:
                    await self._close(place)
                place = self._places[kind] = await self._open(faults, options)
        place.left -= 1
        place.guests += 1
        try:
            yield place.server
        finally:
            place.guests -= 1
            if not place.guests and place is not self._places[kind]:
                await self._close(place)

    async def _open(self, faults: Mapping[str, object], options: Sequence[str]) -> _Place:
        self._opened += 1
        folder = self.folder / f"sandbox-{self._opened}"
        folder.mkdir()
        stack = AsyncExitStack()
        all_faults = {**faults_of_requests(self.noise), **faults}
        making = sandbox(folder, self.seed + self._opened, all_faults, version=self.version, options=options)
        server = await stack.enter_async_context(making)
        place = _Place(server, stack)
        self._running.append(place)
        return place

    async def _close(self, place: _Place) -> None:
        self._running.remove(place)
        self._requests += place.server.requests().total()
        await place.stack.aclose()

    def requests(self) -> int:
        """What all sandboxes were asked so far."""
        return self._requests + sum(place.server.requests().total() for place in self._running)
