"""Assesses settings, IDs and files: yields a finding for each problem.

Settings beyond a limit that the API documents are refused when they are loaded. Here are those that are valid but
unwise, as far as they change what a run does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from classify_batch.capabilities import Capabilities
from classify_batch.clock import to_iso
from classify_batch.file_keys import file_keys, is_parse_job, is_uuid
from classify_batch.inputs.parse_jobs import ONLY_V2, find_parse_jobs
from classify_batch.operations.check.estimate import PlanSize
from classify_batch.operations.check.findings import CountedExamples, Finding, Severity
from classify_batch.protocol.file_bodies import StoredFile
from classify_batch.protocol.page_limits import max_pages_of
from classify_batch.rundir.disk_space import NO_SPACE_HINT, FreeSpace, describe_missing_space
from classify_batch.settings import Settings
from classify_batch.settings.job_spec import DESCRIPTION_SURE_MAX, Rule
from classify_batch.vocabulary import PAGES_MAX_DEFAULT

UUIDS_SHARE_MIN = 0.9
"""Where so many IDs are UUIDs, the others are reported as odd. Only as a note: the API documents IDs as opaque."""


# --- Settings -------------------------------------------------------------------------------------------------------


def assess_settings(settings: Settings) -> Iterator[Finding]:
    """Settings that are valid but unwise."""
    for types in find_same_descriptions(settings.job.rules):
        yield Finding(
            Severity.WARNING,
            "same_description",
            f"the rules {types} have the same description: which of them a file gets is random",
            "say in each description how its files differ from those of the other rules",
        )
    yield from assess_descriptions(settings.job.rules)
    yield from assess_target_pages(settings)
    limits = settings.limits
    if limits.stop_at_failure_percentage < limits.tolerated_failure_percentage:
        yield Finding(
            Severity.WARNING,
            "stops_too_early",
            f"the run stops at {limits.stop_at_failure_percentage:g} % of failed files, and "
            f"{limits.tolerated_failure_percentage:g} % are tolerated",
            "set limits.stop_at_failure_percentage no lower than limits.tolerated_failure_percentage",
        )


def find_same_descriptions(rules: Sequence[Rule]) -> Iterator[str]:
    """The types of rules whose descriptions are the same but for case and spaces."""
    by_description: dict[str, list[str]] = {}
    for rule in rules:
        by_description.setdefault(" ".join(rule.description.casefold().split()), []).append(rule.type)
    for types in by_description.values():
        if len(types) > 1:
            yield " and ".join(map(repr, types))


def assess_descriptions(rules: Sequence[Rule]) -> Iterator[Finding]:
    """Descriptions that one of the vendor's references allows, and another one doesn't."""
    for rule in rules:
        if len(rule.description) > DESCRIPTION_SURE_MAX:
            yield Finding(
                Severity.WARNING,
                "long_description",
                f"the description of the rule {rule.type!r} has {len(rule.description):,} characters; one of the API's "
                f"references allows {DESCRIPTION_SURE_MAX}, another one more",
                f"say it in {DESCRIPTION_SURE_MAX} characters, or try a few files first",
            )


def assess_target_pages(settings: Settings) -> Iterator[Finding]:
    """Whether the API reads the pages that the settings name."""
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
    # Where a version reads all pages of a file unless told, a run sends its own max_pages with every job.
    sent = max_pages_of(parsing) if settings.api.capabilities.unset_pages_max is None else parsing.max_pages
    pages_max, last = sent or PAGES_MAX_DEFAULT, max(parsing.target_pages)
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


def assess_cost(size: PlanSize, settings: Settings) -> Iterator[Finding]:
    """Whether limits.max_credits may stop the run."""
    most = settings.limits.max_credits
    if most is not None and size.cost.credits > most:
        yield Finding(
            Severity.WARNING,
            "max_credits",
            f"the run can cost {size.cost.credits:,.10g} credits, and limits.max_credits is {most:,.10g}: "
            "it may stop before its end",
            "raise limits.max_credits, read fewer pages (max_pages), or give fewer files",
        )


def assess_disk_space(size: PlanSize, free: FreeSpace | None) -> Iterator[Finding]:
    """Whether the run may fill the disk."""
    if words := describe_missing_space(size.disk.total_bytes, free):
        yield Finding(Severity.WARNING, "disk_space", words, NO_SPACE_HINT)


def assess_run_dir(run_dir: Path) -> Iterator[Finding]:
    """Whether a run directory can be made there, or written to."""
    try:
        level = next(filter(_is_there, (run_dir, *run_dir.absolute().parents)))
        if not level.is_dir():
            yield from _refuse_run_dir(run_dir, f"{level} is no directory")
        elif not os.access(level, os.W_OK | os.X_OK):
            yield from _refuse_run_dir(run_dir, f"{level.absolute()} is read-only, or not this user's")
    except OSError as error:  # the name is too long, or the working directory is gone
        yield from _refuse_run_dir(run_dir, error.strerror or str(error))


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _refuse_run_dir(run_dir: Path, words: str) -> Iterator[Finding]:
    yield Finding(
        Severity.ERROR,
        "run_dir",
        f"{run_dir} can't be used as a run directory: {words}",
        "name a directory that this user may create or write to",
    )


# --- IDs ------------------------------------------------------------------------------------------------------------


def report_duplicates(count: int, examples: tuple[str, ...]) -> Iterator[Finding]:
    """Repeated IDs: each file is sent once."""
    if count:
        yield Finding(
            Severity.NOTE,
            "duplicates",
            f"{count:,} repeated {_file_ids_are(count)} left out (each file is sent once)",
            "nothing has to be done; if no ID should be repeated, check the program that wrote the input",
            count,
            examples,
        )


class ParseJobs:
    """Finds the parse jobs of the input."""

    def __init__(self) -> None:
        self._found = CountedExamples()

    @property
    def found_count(self) -> int:
        return self._found.count

    def add_file_ids(self, first: int, file_ids: Sequence[str]) -> list[str]:
        """Returns those that are none. `first`: the place of the first of them in the input."""
        if not find_parse_jobs(file_ids):
            return list(file_ids)
        self._found.add_numbered((at, each) for at, each in enumerate(file_ids, first) if is_parse_job(each))
        return [each for each in file_ids if not is_parse_job(each)]

    def findings(self, capabilities: Capabilities | None) -> Iterator[Finding]:
        """`capabilities`: of the API's version; None: nobody knows which it is."""
        if not self.found_count or capabilities is None:
            return
        are = "parse job is" if self.found_count == 1 else "parse jobs are"
        if capabilities.takes_parse_jobs:
            yield Finding(
                Severity.NOTE,
                "parse_jobs",
                f"{self.found_count:,} {are} among the files: whether they are there, and have ended, is not checked",
                "let them end first; classifying them costs nothing, the vendor says",
                self.found_count,
                self._found.examples,
            )
        else:
            yield Finding(
                Severity.ERROR,
                "parse_jobs",
                f"{self.found_count:,} {are} among the files, and this version of the API takes files only",
                ONLY_V2,
                self.found_count,
                self._found.examples,
            )


class OddIds:
    """Finds IDs that are not UUIDs while nearly all others are: a header, a name, a cut line."""

    def __init__(self) -> None:
        self._files = 0
        self._odd = CountedExamples()

    def add_file_ids(self, first: int, file_ids: Sequence[str]) -> None:
        """`first`: the place of the first of them in the input."""
        self._files += len(file_ids)
        self._odd.add_numbered((at, each) for at, each in enumerate(file_ids, first) if not is_uuid(each))

    def findings(self) -> Iterator[Finding]:
        count = self._odd.count
        if count and self._files - count >= UUIDS_SHARE_MIN * self._files:
            yield Finding(
                Severity.NOTE,
                "odd_ids",
                f"{count:,} {_file_ids_are(count)} no UUID, and the other {self._files - count:,} are",
                "is it a header, a name, or a line that was cut?",
                count,
                self._odd.examples,
            )


# --- Files ----------------------------------------------------------------------------------------------------------


class FilesInProject:
    """Finds the files of the input that the project doesn't hold, or that expire before the run can end.

    Args:
        now_s: the time by the server's clock.
        least_s: how long the run takes at least.
    """

    def __init__(self, now_s: float, least_s: float) -> None:
        self._now_s, self._ends_s = now_s, now_s + least_s
        self._absent, self._expired, self._expiring = CountedExamples(), CountedExamples(), CountedExamples()
        self._first_expires_s = float("inf")
        self.looked_up = 0

    def add_lookup(self, first: int, file_ids: Sequence[str], found: Sequence[StoredFile]) -> None:
        """Adds the answer to a lookup of `file_ids`: what the server found, in its own spelling of the IDs.

        `first`: the place of the first of them in the input.
        """
        found_keys = file_keys([file.id for file in found])
        expires = dict(zip(found_keys, [file.expires_at_s for file in found], strict=True))
        self.looked_up += len(file_ids)
        for key, numbered in zip(file_keys(file_ids), enumerate(file_ids, first), strict=True):
            if key not in expires:
                self._absent.add_numbered([numbered])
            # An expiry time that is missing or can't be read is None: the file is taken to stay.
            elif (at_s := expires[key]) is not None and at_s <= self._ends_s:
                (self._expired if at_s <= self._now_s else self._expiring).add_numbered([numbered])
                if at_s > self._now_s:
                    self._first_expires_s = min(self._first_expires_s, at_s)

    def findings(self) -> Iterator[Finding]:
        if count := self._absent.count:
            none = count == self.looked_up
            yield Finding(
                Severity.ERROR,
                "not_in_project",
                f"{count:,} {_file_ids_are(count)} not in the project" + (" (none of the input is)" if none else ""),
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
                f"{count:,} {_files_have(count)} expired",
                "upload them again (`classify-batch files upload`), and give the new IDs",
                count,
                self._expired.examples,
            )
        if count := self._expiring.count:
            yield Finding(
                Severity.WARNING,
                "expiring",
                f"{count:,} {_files_expire(count)} before the run can have ended, the first at "
                f"{to_iso(self._first_expires_s)}",
                "begin at once, raise the limits, give these files to a run of their own, or upload them again",
                count,
                self._expiring.examples,
            )


def lookup_refused(why: str) -> Finding:
    """The server refuses to look files up."""
    return Finding(
        Severity.WARNING,
        "not_looked_up",
        f"whether the files are in the project, and for how long, could not be checked: {why}",
        "the run finds out: files that are not in the project fail, and cost nothing",
    )


def _file_ids_are(count: int) -> str:
    return "file ID is" if count == 1 else "file IDs are"


def _files_have(count: int) -> str:
    return "file has" if count == 1 else "files have"


def _files_expire(count: int) -> str:
    return "file expires" if count == 1 else "files expire"
