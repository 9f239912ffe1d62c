"""Sequential tests of a share of 429s, held against the shares that they are to tell apart."""

from __future__ import annotations

from random import Random

import pytest

from classify_batch.limits.sequential_test import Cusum, SequentialTest, Verdict


def decide(share: float, test: SequentialTest, random: Random) -> Verdict:
    while test.verdict is None:
        test.add_answer(refused=random.random() < share)
    return test.verdict


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.05), (0.02, 0.1), (0.05, 0.2), (0.5, 0.9)])
def test_it_is_seldom_wrong_and_soon_done(low: float, high: float) -> None:
    """Wald's bound on errors holds, with fewer answers than a fixed number would take."""
    random = Random(1)
    for share, wrong in ((low, Verdict.HIGH), (high, Verdict.LOW)):
        tests = [SequentialTest(low, high, odds=10, answers_max=10_000) for _ in range(2000)]
        errors = sum(decide(share, test, random) is wrong for test in tests)
        assert errors / len(tests) < 0.1
        assert sum(test.answered for test in tests) / len(tests) < 150


def test_a_test_without_further_answers_takes_the_likelier_share() -> None:
    """Once the answers are used up, the likelier share is taken."""
    random = Random(1)
    test = SequentialTest(0.01, 0.012, odds=1000, answers_max=50)
    decide(0.0, test, random)
    assert (test.answered, test.verdict, test.share) == (50, Verdict.LOW, 0.0)


def test_a_share_that_rises_is_noticed() -> None:
    """Within some dozens of answers, and hardly ever where it didn't rise; the past delays nothing."""
    random = Random(1)
    quiet = Cusum(0.01, 0.05, decisive=4.0)
    false_alarms = 0
    for _ in range(10_000):
        quiet.add_answer(refused=random.random() < 0.01)
        if quiet.has_alarm:
            false_alarms += 1
            quiet = Cusum(0.01, 0.05, decisive=4.0)
    assert false_alarms < 10
    late: list[int] = []
    for _ in range(200):
        cusum = Cusum(0.01, 0.05, decisive=4.0)
        for _ in range(1000):
            cusum.add_answer(refused=random.random() < 0.01)
            if cusum.has_alarm:
                break
        if cusum.has_alarm:
            continue
        late.append(0)
        while not cusum.has_alarm:
            cusum.add_answer(refused=random.random() < 0.2)
            late[-1] += 1
    assert sorted(late)[len(late) // 2] < 25


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (1.0, 1.0), (0.9, 0.1)])
def test_impossible_shares_are_borne(low: float, high: float) -> None:
    """Nothing is surer than a thousandth, and the higher share is always the higher one."""
    test = SequentialTest(low, high, odds=10, answers_max=100_000)
    assert 0 < test.low < test.high < 1
    assert decide(0.0, SequentialTest(low, high, odds=10, answers_max=100_000), Random(1)) is Verdict.LOW
    assert decide(1.0, SequentialTest(low, high, odds=10, answers_max=100_000), Random(1)) is Verdict.HIGH
