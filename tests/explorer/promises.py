"""What must hold in every state of the model, checked where it could be broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from classify_batch.model import AnsweredFile, Attempt, Failure, Part
from classify_batch.vocabulary import FailureCode
from tests.explorer.model_state import State
from tests.explorer.server_model import ABSENT, ANSWERED, Call, CallState

PAID_ONCE = "no create holds a file that an accepted job answers or may yet answer"
PROVEN_ATTEMPTS = "no file uses up an attempt without proof that a job held it"
PROVEN_MODE = "no outcome tells a mode that its job may not have had"
ONE_OUTCOME = "each file has exactly one outcome"
OPEN_ONLY = "a file is unresolved only where nothing can decide it"

ALL_PROMISES = frozenset({PAID_ONCE, PROVEN_ATTEMPTS, PROVEN_MODE, ONE_OUTCOME, OPEN_ONLY})


class Broken(NamedTuple):
    """A promise, and how it is broken."""

    promise: str
    words: str


class End(NamedTuple):
    """What becomes of an attempt's files. `shown_until_s`: a job that is first shown later is not the attempt's."""

    attempt: Attempt
    answers: Sequence[AnsweredFile]
    failures: Sequence[Failure]
    again: tuple[Part, ...]
    gave_up: bool
    shown_until_s: float


def broken_by_create(state: State, call: Call) -> Iterator[Broken]:
    """Before a create leaves. A second look pays once more, on purpose: all calls of a model are of the same look."""
    for other in state.calls.values():
        if other.key is None:
            continue
        for file_id in set(call.files).intersection(other.files):
            if other.may_answer(file_id):
                does = "answers" if other.state is CallState.ENDED else "may yet answer"
                yield Broken(PAID_ONCE, f"{call.job_id} is sent with {file_id}, which {other.job_id} {does}")


def broken_by_end(state: State, end: End) -> Iterator[Broken]:
    """Before an attempt ends."""
    had = {outcome.file_id for outcome in state.outcomes}
    files = dict(zip(end.attempt.positions, end.attempt.file_ids, strict=True))
    for file_id in [each.file_id for each in end.answers] + [files[each.position] for each in end.failures]:
        if file_id in had:
            yield Broken(ONE_OUTCOME, f"{file_id} has one, and gets another")
        had.add(file_id)
    for answer in end.answers:
        told, mode = answer.mode, state.calls[answer.job_id].mode
        if told not in (None, mode):
            yield Broken(PROVEN_MODE, f"{answer.file_id} is said to be {told}, and its job was {mode}")
    chunk_size = len(state.chunk(end.attempt.key.chunk))
    for part in end.again:
        for position in part.positions(chunk_size):
            yield from _unproven(state, files[position], part.bad_jobs + part.shared_bad_jobs)
    for failure in end.failures:
        if failure.code is FailureCode.UNRESOLVED:
            yield from _decidable(state, end, files[failure.position])
        else:
            yield from _unproven(state, files[failure.position], state.server.scenario.attempts)


def broken_by_completion(state: State) -> Iterator[Broken]:
    """When a run is over."""
    found = sorted(outcome.file_id for outcome in state.disk.outcomes)
    wanted = sorted(file_id for chunk in state.server.scenario.chunks for file_id in chunk)
    if found != wanted:
        yield Broken(ONE_OUTCOME, f"the outcomes are of {found}")


def _unproven(state: State, file_id: str, counted: int) -> Iterator[Broken]:
    """A job has held a file when it was ours and has the file among its own, or when it names it; an attempt is used up
    when it has ended without an answer."""
    held = sum(_held_in_vain(call, file_id) for call in state.calls.values())
    if counted > held:
        yield Broken(PROVEN_ATTEMPTS, f"{file_id} has used up {counted}, and {held} jobs have held it in vain")


def _held_in_vain(call: Call, file_id: str) -> bool:
    if call.state is not CallState.ENDED or file_id not in call.files:
        return False
    mark = call.mark(file_id)
    return mark != ANSWERED and (call.key is not None or mark != ABSENT)


def _decidable(state: State, end: End, file_id: str) -> Iterator[Broken]:
    scenario = state.server.scenario
    mode = "MULTIMODAL" if end.attempt.part.first is not None else "FAST"
    possible = [call for call in state.calls.values() if not scenario.modes_shown or call.mode == mode]
    for call in possible:
        if _was_to_be_taken(state, end, call) and file_id in call.files and call.mark(file_id) == ANSWERED:
            yield Broken(OPEN_ONLY, f"{file_id} is unresolved, and {call.job_id}, which was seen, answers it")
    undecided = any(_may_still_answer(state, end, call) for call in possible)
    if end.gave_up and not undecided and not state.list_failed:
        yield Broken(OPEN_ONLY, f"{file_id} is unresolved, and every job has shown its answers")


def _was_to_be_taken(state: State, end: End, call: Call) -> bool:
    """Nobody looks at a stranger's job that is older than the intent, or was seen before it; and nobody waits for one
    that comes when it is already known that there is none of our own."""
    if call.key is not None or not call.end_shown:
        return call.end_shown
    first_s, intended_s = call.first_shown_s or 0, end.attempt.intended_s or 0
    return intended_s <= first_s < end.shown_until_s and not state.server.scenario.shown_times


def _may_still_answer(state: State, end: End, call: Call) -> bool:
    if call.state is CallState.NO_JOB or (call.first_shown_s or 0) >= end.shown_until_s:
        return False
    if call.state is not CallState.ENDED:
        return True
    return not call.end_shown or state.now - call.ended_s < state.server.scenario.settle_s
