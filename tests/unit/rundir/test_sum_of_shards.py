"""A run with shards as one: what is added up, and what comes first where shards differ."""

from __future__ import annotations

from typing import Any

import pytest

from classify_batch.rundir.manifest_json import Manifest
from classify_batch.rundir.run_json import FORMAT, Reused, RunFile, ShardRange
from classify_batch.rundir.sum_of_shards import sum_of_shards


def shard(state: str = "complete", exit_status: int | None = 0, **keys: Any) -> Manifest:
    """The manifest of a shard of ten files."""
    manifest: Manifest = {
        "state": state,
        "reason": None,
        "exit_status": exit_status,
        "run_id": "r",
        "started_at": "2026-11-22T02:00:00.000Z",
        "stopped_at": "2026-11-22T03:00:00.000Z",
        "files": 10,
        "counts": {"classified": 8, "unmatched": 1, "failed": 1},
        "types": {"invoice": 8},
        "failure_codes": {"overdue": 1},
        "jobs": 2,
        "requests": 7,
        "journal_seq": 20,
        "credits": {"reserved": 50, "billed": 10},
    }
    return manifest | keys  # type: ignore[return-value]


def run_of(count: int, **keys: Any) -> RunFile:
    ranges: list[ShardRange] = [
        {"first_chunk": index, "chunks": 1, "files": 10, "start": 0, "end": 0, "sha256": ""} for index in range(count)
    ]
    settings = {"limits": {"tolerated_failure_percentage": 10.0}, "triage": {"accept_above": 0.5}}
    values: dict[str, Any] = {"files": 10 * count, "settings": settings, "shards": ranges, **keys}
    return RunFile(FORMAT, "r", "", identity={}, duplicates=3, chunks=count, plan_sha256="", **values)


def test_counts_are_sums() -> None:
    """Outcomes, types, codes, jobs, requests and credits, with what was reused; a bill only where each is known."""
    reused = Reused(1, 5, 1, 0, {"classified": 4, "unmatched": 1}, {"invoice": 3, "letter": 1}, accepted=2, runs=[])
    triage = {"accepted": 6, "review": 2, "unmatched": 1, "failed": 1}
    both = [shard(triage=triage), shard(triage=triage, types={"letter": 8})]
    now = sum_of_shards(run_of(2, reused=reused, files=25), both, "runs/today")
    assert now["counts"] == {"classified": 20, "unmatched": 3, "failed": 2}
    assert now["types"] == {"invoice": 11, "letter": 9}
    assert now["triage"] == {"accepted": 14, "review": 6, "unmatched": 3, "failed": 2}
    assert (now["failure_codes"], now["jobs"], now["requests"], now["reused"]) == ({"overdue": 2}, 4, 14, 5)
    assert now["credits"] == {"reserved": 100, "billed": 20}
    unbilled = sum_of_shards(run_of(2), [shard(), shard(credits={"reserved": 5, "billed": None})], "runs/today")
    assert unbilled["credits"] == {"reserved": 55, "billed": None}


@pytest.mark.parametrize(
    ("shards", "state", "exit_status", "reason"),
    [
        ([shard(), shard()], "complete", 0, None),
        ([shard(exit_status=1), shard(counts={"classified": 10, "unmatched": 0, "failed": 0})], "complete", 0, None),
        ([shard(counts={"classified": 8, "unmatched": 0, "failed": 2}), shard()], "complete", 1, None),
        ([shard(), shard("running", None)], "running", None, None),
        ([shard(), None], "incomplete", None, None),
        (
            [shard("incomplete", 75, reason="interrupted"), shard("incomplete", 77, reason="out of credits")],
            "incomplete",
            77,
            "shard 1: out of credits",
        ),
        ([shard("incomplete", 75, reason="interrupted"), shard()], "incomplete", 75, "shard 0: interrupted"),
    ],
)
def test_the_whole_is_as_its_shards(
    shards: list[Manifest | None], state: str, exit_status: int | None, reason: str | None
) -> None:
    """Running while one is, complete when all are; the tolerance is held against all files; a person comes first."""
    now = sum_of_shards(run_of(2), shards, "runs/today")
    assert (now["state"], now["exit_status"], now["reason"]) == (state, exit_status, reason)
    assert [each["shard"] for each in now["shards"]] == [0, 1]
    verb = {"running": "status", "complete": "resume" if exit_status == 1 else "verify", "incomplete": "resume"}[state]
    assert now["next"].startswith("classify-batch ")
    assert verb in now["next"] or exit_status == 1


def test_failures_are_counted_by_message() -> None:
    """The same message of two shards is one."""
    messages = [{"code": "overdue", "message": "too long", "files": 1}]
    both = [shard(failure_messages=messages, failures_read=1, failures_worth_a_retry=1) for _ in range(2)]
    now = sum_of_shards(run_of(2), list(both), "runs/today")
    assert now["failure_messages"] == [{"code": "overdue", "message": "too long", "files": 2}]
    assert (now["failures_read"], now["failures_worth_a_retry"]) == (2, 2)
