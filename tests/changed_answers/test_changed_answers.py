"""Whatever a server makes of an answer: a run ends, nothing is lost, and nothing is paid twice.

Each field of each answer that a run really gets is changed in every way, in one answer, in all, or for one job; and so
is each answer as a whole. The answer to one create is lost besides, since that is when most rests on what is shown.
Whole answers are changed also where two such answers are lost, and where a run is killed early and the next process
takes it over. Where the input is a folder, the answers about its documents are changed. A new field is covered by
itself: the fields are found in the answers of the sandbox.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.changed_answers.cases import UPLOAD_KINDS, given_answers, make_cases
from tests.changed_answers.changer import FOLDER, KINDS, Case
from tests.changed_answers.known import KNOWN, reason_to_fail
from tests.changed_answers.run import carry_out

VERSIONS = ("v1", "v2")


def parameters() -> Iterator[object]:
    for version in VERSIONS:
        for case in make_cases(version):
            reason = reason_to_fail(str(case))
            marks = () if reason is None else pytest.mark.xfail(reason=reason)
            yield pytest.param(case, id=str(case), marks=marks)


@pytest.mark.anyio
@pytest.mark.parametrize("case", list(parameters()))
async def test_a_changed_answer_costs_nothing_twice_and_loses_nothing(case: Case) -> None:
    """The run ends in bounded time with a documented status, each file has one outcome and is paid once, results say
    what was answered; and where it isn't complete, the same holds when it goes on with a server that changes nothing.
    """
    assert await carry_out(case) == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_run_gets_every_kind_of_answer(version: str) -> None:
    """Else nothing would be changed in some: v2 has no results apart from its jobs."""
    calls = {each.call for each in given_answers(version).answers}
    assert calls == set(KINDS["job"]) | {"files"} | ({"results"} if version == "v1" else set())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_folder_is_looked_up_and_uploaded(version: str) -> None:
    """Else nothing would be changed in the answers about its documents."""
    assert {each.call for each in given_answers(version, FOLDER).answers} >= set(UPLOAD_KINDS)


@pytest.mark.parametrize("version", VERSIONS)
def test_lists_of_more_than_one_page_are_read(version: str) -> None:
    """Much rests on a list's end: page tokens have to be among what is changed."""
    with_tokens = {each.call for each in given_answers(version).answers if each.body.get("next_page_token")}
    assert with_tokens == ({"list", "results"} if version == "v1" else {"list"})


def test_each_known_fault_is_a_case() -> None:
    """One that no case is any more would be forgotten otherwise."""
    names = {str(case) for version in VERSIONS for case in make_cases(version)}
    assert names.issuperset(name for known in KNOWN.values() for name in known)
