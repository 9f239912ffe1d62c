from collections import Counter
from itertools import product

import pytest

from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.sandbox.faults.request_faults import (
    CALLS,
    EVERY_CALL,
    PHASES,
    READS,
    SHORT_NAMES,
    SLOW,
    STATUSES,
    WHATS,
    CreateFaultSampler,
    Draw,
    FaultSampler,
    RequestFault,
    certain_draw,
    parse_request_fault,
)
from classify_batch.sandbox.server.fault_responses import make_fault_response


def test_each_fault_name_affects_its_calls_in_its_phase() -> None:
    """A name CALL.MOMENT.WHAT affects its calls, in its phase, and nothing else."""
    for call, phase, what in product(CALLS, PHASES, [*WHATS, "400", "599"]):
        fault = parse_request_fault(f"{call}.{phase}.{what}")
        assert fault == RequestFault(CALLS[call], phase, what)
        sampler = FaultSampler([(f"{call}.{phase}.{what}", 1.0)], seed=1)
        calls = {each for each in EVERY_CALL if sampler.draw_fault(each, phase) == certain_draw(what)}
        assert calls == fault.calls
        other = PHASES[phase == "before"]
        assert {sampler.draw_fault(each, other) for each in EVERY_CALL} == {Draw()}


@pytest.mark.parametrize("name", ["", "create", "create.after", "x.after.502", "create.x.502", "create.after.399"])
def test_a_malformed_fault_name_is_refused(name: str) -> None:
    """A name that isn't CALL.MOMENT.WHAT is a ValueError that says which part is wrong."""
    with pytest.raises(ValueError, match=r"one of|before or after"):
        parse_request_fault(name)


def test_short_names_stand_for_different_faults() -> None:
    """Each short name is a fault, and no two are the same."""
    assert len({parse_request_fault(name) for name in SHORT_NAMES.values()}) == len(SHORT_NAMES)


def test_request_faults_come_with_their_probabilities() -> None:
    """Each comes with its probability; those that are given first are drawn first."""
    sampler = FaultSampler([("create.before.503", 0.1), ("any.before.reset", 0.2), ("create.after.close", 1)], seed=5)
    drawn = Counter(sampler.draw_fault("create", "before").what for _ in range(2_000))
    assert 160 < drawn["503"] < 240
    assert 300 < drawn["reset"] < 420
    assert drawn["close"] == 0


def test_a_slow_request_can_meet_another_fault_too() -> None:
    """A slow request can meet another fault as well, whichever was given first."""
    for rows in ([("any.after.slow", 1.0), ("any.after.502", 1.0)], [("get.after.slow", 1.0), ("get.after.cut", 1.0)]):
        assert FaultSampler(rows, seed=1).draw_fault("get", "after") == Draw(True, rows[1][0].rpartition(".")[2])


def test_the_same_seed_draws_the_same_faults() -> None:
    """The seed decides."""

    def drawn(seed: int) -> list[Draw]:
        sampler = FaultSampler([("read.before.503", 0.5)], seed)
        return [sampler.draw_fault("list", "before") for _ in range(50)]

    assert drawn(4) == drawn(4) != drawn(5)


def test_create_faults_come_with_their_probabilities() -> None:
    """With their probability, by the seed."""

    def drawn(seed: int, **probabilities: float) -> list[bool]:
        sampler = CreateFaultSampler(Faults.model_validate(probabilities).create_probabilities(), seed)
        return [sampler.happens_to_next("create_slow") for _ in range(1_000)]

    slow = drawn(4, create_slow=0.3)
    assert 250 < sum(slow) < 350
    assert slow != drawn(5, create_slow=0.3)
    assert not any(drawn(4))


def test_every_fault_has_a_response() -> None:
    """Each word and each status has something that a client gets, for reads and for creates, work done or not."""
    for what in (*WHATS.keys() - {SLOW}, *map(str, STATUSES)):
        for call in ("create", "get", "cancel", "delete"):
            response = make_fault_response(what, call, None, None)
            assert not what.isdigit() or response.status_code == int(what)
    assert len(READS) == 4
