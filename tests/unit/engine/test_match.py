"""Whose job is it: only a definite difference speaks against a candidate, and only its results for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.engine.reconciler.match import ORDER_ITEMS_MIN, ExpectedJob, NewestFirst, digests_of
from classify_batch.model import JobView
from classify_batch.settings.job_spec import JobSpec, ParsingConfiguration, Rule

patient = settings(deadline=None)  # a busy machine is no fault

RULES = (
    Rule(type="invoice", description="has line items and a total"),
    Rule(type="letter", description="has a salutation and a signature"),
)
SPEC = JobSpec(rules=RULES, parsing_configuration=ParsingConfiguration(lang="en", max_pages=5))
PAIRS = frozenset((rule.type, rule.description) for rule in RULES)


def may_be(spec: JobSpec = SPEC, **shown: Any) -> bool:
    return ExpectedJob.from_spec(spec).agrees_with(JobView("j", "PENDING", **shown))


def test_a_server_may_leave_everything_out() -> None:
    """A job of which nothing but an id is shown may be ours."""
    assert may_be()


@pytest.mark.parametrize(
    "shown",
    [
        {"rules": frozenset(sorted(PAIRS, reverse=True))},
        {"rules": frozenset()},
        {"mode": "FAST"},
        {"parsing_configuration": {}},
        {"parsing_configuration": {"lang": "en", "max_pages": 5, "target_pages": None}},
        {"parsing_configuration": {"lang": None, "more": "than we know"}},
        {"created_at_s": 0.0},
        {"project_id": "whichever", "error_message": "whatever", "transaction_id": "anybody's"},
    ],
)
def test_what_agrees_or_says_nothing_leaves_it_open(shown: dict[str, Any]) -> None:
    """Rules compare as a set; what a server adds, drops or defaults is no difference, and time is judged elsewhere."""
    assert may_be(**shown)


@pytest.mark.parametrize(
    "shown",
    [
        {"mode": "fast"},
        {"mode": " Fast"},
        {"rules": frozenset((kind.upper(), f" {words.capitalize()}\r\n") for kind, words in PAIRS)},
        {"rules": frozenset((kind, words.replace(" ", "\u00a0 ")) for kind, words in PAIRS)},
        {"parsing_configuration": {"lang": "EN", "max_pages": "5"}},
        {"parsing_configuration": {"max_pages": 5.0, "target_pages": [2, "0"]}},
    ],
)
def test_another_spelling_is_no_difference(shown: dict[str, Any]) -> None:
    """A server that stores modes in lower case or trims what people wrote shows our own job so. If that ruled it out,
    its files were paid again."""
    pages = ParsingConfiguration(lang="en", max_pages=5, target_pages=(0, 2))
    assert may_be(JobSpec(rules=RULES, parsing_configuration=pages), **shown)


@pytest.mark.parametrize(
    "shown",
    [
        {"rules": PAIRS - {("letter", "has a salutation and a signature")}},
        {"rules": PAIRS | {("more", "than what we have sent")}},
        {"rules": frozenset({("invoice", "in other words"), ("letter", "has a salutation and a signature")})},
        {"mode": "MULTIMODAL"},
        {"parsing_configuration": {"lang": "de", "max_pages": 5}},
        {"parsing_configuration": {"max_pages": 6}},
    ],
)
def test_a_definite_difference_rules_a_job_out(shown: dict[str, Any]) -> None:
    """In a field that we set and the server returned."""
    assert not may_be(**shown)


def test_what_we_did_not_set_is_no_difference() -> None:
    """The server's own defaults are its affair."""
    spec = JobSpec(rules=RULES)
    assert may_be(spec=spec, parsing_configuration={"lang": "en", "max_pages": 5})


# --- File IDs as digests ---------------------------------------------------------------------------------------------


@patient
@given(st.sets(st.text(max_size=8), max_size=20), st.sets(st.text(max_size=8), max_size=20))
def test_digests_tell_ids_apart(ours: set[str], theirs: set[str]) -> None:
    """As the IDs themselves do, whatever they are made of."""
    assert len(digests_of(ours)) == len(ours)
    assert len(digests_of(ours) & digests_of(theirs)) == len(ours & theirs)
    assert all(0 <= each < 1 << 64 for each in digests_of(ours))


def test_a_digest_is_the_files_and_not_the_spellings() -> None:
    """A UUID means the same file in upper case; any other ID doesn't. A lone surrogate is no reason to fall over."""
    uuid = "0a6b7c1e-3d2f-4a5b-8c9d-0e1f2a3b4c5d"
    assert digests_of([uuid]) == digests_of([uuid.upper()]) == digests_of([f"{{{uuid}}}"])
    assert digests_of(["file"]) != digests_of(["FILE"])
    assert len(digests_of(["\ud800", "\udfff"])) == 2


# --- Where to stop reading -------------------------------------------------------------------------------------------

TIMES = st.lists(st.floats(-1000, 1000) | st.none(), max_size=60)


@patient
@given(TIMES, st.floats(-1000, 1000), st.integers(1, 20), st.booleans())
def test_the_rest_of_a_list_is_left_unread_only_if_it_is_newest_first(
    times: list[float | None], since_s: float, page_size: int, descending: bool
) -> None:
    """Stopping is right only where every job so far descends, there are enough of them, and the last one was made
    before what is looked for."""
    if descending:
        times = [*sorted((time_s for time_s in times if time_s is not None), reverse=True)]
    order, seen = NewestFirst(since_s), list[float | None]()
    for start in range(0, len(times), page_size):
        page = times[start : start + page_size]
        seen += page
        passed = order.has_passed(JobView("j", "SUCCESS", created_at_s=time_s) for time_s in page)
        known = [time_s for time_s in seen if time_s is not None]
        descends = len(known) == len(seen) and known == sorted(known, reverse=True)
        assert passed == (descends and len(seen) >= ORDER_ITEMS_MIN and known[-1] < since_s)
