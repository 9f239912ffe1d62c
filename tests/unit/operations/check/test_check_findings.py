"""What a check makes of settings, IDs and files, without any of the I/O."""

from __future__ import annotations

import random
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from classify_batch.errors import ApiError, ExitStatus, SourceError, Verdict
from classify_batch.operations.check.assess import FilesInProject, OddIds, assess_cost, assess_settings
from classify_batch.operations.check.estimate import estimate_size
from classify_batch.operations.check.findings import (
    EXAMPLES_MAX,
    CountedExamples,
    Finding,
    Severity,
    exit_status_of,
    finding_from_error,
)
from classify_batch.operations.check.report import format_duration
from classify_batch.protocol.file_bodies import StoredFile
from classify_batch.settings import Settings

RULES = [{"type": "a", "description": "the first of them"}, {"type": "b", "description": "the second of them"}]


def settings(rules: list[dict[str, str]] = RULES, parsing: dict[str, Any] | None = None, **sections: Any) -> Settings:
    return Settings(job={"rules": rules, "parsing_configuration": parsing}, **sections)


def codes(**values: Any) -> list[str]:
    return [finding.code for finding in assess_settings(settings(**values))]


def test_sound_settings_have_no_finding() -> None:
    """Nothing is said of what is as it should be."""
    assert codes() == codes(parsing={"max_pages": 3, "target_pages": [0, 2]}) == codes(parsing={"lang": "de"}) == []


def test_descriptions_that_differ_in_case_and_spaces_are_the_same() -> None:
    """Case and blanks make no difference to a reader."""
    same = [*RULES, {"type": "c", "description": "The  first of THEM"}]
    (finding,) = assess_settings(settings(same))
    assert (finding.severity, finding.code) == (Severity.WARNING, "same_description")
    assert "'a' and 'c'" in finding.message


@pytest.mark.parametrize(
    ("characters", "found"), [(500, []), (501, ["long_description"]), (2000, ["long_description"])]
)
def test_descriptions_of_which_the_vendor_says_two_things(characters: int, found: list[str]) -> None:
    """One reference of v1 allows 500 characters, another one 2,000."""
    assert codes(rules=[{"type": "a", "description": "d" * characters}]) == found


@pytest.mark.parametrize(
    ("parsing", "found"),
    [
        ({"target_pages": [4]}, []),
        ({"target_pages": [5]}, ["pages_not_read"]),
        ({"target_pages": [5], "max_pages": 6}, []),
        ({"target_pages": [0, 1], "max_pages": 1}, ["pages_not_read"]),
        ({"target_pages": []}, ["no_target_pages"]),
    ],
)
def test_target_pages_beyond_max_pages_are_a_warning(parsing: dict[str, Any], found: list[str]) -> None:
    """Pages are counted from 0, and without `max_pages` 5 are read."""
    assert codes(parsing=parsing) == found


def test_v2_is_sent_as_many_max_pages_as_are_targeted() -> None:
    """So they are read, where they are the first ones; of v1 nobody says whether its 5 hold for them, too."""
    first = {"target_pages": [*range(7)]}
    assert codes(parsing=first, api={"version": "v2"}) == []
    assert codes(parsing=first) == ["pages_not_read"]
    beyond = {"target_pages": [*range(6), 9]}
    (finding,) = assess_settings(settings(parsing=beyond, api={"version": "v2"}))
    assert "max_pages is 7 (as many as are named)" in finding.message


def test_the_least_time_follows_from_the_slower_rate() -> None:
    """It follows from the slower of the two rates; v2's creates have the documented 40 a second unless set."""
    v2 = {"version": "v2"}
    assert estimate_size(1000, 0, settings(limits={"requests_per_s": 2})).least_s == 10
    assert estimate_size(1001, 0, settings(limits={"requests_per_s": 2})).least_s == 11
    assert estimate_size(1000, 0, settings(limits={"requests_per_s": 2, "creates_per_s": 0.5})).least_s == 20
    assert estimate_size(1000, 0, settings(limits={"requests_per_s": 100}, api=v2)).least_s == 25
    assert estimate_size(1000, 0, settings(limits={"requests_per_s": 20}, api=v2)).least_s == 50
    assert estimate_size(1000, 0, settings(limits={"requests_per_s": 99, "creates_per_s": 80}, api=v2)).least_s == 12.5
    assert estimate_size(1000, 0, settings(limits={"jobs_in_flight": 4})).times_a_job == 2.5
    assert estimate_size(1000, 0, settings(limits={"jobs_in_flight": 0})).times_a_job == 0


def test_a_cost_above_max_credits_is_a_warning() -> None:
    """A bound that the run can reach is no finding; one that it can pass is."""
    told = settings(limits={"max_credits": 50})
    assert [*assess_cost(estimate_size(10, 0, told), told)] == []
    assert [each.code for each in assess_cost(estimate_size(11, 0, told), told)] == ["max_credits"]
    assert [*assess_cost(estimate_size(11, 0, settings()), settings())] == []


def test_ids_are_odd_where_nine_in_ten_are_uuids() -> None:
    """IDs are opaque: only where at least nine in ten are UUIDs, the others are odd."""
    for uuids, found in ((9, [1]), (8, []), (0, [])):
        odd_ids = OddIds()
        odd_ids.add_file_ids(0, ["odd"])
        odd_ids.add_file_ids(1, [str(uuid5(NAMESPACE_URL, str(number))) for number in range(uuids)])
        assert [finding.count for finding in odd_ids.findings()] == found


def test_uuids_are_not_odd_in_any_spelling() -> None:
    """A UUID in upper case, without hyphens or in braces is no header and no cut line."""
    uuids = [str(uuid5(NAMESPACE_URL, str(number))) for number in range(30)]
    odd_ids = OddIds()
    odd_ids.add_file_ids(0, [*uuids, uuids[0].upper(), uuids[1].replace("-", ""), f"{{{uuids[2]}}}", uuids[3][:-1]])
    assert [finding.examples for finding in odd_ids.findings()] == [(uuids[3][:-1],)]


def test_a_file_is_found_in_another_spelling_of_its_id() -> None:
    """Files that the project lists in lower case are found by IDs in upper case, which findings name as given."""
    there, gone, absent = (str(uuid5(NAMESPACE_URL, name)).upper() for name in ("there", "gone", "absent"))
    found = [StoredFile(id=there.lower()), StoredFile(id=gone.lower(), expires_at="1970-01-01T00:00:00Z")]
    files = FilesInProject(1000.0, 10.0)
    files.add_lookup(0, [there, gone, absent, "ODD"], [*found, StoredFile(id="odd")])
    told = [(each.code, each.examples) for each in files.findings()]
    assert told == [("not_in_project", (absent, "ODD")), ("expired", (gone,))]


def test_examples_are_the_first_ids_whatever_the_order() -> None:
    """Answers come in no order, and the report is the same every time."""
    numbered = [(number, f"f{number}") for number in range(200)]
    random.Random(1).shuffle(numbered)
    seen = CountedExamples()
    for each in numbered:
        seen.add_numbered([each])
    assert (seen.count, seen.examples) == (200, tuple(f"f{number}" for number in range(EXAMPLES_MAX)))


def test_files_expire_at_their_time_and_soon_before() -> None:
    """At its `expires_at`, and in danger until the run can have ended; an unreadable time says nothing."""
    moments = {"gone": "1970-01-01T00:16:40Z", "soon": "1970-01-01T00:16:50Z", "kept": "1970-01-01T00:16:50.001Z"}
    found = [StoredFile(id=each, expires_at=moment) for each, moment in moments.items()]
    found += [StoredFile(id="null"), StoredFile.model_validate({"id": "odd", "expires_at": 7})]
    files = FilesInProject(1000.0, 10.0)
    files.add_lookup(0, [*moments, "null", "odd", "absent"], found)
    told = [(each.severity, each.code, each.examples) for each in files.findings()]
    assert told == [
        (Severity.ERROR, "not_in_project", ("absent",)),
        (Severity.ERROR, "expired", ("gone",)),
        (Severity.WARNING, "expiring", ("soon",)),
    ]
    assert files.looked_up == 6


def test_the_exit_status_is_that_of_the_worst_error() -> None:
    """Only errors count; what waiting can't fix goes before what it can."""
    down = finding_from_error("api", ApiError("list", Verdict.DOWN, "no"))
    refused = finding_from_error("api", ApiError("list", Verdict.KEY_REFUSED, "no"))
    bad = finding_from_error("input", SourceError("no"))
    warning = Finding(Severity.WARNING, "w", "", "")
    assert exit_status_of([]) is exit_status_of([warning]) is ExitStatus.COMPLETE
    assert exit_status_of([warning, down]) is ExitStatus.INCOMPLETE
    assert exit_status_of([down, refused]) is ExitStatus.PERSON
    assert exit_status_of([down, refused, bad]) is ExitStatus.USAGE


def test_durations_have_two_units() -> None:
    """Two units, and never nothing."""
    assert [format_duration(each) for each in (0.01, 59.4, 61, 3599.7, 500_000)] == [
        *("1 s", "59 s", "1 min 1 s", "1 h 0 min", "138 h 53 min")
    ]
