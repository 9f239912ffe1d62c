"""What a journal says of its run."""

from __future__ import annotations

from classify_batch.rundir.journal.reader import Reader
from classify_batch.rundir.journal.replay import RunSnapshot


def replay(data: bytes, chunks: int) -> RunSnapshot:
    """The snapshot that a journal leads to; a torn tail is left out."""
    snapshot, reader = RunSnapshot(chunks), Reader("journal.jsonl")
    for entry, offset in reader.feed(data):
        snapshot.read(entry, offset)
    snapshot.end_reading()
    return snapshot
