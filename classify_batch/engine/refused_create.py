"""What follows a create that the API refused: which files fail, and which go out again."""

from __future__ import annotations

import re
from collections import Counter

from classify_batch.errors import ApiError
from classify_batch.file_keys import file_key, file_keys
from classify_batch.lifecycle import remainder, split_in_halves
from classify_batch.model import Attempt, Failure, Part
from classify_batch.ports import Documents
from classify_batch.vocabulary import FailureCode

_FILE_NOT_IN_PROJECT = re.compile(r"\bFile ID (\S+) is not in\b")
"""`File ID … is not in Project ID …`: only this word is the file's ID; another word may be the ID of another file."""

_PUNCTUATION = "\"'`.,;:!?()[]{}<>…"
"""Punctuation around an ID in a message. An ID may contain it, too, so each word is compared with and without it."""

EXPIRED_MAX = 5
"""So often in a row a document is uploaded again for a create that found its upload gone: a server that keeps none
would ask for them without end."""


class ExpiredUploads:
    """Finds out whether a create was refused since uploads of it had expired.

    An upload was there right before its create waited for its turn; between them lies whatever the rate makes it wait.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._times: Counter[str] = Counter()

    async def were_reason(self, attempt: Attempt, error: ApiError) -> bool:
        """Whether what the refusal names, or anything of the attempt where it names nothing, is gone from the project.

        Raises:
            ApiError: the project's files can't be read now.
        """
        named = positions_named_in(attempt, error) or attempt.positions
        places = zip(attempt.positions, attempt.file_ids, attempt.sent_ids, strict=True)
        asked = {
            sent_id: file_id
            for position, file_id, sent_id in places
            if position in named and self._times[file_id] < EXPIRED_MAX
        }
        gone = await self._documents.gone([*asked]) if asked else set[str]()
        self._times.update(asked[sent_id] for sent_id in gone)
        return bool(gone)

    def forget_attempt(self, attempt: Attempt) -> None:
        """The attempt was accepted: its documents are there."""
        if self._times:
            for file_id in attempt.file_ids:
                self._times.pop(file_id, None)


def decide_refused_create(
    attempt: Attempt, error: ApiError, account: str | None = None
) -> tuple[list[Failure], tuple[Part, ...]]:
    """What follows a refusal: the files that it names fail, and the rest is sent again. Where it names none, both
    halves are sent again, down to the single file that is refused. `account`: who asked; another one's project may have
    the file."""
    words = f"HTTP {error.status}: {error.detail}"
    if account is not None:
        words += f" (account {account})"
    named = positions_named_in(attempt, error)
    if not named and len(attempt.positions) == 1:
        named = list(attempt.positions)  # it can only be this one
    failures = [Failure(position, FailureCode.REJECTED, words) for position in named]
    if not named:
        return [], split_in_halves(attempt.part, attempt.positions)
    rest = [position for position in attempt.positions if position not in set(named)]
    return failures, remainder(attempt.part, rest)


def positions_named_in(attempt: Attempt, error: ApiError) -> list[int]:
    """The files that an error names, by index or in its words, however it spells a UUID."""
    # An index is exact, and goes first. It comes from the server: one outside the list must end no run.
    by_index = [attempt.positions[i] for i in error.file_indexes if 0 <= i < len(attempt.positions)]
    if by_index:
        return sorted(set(by_index))
    pairs = list(zip(attempt.positions, file_keys(attempt.api_ids), strict=True))
    named = set(map(file_key, _FILE_NOT_IN_PROJECT.findall(error.detail)))
    if positions := [position for position, key in pairs if key in named]:
        return positions
    # Whole words only: a short ID may be a part of another one.
    words = {file_key(text) for word in error.detail.split() for text in (word, word.strip(_PUNCTUATION))}
    return [position for position, key in pairs if key in words]
