"""Which processes live: of real ones, in each state that a number can outlive them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from classify_batch.store.disk import DiskStore
from classify_batch.store.processes import is_alive, start_of

LEADER_ENDS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@contextmanager
def process(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Python, which is killed at the end."""
    with subprocess.Popen([sys.executable, "-c", code]) as started:
        try:
            yield started
        finally:
            started.kill()


def until_in_state(pid: int, state: str) -> None:
    """Waits for a state of a process, by the letter of /proc."""
    ends_s = time.monotonic() + 120
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def test_a_living_process_lives() -> None:
    """One that sleeps is alive, has a start, and is neither once its parent has asked for its end."""
    with process("import time; time.sleep(60)") as sleeping:
        assert is_alive(sleeping.pid)
        assert start_of(sleeping.pid)
        sleeping.kill()
        sleeping.wait()
        assert not is_alive(sleeping.pid)
        assert not start_of(sleeping.pid)


def test_one_that_ended_and_was_not_asked_for_is_dead() -> None:
    """A killed process whose parent has not asked for its end keeps its number, and is dead."""
    with process("import time; time.sleep(60)") as killed:
        killed.kill()
        until_in_state(killed.pid, "Z")
        os.kill(killed.pid, 0)  # the number is still its own
        assert not is_alive(killed.pid)
        assert not start_of(killed.pid)


def test_one_whose_first_thread_ended_lives() -> None:
    """A process of which another thread is still at work is alive, though its first thread has ended."""
    with process(LEADER_ENDS) as half:
        until_in_state(half.pid, "Z")
        assert is_alive(half.pid)
        assert start_of(half.pid)


@pytest.mark.parametrize("pid", [0, -1, 1 << 40])
def test_a_number_that_is_no_process_is_dead(pid: int) -> None:
    """Numbers below 1 and beyond any process are nobody."""
    assert not is_alive(pid)


def test_what_a_killed_process_left_is_swept_before_its_parent_asks(tmp_path: Path) -> None:
    """The next holder of the lock removes what a killed process left half-written, though its number isn't free yet."""
    with process("import time; time.sleep(60)") as killed:
        killed.kill()
        until_in_state(killed.pid, "Z")
        left = tmp_path / f".failures.jsonl.{killed.pid}.2d3c4d61.tmp"
        left.touch()

        async def take_over() -> None:
            async with DiskStore(tmp_path) as store:
                await store.prepare()
                async with store.lock():
                    assert not left.exists()

        anyio.run(take_over)
