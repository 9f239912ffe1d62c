"""Every case: each field of each answer that a run really gets, and everything that can become of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import trio
from trio.testing import MockClock

from classify_batch.errors import ExitStatus
from tests.changed_answers.changer import (
    ALWAYS,
    FOLDER,
    JOB,
    KINDS,
    ONCE,
    ONLY_CHANGED,
    SCOPES,
    TAKEN_OVER,
    TWO_LOST,
    Case,
    Changer,
)
from tests.changed_answers.changes import BODY_CHANGES, FIELD_CHANGES, OTHER_FILE, OTHER_JOB, Given
from tests.changed_answers.fields import Path, values_by_path
from tests.changed_answers.run import run_to_end, run_until_killed, small_laboratory
from tests.changed_answers.server import ChangingServer

UPLOAD_KINDS = ("content", "upload")


class GivenAnswers(NamedTuple):
    """The answers of a run against a server that changes none, in their order. `before`: those to the process that it
    takes over."""

    before: Sequence[Given]
    answers: Sequence[Given]


@cache
def given_answers(version: str, besides: str = ONLY_CHANGED) -> GivenAnswers:
    """What is there to be changed."""

    async def run() -> GivenAnswers:
        case = Case(version, "list", (), "null", ALWAYS, besides)
        with small_laboratory(version, besides) as lab:
            server = ChangingServer(lab, case.lost_creates)
            if besides == TAKEN_OVER:
                await run_until_killed(lab, server)
            before = len(server.given)
            assert await run_to_end(lab) == ExitStatus.COMPLETE
            return GivenAnswers(server.given[:before], server.given[before:])

    return trio.run(run, clock=MockClock(autojump_threshold=0))


def make_cases(version: str) -> Iterator[Case]:
    """All cases of a version of the API that change at least one answer."""
    yield from make_whole_cases(version, ONLY_CHANGED, [each for each in KINDS if each != JOB])
    yield from make_field_cases(version, ONLY_CHANGED, KINDS)
    for besides in (TWO_LOST, TAKEN_OVER):
        yield from make_whole_cases(version, besides, [each for each in KINDS if each != JOB])
    yield from make_whole_cases(version, FOLDER, UPLOAD_KINDS)
    yield from make_field_cases(version, FOLDER, UPLOAD_KINDS)


def make_whole_cases(version: str, besides: str, kinds: Iterable[str]) -> Iterator[Case]:
    """Whole answers changed."""
    for kind in kinds:
        yield from make_cases_of_kind(version, besides, kind, product([()], BODY_CHANGES))


def make_field_cases(version: str, besides: str, kinds: Iterable[str]) -> Iterator[Case]:
    """Fields changed."""
    given = given_answers(version, besides)
    for kind in kinds:
        changes = product(values_by_path(bodies_of(kind, given.answers)), (*FIELD_CHANGES, OTHER_JOB, OTHER_FILE))
        yield from make_cases_of_kind(version, besides, kind, changes)


def make_cases_of_kind(version: str, besides: str, kind: str, changes: Iterable[tuple[Path, str]]) -> Iterator[Case]:
    given = given_answers(version, besides)
    for path, change in changes:
        for scope in SCOPES:
            case = Case(version, kind, path, change, scope, besides)
            if makes_a_difference(case, given):
                yield case


def bodies_of(kind: str, given: Sequence[Given]) -> list[object]:
    """The bodies in which fields of a kind are."""
    bodies = [each.body for each in given if each.call in KINDS[kind]]
    if kind != JOB:
        return bodies
    return [job for body in bodies for job in body.get("items", [body])]


def makes_a_difference(case: Case, given: GivenAnswers) -> bool:
    """Whether a case changes any of these answers; and others than the same change in another scope does."""
    if case.kind == JOB and case.scope == ONCE:  # as of the kind of the first answer
        return False
    changer = Changer(case)
    for each in given.before:
        changer.note(each)
    for each in given.answers:
        changer.change(each)
        if changer.changed > (case.scope == ALWAYS):
            return True
    return False
