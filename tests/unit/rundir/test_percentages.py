"""Shares that agree with the bounds beside them, and failures by message."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_batch.engine.stop_reasons import too_many_failures
from classify_batch.rundir.failure_messages import count_messages, is_worth_a_retry
from classify_batch.rundir.percentages import format_percentage, percentiles_of


@pytest.mark.parametrize(
    ("count", "total", "bound", "shown"),
    [
        (9, 1000, None, "0.9 %"),
        (0, 10, None, "0.0 %"),
        (10, 10, None, "100.0 %"),
        (1, 1_000_000, None, "0.0001 %"),
        (999_999, 1_000_000, None, "99.9999 %"),
        (1004, 100_000, 1.0, "1.004 %"),
        (1000, 100_000, 1.0, "1.0 %"),
        (96, 10_000, 1.0, "0.96 %"),
        (0, 0, None, "0.0 %"),
    ],
)
def test_a_share_is_never_rounded_over_a_bound(count: int, total: int, bound: float | None, shown: str) -> None:
    """Some are not 0.0 %, not all are not 100.0 %, and more than is allowed never reads as just what is allowed."""
    assert format_percentage(count, total, apart_from=bound) == shown


def test_the_reason_of_a_stop_names_what_it_is_a_share_of() -> None:
    """Jobs that are collected after the stop change the run's share, so the reason says of how many files it spoke."""
    stop = too_many_failures({"failed": 3, "classified": 97}, 1.0)
    assert stop is not None
    assert stop.reason == "3 of the first 100 files that were sent failed (3.0 %), and 1 % are allowed"
    close = too_many_failures({"failed": 1001, "classified": 98_999}, 1.0)
    assert close is not None
    assert "(1.001 %), and 1 %" in close.reason


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_are_values_in_order(values: list[float]) -> None:
    """Each is one of the values, and a higher one is never lower."""
    found = percentiles_of(values)
    assert found is not None
    assert found["count"] == len(values)
    assert found["p50"] <= found["p95"] <= found["p99"] <= round(max(values), 3)


def test_messages_that_differ_in_ids_are_one_message() -> None:
    """Counted together, up to what is committed; whether a retry may help is the code's and the message's to say."""
    lines = [
        {"file_id": f"file-{n}", "code": "job_error", "message": f"file-{n} in j{n}: TIMEOUT", "job_id": f"j{n}"}
        for n in range(3)
    ]
    lines.append({"file_id": "x", "code": "job_error", "message": "PDF_IS_BROKEN", "job_id": "j"})
    lines.append({"file_id": "not committed", "code": "rejected", "message": "no", "job_id": "j"})
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    messages, read, worth = count_messages(data + b'{"torn', 4)
    assert [(each["message"], each["files"]) for each in messages] == [
        ("FILE_ID in JOB_ID: TIMEOUT", 3),
        ("PDF_IS_BROKEN", 1),
    ]
    assert (read, worth) == (4, 3)
    assert not is_worth_a_retry("rejected")
