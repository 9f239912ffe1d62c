"""The most that files can cost.

Rates as the vendor publishes them, unless `[price]` says otherwise: FAST 1 credit a page, MULTIMODAL 2; 1,000 credits
cost $1.25; failed jobs are free. 5 pages of a file are read unless the parsing configuration says otherwise; where it
names `target_pages` and no `max_pages`, all of these may be.
"""

from __future__ import annotations

from dataclasses import dataclass

from classify_batch.model import Part
from classify_batch.protocol.page_limits import max_pages_of
from classify_batch.settings import Settings
from classify_batch.settings.job_spec import JobSpec


@dataclass(frozen=True, slots=True)
class Cost:
    """An upper bound, in pages, credits and dollars.

    Attributes:
        pages_per_file: read at each look.
        credits_per_page: at the first look, and at the second where there is one.
        pages: in all: a second look reads them again.
    """

    pages_per_file: int
    credits_per_page: tuple[float, ...]
    pages: int
    credits: float
    dollars: float


class Price:
    """What parts can cost under a run's settings."""

    def __init__(self, settings: Settings) -> None:
        parsing = settings.job.parsing_configuration
        pages = max_pages_of(parsing)
        if parsing is not None and parsing.target_pages:
            pages = min(pages, len(set(parsing.target_pages)))
        self._specs = settings.specs
        self._rates = settings.price.credits_per_page
        self.pages_per_file = pages

    @property
    def rates(self) -> tuple[float, ...]:
        """Credits a page, by look."""
        return tuple(
            self._credits_per_page(spec) for spec in (self._specs.first, self._specs.second) if spec is not None
        )

    def of(self, part: Part, files: int) -> float:
        """The most that one create call can cost, in credits."""
        return files * self.pages_per_file * self._credits_per_page(self._specs.of(part))

    def _credits_per_page(self, spec: JobSpec) -> float:
        rate: float = getattr(self._rates, spec.mode)
        return rate


def cost_of(files: int, settings: Settings) -> Cost:
    """The most that `files` files can cost: each is billed for all the pages that may be read of it, at every look."""
    price = Price(settings)
    credits = files * price.pages_per_file * sum(price.rates)
    pages = files * price.pages_per_file * len(price.rates)
    return Cost(price.pages_per_file, price.rates, pages, credits, credits * settings.price.dollars_per_credit)
