"""Whose job is it: only a definite difference speaks against a candidate, and only its results for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.records import (
    Answer,
    Attempt,
    AttemptKey,
    JobSpec,
    JobView,
    ParsingConfiguration,
    Part,
    Rule,
)
from classify_batch.stages.reconciler.match import (
    ORDER_ITEMS_MIN,
    ORDER_MARGIN_S,
    TIME_MARGIN_S,
    Doubt,
    NewestFirst,
    answered_files,
    could_be_ours,
)

patient = settings(deadline=None)  # a busy machine is no fault

SINCE_S = 1_700_000_000.0
UNTIL_S = SINCE_S + 60
SETTLE_S = 20.0
RULES = (
    Rule(type="invoice", description="has line items and a total"),
    Rule(type="letter", description="has a salutation and a signature"),
)
SPEC = JobSpec(rules=RULES, parsing_configuration=ParsingConfiguration(lang="en", max_pages=5))
PAIRS = frozenset((rule.type, rule.description) for rule in RULES)


def doubt() -> Doubt:
    attempt = Attempt(AttemptKey(0, 1), Part(0), ("a", "b"), (0, 1), SINCE_S)
    return Doubt(attempt, until_s=UNTIL_S)


def could_be(skew_s: float | None = 0.0, spec: JobSpec = SPEC, **shown: Any) -> bool:
    return could_be_ours(JobView("j", "PENDING", **shown), doubt(), spec, skew_s, SETTLE_S)


def test_a_server_may_leave_everything_out() -> None:
    """A job of which nothing but an id is shown could be ours."""
    assert could_be()


@pytest.mark.parametrize(
    "shown",
    [
        {"rules": frozenset(sorted(PAIRS, reverse=True))},
        {"rules": frozenset()},
        {"mode": "FAST"},
        {"parsing_configuration": {}},
        {"parsing_configuration": {"lang": "en", "max_pages": 5, "target_pages": None}},
        {"parsing_configuration": {"lang": None, "more": "than we know"}},
        {"created_at_s": SINCE_S},
        {"created_at_s": SINCE_S - TIME_MARGIN_S},
        {"created_at_s": UNTIL_S + SETTLE_S + TIME_MARGIN_S},
    ],
)
def test_what_agrees_or_says_nothing_leaves_it_open(shown: dict[str, Any]) -> None:
    """Rules compare as a set; what a server adds, drops or defaults is no difference."""
    assert could_be(**shown)


@pytest.mark.parametrize(
    "shown",
    [
        {"rules": PAIRS - {("letter", "has a salutation and a signature")}},
        {"rules": PAIRS | {("more", "than what we have sent")}},
        {"rules": frozenset({("invoice", "in other words"), ("letter", "has a salutation and a signature")})},
        {"mode": "MULTIMODAL"},
        {"parsing_configuration": {"lang": "de", "max_pages": 5}},
        {"parsing_configuration": {"max_pages": 6}},
        {"created_at_s": SINCE_S - TIME_MARGIN_S - 0.1},
        {"created_at_s": UNTIL_S + SETTLE_S + TIME_MARGIN_S + 0.1},
    ],
)
def test_a_definite_difference_rules_a_job_out(shown: dict[str, Any]) -> None:
    """In a field that we set and the server returned."""
    assert not could_be(**shown)


def test_what_we_did_not_set_is_no_difference() -> None:
    """The server's own defaults are its affair."""
    spec = JobSpec(rules=RULES)
    assert could_be(spec=spec, parsing_configuration={"lang": "en", "max_pages": 5})


@patient
@given(st.floats(-1e6, 1e6), st.floats(0, 80))
def test_times_are_compared_by_the_servers_clock(skew_s: float, after_s: float) -> None:
    """However wrong it goes; as long as it is unknown, times say nothing."""
    created_at_s = SINCE_S + after_s + skew_s
    assert could_be(skew_s, created_at_s=created_at_s)
    assert could_be(None, created_at_s=created_at_s)
    assert not could_be(skew_s, created_at_s=created_at_s - 200)


def test_what_shows_too_late_is_not_ours() -> None:
    """Once the list was read a settling time after the first look, a job that shows later is another's."""
    settled = doubt()
    settled.shown = frozenset({"j"})
    assert could_be_ours(JobView("j", "PENDING"), settled, SPEC, 0.0, SETTLE_S)
    assert not could_be_ours(JobView("k", "PENDING"), settled, SPEC, 0.0, SETTLE_S)


# --- Results ---------------------------------------------------------------------------------------------------------


def of(file_id: str | None, *, answered: bool = True) -> Answer:
    return Answer(file_id, answered)


@pytest.mark.parametrize(
    ("status", "answers", "files"),
    [
        ("SUCCESS", [of("a"), of("b")], {"a", "b"}),
        ("PARTIAL_SUCCESS", [of("a"), of("b", answered=False)], {"a"}),
        ("PARTIAL_SUCCESS", [of("a", answered=False)], set()),
        ("SUCCESS", [of("a"), of(None)], {"a"}),
        ("SUCCESS", [of(None)], None),
        ("SUCCESS", [], None),
        ("PARTIAL_SUCCESS", [], set()),
        ("PARTIAL_SUCCESS", [of(None)], set()),
        ("PARTIAL_SUCCESS", [of(None), of("a", answered=False)], set()),
    ],
)
def test_results_tell_by_the_files_that_they_answer(status: str, answers: list[Answer], files: set[str] | None) -> None:
    """An answer without a file's name says nothing of whose job it is; one that answers nothing was not paid."""
    assert answered_files(JobView("j", status), answers) == files


# --- Where to stop reading -------------------------------------------------------------------------------------------

TIMES = st.lists(st.floats(-1000, 1000) | st.none(), max_size=60)


@patient
@given(TIMES, st.integers(1, 20), st.booleans())
def test_the_rest_of_a_list_is_left_unread_only_if_it_is_newest_first(
    times: list[float | None], page_size: int, descending: bool
) -> None:
    """Stopping is right only where every job so far descends, there are enough of them, and the last is well before."""
    if descending:
        times = [*sorted((time_s for time_s in times if time_s is not None), reverse=True)]
    order, seen = NewestFirst(0.0), list[float | None]()
    for start in range(0, len(times), page_size):
        page = times[start : start + page_size]
        seen += page
        passed = order.passed(JobView("j", "SUCCESS", created_at_s=time_s) for time_s in page)
        known = [time_s for time_s in seen if time_s is not None]
        descends = len(known) == len(seen) and known == sorted(known, reverse=True)
        assert passed == (descends and len(seen) >= ORDER_ITEMS_MIN and known[-1] < -ORDER_MARGIN_S)
