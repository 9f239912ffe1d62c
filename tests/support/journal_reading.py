"""What a journal says of its run."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from classify_batch.rundir.journal.reader import ReplayReader
from classify_batch.rundir.journal.replay import RunSnapshot


def replay(data: bytes, chunks: int) -> RunSnapshot:
    """The snapshot that a journal leads to; a torn tail is left out."""
    snapshot, reader = RunSnapshot(chunks), ReplayReader("journal.jsonl")
    for entry, offset in reader.read_block(data):
        snapshot.replay_line(entry, offset)
    snapshot.end_reading()
    return snapshot


def as_if_read_singly(snapshot: RunSnapshot) -> RunSnapshot:
    """The same snapshot, none of whose attempts is on the fast path; the given one is left as it is."""
    same = copy.deepcopy(snapshot)
    same.expand_bulk_attempts()
    return same


def stands(snapshot: RunSnapshot) -> dict[str, Any]:
    """All that a resumed process goes on from; times to the second: facts wait for each other."""
    return {
        "states": bytes(snapshot.chunk_states),
        "done": (snapshot.done_chunks, snapshot.complete),
        "open": {
            key: (
                *(
                    open_attempt.part,
                    open_attempt.state,
                    open_attempt.job_id,
                    open_attempt.offset,
                    open_attempt.credits,
                    open_attempt.project_id,
                ),
                pytest.approx(open_attempt.since_s, abs=1.0),
            )
            for key, open_attempt in snapshot.open_attempts.items()
        },
        "holders": {
            open_attempt.job_id: snapshot.attempt_of_job(open_attempt.job_id)
            for open_attempt in snapshot.open_attempts.values()
            if open_attempt.job_id
        },
        "suspects": {key: snapshot.other_file_suspected(key) for key in snapshot.open_attempts},
        "waiting": sorted(snapshot.waiting_parts(), key=repr),
        "counts": (+snapshot.outcomes, +snapshot.types, +snapshot.codes, dict(snapshot.sums)),
        "ends": (snapshot.results_end, snapshot.failures_end, snapshot.provisional_end),
        "jobs": (snapshot.jobs, snapshot.jobs_in_flight, snapshot.job_id, snapshot.project_id),
        "times apart": snapshot.clocks_disagree,
        "durations": [round(each, 2) for each in snapshot.durations],
        "found": snapshot.found,
        "seq": snapshot.seq,
        "next": [snapshot.next_attempt(chunk) for chunk in range(len(snapshot.chunk_states))],
    }
