"""What a person is advised to do about failures."""

from __future__ import annotations

from typing import cast

import pytest

from classify_batch.rundir.manifest_json import Manifest
from classify_batch.rundir.next_step import describe_retry


@pytest.mark.parametrize(
    ("failed", "worth", "words"),
    [
        (1, 0, "another try is no use: the API refused the file"),
        (1, 1, "another try may bring its answer"),
        (3, 0, "of the 3 failures none is worth a retry"),
        (3, 2, "of the 3 failures 2 are worth a retry"),
        (3, 3, "of the 3 failures all are worth a retry"),
    ],
)
def test_it_is_said_which_failures_are_worth_a_retry(failed: int, worth: int, words: str) -> None:
    """In a sentence that fits their number."""
    counts = {"counts": {"failed": failed}, "failures_read": failed, "failures_worth_a_retry": worth}
    assert describe_retry(cast("Manifest", counts)).startswith(words)
