"""What follows a create that the API refused for good (400, 413, 422): pure."""

from __future__ import annotations

import re

from classify_batch.errors import ApiError
from classify_batch.lifecycle import halves, remainder
from classify_batch.model import Attempt, Failure, Part
from classify_batch.vocabulary import FailureCode

_FILE_NOT_IN_PROJECT = re.compile(r"\bFile ID (\S+) is not in\b")
"""`File ID … is not in Project ID …`: only this word is the file's ID; another word may be the ID of another file."""

_PUNCTUATION = "\"'`.,;:!?()[]{}<>…"
"""Punctuation around an ID in a message. An ID may contain it, too, so each word is compared with and without it."""


def decide_refused_create(attempt: Attempt, error: ApiError) -> tuple[list[Failure], tuple[Part, ...]]:
    """What follows a refusal: the files that it names fail, and the rest is sent again. Where it names none, both
    halves are sent again, down to the single file that is refused."""
    words = f"HTTP {error.status}: {error.detail}"
    named = positions_named_in(attempt, error)
    if not named and len(attempt.positions) == 1:
        named = list(attempt.positions)  # it can only be this one
    failures = [Failure(position, FailureCode.REJECTED, words) for position in named]
    if not named:
        return [], halves(attempt.part, attempt.positions)
    rest = [position for position in attempt.positions if position not in set(named)]
    return failures, remainder(attempt.part, rest)


def positions_named_in(attempt: Attempt, error: ApiError) -> list[int]:
    """The files that an error names, by index or in its words."""
    # An index is exact, and goes first. It comes from the server: one outside the list must end no run.
    by_index = [attempt.positions[i] for i in error.file_indexes if 0 <= i < len(attempt.positions)]
    if by_index:
        return sorted(set(by_index))
    pairs = list(zip(attempt.positions, attempt.api_ids, strict=True))
    named = set(_FILE_NOT_IN_PROJECT.findall(error.detail))
    if positions := [position for position, file_id in pairs if file_id in named]:
        return positions
    # Whole words only: a short ID may be a part of another one.
    words = {text for word in error.detail.split() for text in (word, word.strip(_PUNCTUATION))}
    return [position for position, file_id in pairs if file_id in words]
