"""Hashing in the background says what hashing at once says."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from hashlib import sha256

import pytest

from classify_batch.streams.hashing import PIECE_BYTES, BackgroundHashes

SIZES = (0, 1, PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES + 7)


@pytest.mark.parametrize("size", SIZES)
def test_a_background_hash_is_the_hash_of_all_that_was_added(size: int) -> None:
    """However the bytes come in pieces, and whatever is hashed beside them."""
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    other = data[::-1]
    with BackgroundHashes() as hashes:
        one, two = hashes.new_hash(), hashes.new_hash()
        for start in range(0, len(data), 100_003):
            one.add_bytes(data[start : start + 100_003])
            two.add_bytes(other[start : start + 100_003])
        assert (one.hexdigest(), two.hexdigest()) == (sha256(data).hexdigest(), sha256(other).hexdigest())


WITHOUT_THREADS = """
import resource, threading
from hashlib import sha256
from classify_batch.streams.hashing import PIECE_BYTES, BackgroundHashes

threading.stack_size(1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
piece = bytes(range(256)) * (PIECE_BYTES // 256)
with BackgroundHashes() as hashes:
    one = hashes.new_hash()
    for _ in range(4):
        one.add_bytes(piece)
    assert one.hexdigest() == sha256(piece * 4).hexdigest()
assert threading.active_count() == 1
"""


def test_where_no_thread_can_be_started_the_hash_is_the_same() -> None:
    """Under a limit of memory in which no thread's stack has room: each piece is hashed once."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_THREADS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_thread_outlives_the_hashing() -> None:
    """Whoever leaves early, because the disk is full, leaves no thread behind."""
    before = threading.active_count()
    with suppress(OSError), BackgroundHashes() as hashes:
        hashes.new_hash().add_bytes(bytes(PIECE_BYTES))
        assert threading.active_count() == before + 1
        raise OSError("the disk is full")
    assert threading.active_count() == before
