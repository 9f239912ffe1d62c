"""Every case: each field of each answer that a run really gets, and everything that can become of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import trio
from trio.testing import MockClock

from classify_batch.errors import ExitStatus
from tests.changed_answers.changer import (
    ALWAYS,
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
        with small_laboratory(version) as lab:
            server = ChangingServer(lab, case.lost_creates)
            if besides == TAKEN_OVER:
                await run_until_killed(lab, server)
            before = len(server.given)
            assert await run_to_end(lab) == ExitStatus.COMPLETE
            return GivenAnswers(server.given[:before], server.given[before:])

    return trio.run(run, clock=MockClock(autojump_threshold=0))


def make_cases(version: str) -> Iterator[Case]:
    """All cases of a version of the API that change at least one answer."""
    given = given_answers(version)
    for kind in KINDS:
        changes: list[tuple[Path, str]] = [((), each) for each in BODY_CHANGES] if kind != JOB else []
        changes += [
            (path, each)
            for path in values_by_path(bodies_of(kind, given.answers))
            for each in (*FIELD_CHANGES, OTHER_JOB, OTHER_FILE)
        ]
        for path, change in changes:
            for scope in SCOPES:
                case = Case(version, kind, path, change, scope)
                if makes_a_difference(case, given):
                    yield case
    for besides in (TWO_LOST, TAKEN_OVER):
        yield from make_double_cases(version, besides)


def make_double_cases(version: str, besides: str) -> Iterator[Case]:
    """Whole answers changed, while more goes wrong besides."""
    given = given_answers(version, besides)
    for kind in (each for each in KINDS if each != JOB):
        for change in BODY_CHANGES:
            for scope in SCOPES:
                case = Case(version, kind, (), change, scope, besides)
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
