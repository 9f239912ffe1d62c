"""SHA-256 beside the work whose bytes are hashed: hashlib lets go of the interpreter's lock, so a second core does it.

A thread asks for the lock again after every piece, and may wait 5 ms for it while others compute. So it gets large
pieces: what is added is held until there are a few MiB of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

PIECE_BYTES = 1 << 21


class BackgroundHashes:
    """Several SHA-256, one after the other in one thread; the thread is there from the first large piece on, and ends
    with the block of `with`. Where no thread can be started, the calling one hashes."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._can_start = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def new_hash(self) -> BackgroundHash:
        return BackgroundHash(self._submit_to_pool)

    def _submit_to_pool(self, hash_pieces: Callable[[], None]) -> Future[None]:
        if self._can_start:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="classify-batch-sha256")
            try:
                return self._pool.submit(hash_pieces)
            except RuntimeError:  # too little memory for its stack, or too many threads
                self._can_start = False
                self._pool.shutdown(cancel_futures=True)  # it still holds what it couldn't begin
        done: Future[None] = Future()
        hash_pieces()
        done.set_result(None)
        return done


class BackgroundHash:
    """The SHA-256 of all that is added. At most two pieces wait in memory."""

    def __init__(self, submit: Callable[[Callable[[], None]], Future[None]]) -> None:
        self._digest = hashlib.sha256()
        self._submit = submit
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._hashing: Future[None] | None = None

    def add_bytes(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= PIECE_BYTES:
            self._wait_for_hashing()
            piece = b"".join(self._held)
            self._hashing = self._submit(lambda: self._digest.update(piece))
            self._held, self._held_bytes = [], 0

    def hexdigest(self) -> str:
        """Of all that was added so far; ends it."""
        self._wait_for_hashing()
        self._digest.update(b"".join(self._held))
        self._held, self._held_bytes = [], 0
        return self._digest.hexdigest()

    def _wait_for_hashing(self) -> None:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None
