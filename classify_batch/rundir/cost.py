"""The most that files can cost.

Rates as the vendor publishes them, unless `[price]` says otherwise: FAST 1 credit a page, MULTIMODAL 2; 1,000 credits
cost $1.25; failed jobs are free. 5 pages of a file are read unless the parsing configuration says otherwise; where it
names `target_pages` and no `max_pages`, all of these may be.

To classify a parse job of one's own costs nothing, the vendor's SDK says (`usage.credits` "is 0"). No bill has proven
that to us, so it counts as nothing only until a bill says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from classify_batch.file_keys import is_parse_job
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
        parse_jobs: how many of the files are parse jobs, which count as free.
    """

    pages_per_file: int
    credits_per_page: tuple[float, ...]
    pages: int
    credits: float
    dollars: float
    parse_jobs: int = 0


class Price:
    """What parts can cost under a run's settings.

    Attributes:
        parse_jobs_are_free: until a bill says otherwise.
    """

    def __init__(self, settings: Settings) -> None:
        parsing = settings.job.parsing_configuration
        pages = max_pages_of(parsing)
        if parsing is not None and parsing.target_pages:
            pages = min(pages, len(set(parsing.target_pages)))
        self._specs = settings.specs
        self._rates = settings.price.credits_per_page
        self.pages_per_file = pages
        self.parse_jobs_are_free = settings.api.capabilities.takes_parse_jobs

    @property
    def credits_per_page_by_look(self) -> tuple[float, ...]:
        """Credits a page, by look."""
        return tuple(
            self._credits_per_page(spec) for spec in (self._specs.first, self._specs.second) if spec is not None
        )

    def cost_of_create(self, part: Part, file_ids: Sequence[str]) -> float:
        """The most that one create call can cost, in credits."""
        files = len(file_ids) - (sum(map(is_parse_job, file_ids)) if self.parse_jobs_are_free else 0)
        return files * self.pages_per_file * self._credits_per_page(self._specs.spec_of_part(part))

    def learn_bill(self, file_ids: Sequence[str], billed: float | None) -> bool:
        """Takes a job's bill. Returns whether it is the first one that says that parse jobs aren't free: from now on
        each counts like a file."""
        if not billed or not self.parse_jobs_are_free or not all(map(is_parse_job, file_ids)):
            return False
        self.parse_jobs_are_free = False
        return True

    def _credits_per_page(self, spec: JobSpec) -> float:
        rate: float = getattr(self._rates, spec.mode)
        return rate


def estimate_cost_max(files: int, settings: Settings, *, parse_jobs: int = 0) -> Cost:
    """The most that `files` files can cost: each is billed for all the pages that may be read of it, at every look.
    `parse_jobs`: how many of them are none."""
    price = Price(settings)
    pages_per_look = (files - parse_jobs) * price.pages_per_file
    credits, pages = (
        pages_per_look * sum(price.credits_per_page_by_look),
        pages_per_look * len(price.credits_per_page_by_look),
    )
    dollars = credits * settings.price.dollars_per_credit
    return Cost(price.pages_per_file, price.credits_per_page_by_look, pages, credits, dollars, parse_jobs)


def format_cost(cost: Cost) -> Iterator[str]:
    """The cost as lines for a person."""
    rates = ", then ".join(f"{rate:g}" for rate in cost.credits_per_page)
    yield (
        f"cost        at most {cost.credits:,.10g} credits, ${cost.dollars:,.2f}, {cost.pages:,} pages"
        f"  ({cost.pages_per_file} pages a file, {rates} {'credit' if rates == '1' else 'credits'} a page)"
    )
    if cost.parse_jobs:
        yield f"            {cost.parse_jobs:,} parse jobs among them count as free: the API's word, proven by no bill"
