"""Temporary files: a thread writes, and nobody reads what isn't written yet."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_batch.errors import StoreError
from classify_batch.streams.spill import Limits, Spool, TemporaryFile


@given(st.lists(st.binary(max_size=200), max_size=200), st.integers(1, 999))
def test_what_is_added_can_be_read_at_once(pieces: list[bytes], file_bytes: int) -> None:
    """Each piece, from memory or from the file, before the next one is added and at the end."""
    with TemporaryFile(None, Limits(file_bytes=file_bytes)) as file:
        starts = []
        for piece in pieces:
            starts.append(file.append(piece))
            assert file.read(starts[-1], len(piece)) == piece
        assert [file.read(start, len(piece)) for start, piece in zip(starts, pieces, strict=True)] == pieces


def test_a_read_waits_for_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a slow disk has not taken yet is there when it is asked for."""
    asked, pwrite = Event(), os.pwrite

    def write_late(file: int, data: memoryview, start: int) -> int:
        asked.wait(0.2)
        return pwrite(file, data, start)

    monkeypatch.setattr(os, "pwrite", write_late)
    with Spool(None, Limits(file_bytes=1)) as spool:
        spool.add_ids(["abc", "def"])
        assert list(spool.replay_ids()) == [["abc", "def"]]
        asked.set()


def test_a_disk_that_takes_a_little_at_a_time_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that takes less than it was given goes on where it stopped."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, start: pwrite(file, data[:7], start))
    with TemporaryFile(None, Limits(file_bytes=50)) as file:
        pieces = [bytes([number]) * 20 for number in range(30)]
        starts = [file.append(piece) for piece in pieces]
        assert [file.read(start, 20) for start in starts] == pieces


def test_a_full_disk_is_told_by_the_next_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error of the thread comes out where the file is used again, and names the directory."""

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    with Spool(tmp_path, Limits(file_bytes=1)) as spool:
        spool.add_ids(["abc"])
        for _ in range(2):
            with pytest.raises(StoreError, match=f"temporary files in {tmp_path}: No space left on device"):
                list(spool.replay_ids())
        with pytest.raises(StoreError, match="No space left"):
            spool.add_ids(["def"])
