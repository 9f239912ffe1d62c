"""How many pages of a file are read where nobody says, and how many where somebody does."""

from __future__ import annotations

from classify_batch.settings.job_spec import ParsingConfiguration
from classify_batch.vocabulary import PAGES_MAX_DEFAULT


def max_pages_of(parsing: ParsingConfiguration | None, default: int = PAGES_MAX_DEFAULT) -> int:
    """How many pages of a file may be read, and paid.

    Where `max_pages` is unset, v1 reads `default` of them; whether that cuts `target_pages` short, no source says. So
    v2 is told to read as many as are named, and both are reckoned with all of them.
    """
    if parsing is None:
        return default
    return parsing.max_pages or max(default, len(set(parsing.target_pages or ())))
