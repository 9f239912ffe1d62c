"""An attempt of which it is unknown whether it was accepted, and what the readings of the job list prove for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from classify_batch.engine.reconciler.match import digests_of
from classify_batch.model import Attempt


@dataclass(slots=True)
class AmbiguousAttempt:
    """An attempt one of whose calls may have been accepted.

    Attributes:
        accept_until_s: after that no call of the attempt can be accepted any more.
        give_up_s: from then on files that are still undecided fail as unresolved; due_s: when that was first noticed.
        transaction_id: identifies its job among all others, on an API that has transaction IDs.
        refusal: on such an API, the error with which a repeated call was refused after an earlier one may have been
            accepted. Empty: the call is repeated where no job is found. Otherwise its job may also be one that shows no
            transaction ID, and fits by all else.
        again_from_s: it is not to be sent again before.
        upload_expired: whether that was since an upload that it names is gone: then a new attempt sends a new one.
        first_complete_s, last_complete_s: when the first and the last complete reading of the list began, of those that
            began after `accept_until_s`.
        proven_from_s: when the first reading began after those two had shown every job that can be the attempt's. A job
            that is first shown later is not its job, though it may answer its files: other people never stop making
            jobs.
        incomplete_readings: how many readings began after `accept_until_s` and did not reach the list's end.
        list_was_read: whether any reading of the list has ended since it was added.
        is_read_for: whether the current reading began after it was added. A reading that was under way may have shown
            its job earlier, when nobody asked for it, and forgotten it.
    """

    attempt: Attempt
    accept_until_s: float
    give_up_s: float
    transaction_id: str | None = None
    refusal: str = ""
    upload_expired: bool = False
    again_from_s: float = 0.0
    first_complete_s: float | None = None
    last_complete_s: float | None = None
    proven_from_s: float = math.inf
    incomplete_readings: int = 0
    list_was_read: bool = False
    is_read_for: bool = False
    due_s: float | None = None
    digests: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.digests = digests_of(self.attempt.api_ids)

    def is_about_file(self, file_id: str | None) -> bool:
        """Whether a job's only file is the attempt's only file."""
        return file_id is not None and digests_of((file_id,)) == self.digests
