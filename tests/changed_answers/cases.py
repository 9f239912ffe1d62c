"""Every case: each field of each answer that a run really gets, and everything that can become of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import trio
from trio.testing import MockClock

from classify_batch.errors import ExitStatus
from tests.changed_answers.changer import ALWAYS, JOB, KINDS, ONCE, SCOPES, Case, Changer
from tests.changed_answers.changes import BODY_CHANGES, FIELD_CHANGES, OTHER_FILE, OTHER_JOB, Given
from tests.changed_answers.fields import Path, values_by_path
from tests.changed_answers.run import run_to_end, small_laboratory
from tests.changed_answers.server import ChangingServer


@cache
def given_answers(version: str) -> Sequence[Given]:
    """The answers of a run against a server that changes none, in their order."""

    async def run() -> Sequence[Given]:
        with small_laboratory(version) as lab:
            server = ChangingServer(lab)
            assert await run_to_end(lab) == ExitStatus.COMPLETE
            return server.given

    return trio.run(run, clock=MockClock(autojump_threshold=0))


def make_cases(version: str) -> Iterator[Case]:
    """All cases of a version of the API that change at least one answer."""
    given = given_answers(version)
    for kind in KINDS:
        changes: list[tuple[Path, str]] = [((), each) for each in BODY_CHANGES] if kind != JOB else []
        changes += [
            (path, each)
            for path in values_by_path(bodies_of(kind, given))
            for each in (*FIELD_CHANGES, OTHER_JOB, OTHER_FILE)
        ]
        for path, change in changes:
            for scope in SCOPES:
                case = Case(version, kind, path, change, scope)
                if makes_a_difference(case, given):
                    yield case


def bodies_of(kind: str, given: Sequence[Given]) -> list[object]:
    """The bodies in which fields of a kind are."""
    bodies = [each.body for each in given if each.call in KINDS[kind]]
    if kind != JOB:
        return bodies
    return [job for body in bodies for job in body.get("items", [body])]


def makes_a_difference(case: Case, given: Sequence[Given]) -> bool:
    """Whether a case changes any of these answers; and others than the same change in another scope does."""
    if case.kind == JOB and case.scope == ONCE:  # as of the kind of the first answer
        return False
    changer = Changer(case)
    for each in given:
        changer.change(each)
        if changer.changed > (case.scope == ALWAYS):
            return True
    return False
