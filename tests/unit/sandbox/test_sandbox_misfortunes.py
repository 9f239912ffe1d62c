from collections import Counter
from itertools import product

import pytest

from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.sandbox.faults.request_faults import (
    CALLS,
    EVERY_CALL,
    MOMENTS,
    READS,
    SHORT_NAMES,
    SLOW,
    STATUSES,
    WHATS,
    CreateFaultSampler,
    Draw,
    FaultSampler,
    Misfortune,
    parse,
    sure,
)
from classify_batch.sandbox.server.fault_responses import make_fault_response


def test_every_name_of_the_grammar_means_what_it_says() -> None:
    """Each call meets each misfortune at each moment, by a name made of the three."""
    for call, moment, what in product(CALLS, MOMENTS, [*WHATS, "400", "599"]):
        misfortune = parse(f"{call}.{moment}.{what}")
        assert misfortune == Misfortune(CALLS[call], moment, what)
        dice = FaultSampler([(f"{call}.{moment}.{what}", 1.0)], seed=1)
        struck = {each for each in EVERY_CALL if dice.throw(each, moment) == sure(what)}
        assert struck == misfortune.calls
        other = MOMENTS[moment == "before"]
        assert {dice.throw(each, other) for each in EVERY_CALL} == {Draw()}


@pytest.mark.parametrize("name", ["", "create", "create.after", "x.after.502", "create.x.502", "create.after.399"])
def test_other_names_are_refused(name: str) -> None:
    """A name that isn't CALL.MOMENT.WHAT is a ValueError that says which part is wrong."""
    with pytest.raises(ValueError, match=r"one of|before or after"):
        parse(name)


def test_short_names_stand_for_full_ones() -> None:
    """Each short name is a misfortune, and no two are the same."""
    assert len({parse(name) for name in SHORT_NAMES.values()}) == len(SHORT_NAMES)


def test_misfortunes_come_as_often_as_told() -> None:
    """Each strikes with its probability; those that are told first go first."""
    dice = FaultSampler([("create.before.503", 0.1), ("any.before.reset", 0.2), ("create.after.close", 1)], seed=5)
    drawn = Counter(dice.throw("create", "before").what for _ in range(2_000))
    assert 160 < drawn["503"] < 240
    assert 300 < drawn["reset"] < 420
    assert drawn["close"] == 0


def test_slow_goes_with_any_other() -> None:
    """A slow request can meet something else besides, whichever was told first."""
    for rows in ([("any.after.slow", 1.0), ("any.after.502", 1.0)], [("get.after.slow", 1.0), ("get.after.cut", 1.0)]):
        assert FaultSampler(rows, seed=1).throw("get", "after") == Draw(True, rows[1][0].rpartition(".")[2])


def test_same_seed_same_misfortunes() -> None:
    """The seed decides."""

    def drawn(seed: int) -> list[Draw]:
        dice = FaultSampler([("read.before.503", 0.5)], seed)
        return [dice.throw("list", "before") for _ in range(50)]

    assert drawn(4) == drawn(4) != drawn(5)


def test_faults_of_creates_come_as_often_as_set() -> None:
    """With their probability, by the seed."""

    def drawn(seed: int, **probabilities: float) -> list[bool]:
        sampler = CreateFaultSampler(Faults.model_validate(probabilities).by_create(), seed)
        return [sampler.happens("create_slow") for _ in range(1_000)]

    slow = drawn(4, create_slow=0.3)
    assert 250 < sum(slow) < 350
    assert slow != drawn(5, create_slow=0.3)
    assert not any(drawn(4))


def test_everything_that_can_happen_has_a_face() -> None:
    """Each word and each status has something that a client gets, for reads and for creates, work done or not."""
    for what in (*WHATS.keys() - {SLOW}, *map(str, STATUSES)):
        for call in ("create", "get", "cancel", "delete"):
            response = make_fault_response(what, call, None, None)
            assert not what.isdigit() or response.status_code == int(what)
    assert len(READS) == 4
