"""How many pages of a file the API reads at most, and so how many may be billed."""

from __future__ import annotations

from classify_batch.settings.job_spec import ParsingConfiguration
from classify_batch.vocabulary import PAGES_MAX_DEFAULT


def max_pages_of(parsing: ParsingConfiguration | None, default: int = PAGES_MAX_DEFAULT) -> int:
    """How many pages of a file may be read, and billed.

    Where `max_pages` is unset, v1 reads `default` pages. Whether that also limits `target_pages` is not documented. So
    v2 is asked to read all pages that are named, and the cost of both versions is estimated with all of them.
    """
    if parsing is None:
        return default
    return parsing.max_pages or max(default, len(set(parsing.target_pages or ())))
