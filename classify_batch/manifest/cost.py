"""The most that a plan can cost.

Rates as the vendor publishes them: FAST 1 credit a page, MULTIMODAL 2; 1,000 credits cost $1.25; failed jobs are free.
v1 reads 5 pages of a file unless told otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from classify_batch.records import JobSpec

PAGES_DEFAULT = 5
CREDITS_PER_PAGE = {"FAST": 1, "MULTIMODAL": 2}
DOLLARS_PER_CREDIT = 1.25 / 1000


@dataclass(frozen=True, slots=True)
class Cost:
    """An upper bound, in credits and dollars."""

    pages_per_file: int
    credits_per_page: int
    credits: int

    @property
    def dollars(self) -> float:
        return self.credits * DOLLARS_PER_CREDIT


def cost_of(files: int, spec: JobSpec) -> Cost:
    """The most that `files` files can cost: each is billed for all the pages that may be read of it."""
    parsing = spec.parsing_configuration
    pages = (parsing.max_pages if parsing is not None else None) or PAGES_DEFAULT
    if parsing is not None and parsing.target_pages is not None:
        pages = min(pages, len(set(parsing.target_pages)))
    rate = CREDITS_PER_PAGE[spec.mode]
    return Cost(pages, rate, files * pages * rate)
