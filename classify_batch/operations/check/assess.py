"""Settings, IDs and files against what is known of them.

What the API documents as a limit is refused by the settings themselves. Here stands what is legal and unwise, and only
where it changes what a run does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from classify_batch.clock import to_iso
from classify_batch.file_keys import file_keys, is_uuid
from classify_batch.operations.check.estimate import Size
from classify_batch.operations.check.findings import Finding, Seen, Severity
from classify_batch.protocol.file_bodies import StoredFile
from classify_batch.protocol.page_limits import max_pages_of
from classify_batch.settings import Settings
from classify_batch.settings.job_spec import Rule
from classify_batch.vocabulary import PAGES_MAX_DEFAULT

UUIDS_SHARE_MIN = 0.9
"""From here on the IDs are UUIDs, and the others among them are odd. There is no such rule: IDs are opaque."""


# --- Settings -------------------------------------------------------------------------------------------------------


def judge_settings(settings: Settings) -> Iterator[Finding]:
    """What is legal and unwise."""
    for types in _same_descriptions(settings.job.rules):
        yield Finding(
            Severity.WARNING,
            "same_description",
            f"the rules {types} have the same description: which of them a file gets is left to chance",
            "say in each description what tells its files from the others'",
        )
    yield from _judge_pages(settings)
    limits = settings.limits
    if limits.stop_at_failure_percentage < limits.tolerated_failure_percentage:
        yield Finding(
            Severity.WARNING,
            "stops_too_early",
            f"the run stops at {limits.stop_at_failure_percentage:g} % of failed files, and "
            f"{limits.tolerated_failure_percentage:g} % are tolerated",
            "set limits.stop_at_failure_percentage no lower than limits.tolerated_failure_percentage",
        )


def _same_descriptions(rules: Sequence[Rule]) -> Iterator[str]:
    by_words: dict[str, list[str]] = {}
    for rule in rules:
        by_words.setdefault(" ".join(rule.description.casefold().split()), []).append(rule.type)
    for types in by_words.values():
        if len(types) > 1:
            yield " and ".join(map(repr, types))


def _judge_pages(settings: Settings) -> Iterator[Finding]:
    parsing = settings.job.parsing_configuration
    if parsing is None or parsing.target_pages is None:
        return
    if not parsing.target_pages:
        yield Finding(
            Severity.WARNING,
            "no_target_pages",
            "job.parsing_configuration.target_pages is an empty list: whether that means all pages or none, "
            "the API doesn't document",
            "leave it out, or name pages, counted from 0",
        )
        return
    told = max_pages_of(parsing) if settings.api.capabilities.unset_pages_max is None else parsing.max_pages
    pages_max, last = told or PAGES_MAX_DEFAULT, max(parsing.target_pages)
    if last >= pages_max:
        unset = " (the default)" if pages_max == PAGES_MAX_DEFAULT else " (as many as are named)"
        default = "" if parsing.max_pages else unset
        yield Finding(
            Severity.WARNING,
            "pages_not_read",
            f"target_pages goes up to page {last}, counted from 0, and max_pages is {pages_max}{default}: "
            "pages beyond may not be read",
            f"set max_pages = {last + 1}, and look at the cost below",
        )


def judge_cost(size: Size, settings: Settings) -> Iterator[Finding]:
    """Whether the run may have to stop for its own limit."""
    most = settings.limits.max_credits
    if most is not None and size.cost.credits > most:
        yield Finding(
            Severity.WARNING,
            "max_credits",
            f"the run can cost {size.cost.credits:,.10g} credits, and limits.max_credits is {most:,.10g}: "
            "it may stop before its end",
            "raise limits.max_credits, read fewer pages (max_pages), or give fewer files",
        )


# --- IDs ------------------------------------------------------------------------------------------------------------


def judge_duplicates(count: int, examples: tuple[str, ...]) -> Iterator[Finding]:
    if count:
        yield Finding(
            Severity.NOTE,
            "duplicates",
            f"{count:,} repeated {_ids(count)} left out (each file is sent once)",
            "nothing has to be done; look at what wrote the input if no ID should be in it twice",
            count,
            examples,
        )


class Oddities:
    """IDs that are not UUIDs, while nearly all others are: a header, a name, a cut line."""

    def __init__(self) -> None:
        self._files = 0
        self._odd = Seen()

    def look(self, first: int, file_ids: Sequence[str]) -> None:
        self._files += len(file_ids)
        self._odd.add((at, each) for at, each in enumerate(file_ids, first) if not is_uuid(each))

    def findings(self) -> Iterator[Finding]:
        count = self._odd.count
        if count and self._files - count >= UUIDS_SHARE_MIN * self._files:
            yield Finding(
                Severity.NOTE,
                "odd_ids",
                f"{count:,} {_ids(count)} no UUID, and the other {self._files - count:,} are",
                "is it a header, a name, or a line that was cut?",
                count,
                self._odd.examples,
            )


# --- Files ----------------------------------------------------------------------------------------------------------


class Standing:
    """How the files of the input stand in the project.

    Args:
        now_s: by the server's clock.
        least_s: how long the run takes at least.
    """

    def __init__(self, now_s: float, least_s: float) -> None:
        self._now_s, self._ends_s = now_s, now_s + least_s
        self._absent, self._expired, self._expiring = Seen(), Seen(), Seen()
        self._first_expires_s = float("inf")
        self.looked_up = 0

    def look(self, first: int, file_ids: Sequence[str], found: Sequence[StoredFile]) -> None:
        """Takes what the server knows of some IDs, which it may spell otherwise.

        `first`: the place of the first of them in the input.
        """
        found_keys = file_keys([file.id for file in found])
        expires = dict(zip(found_keys, [file.expires_at_s for file in found], strict=True))
        self.looked_up += len(file_ids)
        for key, numbered in zip(file_keys(file_ids), enumerate(file_ids, first), strict=True):
            if key not in expires:
                self._absent.add([numbered])
            elif (at_s := expires[key]) is not None and at_s <= self._ends_s:
                (self._expired if at_s <= self._now_s else self._expiring).add([numbered])
                if at_s > self._now_s:
                    self._first_expires_s = min(self._first_expires_s, at_s)

    def findings(self) -> Iterator[Finding]:
        if count := self._absent.count:
            none = count == self.looked_up
            yield Finding(
                Severity.ERROR,
                "not_in_project",
                f"{count:,} {_ids(count)} not in the project" + (" (none of the input is)" if none else ""),
                "the key or api.project_id is probably another project's"
                if none
                else "leave them out, or upload the files again; in a run each of them fails",
                count,
                self._absent.examples,
            )
        if count := self._expired.count:
            yield Finding(
                Severity.ERROR,
                "expired",
                f"{count:,} {_files(count)} expired",
                "upload them again (`classify-batch files upload`), and give the new IDs",
                count,
                self._expired.examples,
            )
        if count := self._expiring.count:
            yield Finding(
                Severity.WARNING,
                "expiring",
                f"{count:,} {_expire(count)} before the run can have ended, the first at "
                f"{to_iso(self._first_expires_s)}",
                "begin at once, raise the limits, give these files to a run of their own, or upload them again",
                count,
                self._expiring.examples,
            )


def not_looked_up(why: str) -> Finding:
    """The server doesn't tell how files stand."""
    return Finding(
        Severity.WARNING,
        "not_looked_up",
        f"whether the files are in the project, and for how long, could not be checked: {why}",
        "a run finds out by itself: files that are not there fail, and cost nothing",
    )


def _ids(count: int) -> str:
    return "file ID is" if count == 1 else "file IDs are"


def _files(count: int) -> str:
    return "file has" if count == 1 else "files have"


def _expire(count: int) -> str:
    return "file expires" if count == 1 else "files expire"
