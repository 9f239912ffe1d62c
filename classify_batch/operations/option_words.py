"""Arguments that are one of a few words, as programs give them: as a word, or as the enum's member."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from classify_batch.errors import UsageError

Word = TypeVar("Word", bound=StrEnum)


def word_of(kind: type[Word], argument: str, value: str | None) -> Word | None:
    """The member of `kind` that a word means. Raises UsageError for a word that means none."""
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{argument}={value!r} is not known", hint=f"it is one of: {', '.join(kind)}") from None
