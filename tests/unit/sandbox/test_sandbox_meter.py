from random import Random

import pytest

from classify_batch.sandbox.server.bodies_v1 import decode_page_token, encode_page_token
from classify_batch.sandbox.server.meter import Meter, RateLimit, WindowLimit


def test_a_client_at_exactly_the_rate_is_never_refused() -> None:
    """A client that keeps exactly the rate is never refused."""
    limit = RateLimit(20)
    assert all(limit.try_to_pass(number / 20) for number in range(2_000))


def test_requests_beyond_the_rate_are_refused() -> None:
    """Over any time no more pass than the rate allows, beside the one second's worth at the start."""
    limit = RateLimit(10)
    assert sum(limit.try_to_pass(number / 1_000) for number in range(5_000)) == pytest.approx(60, abs=1)


def test_a_refused_request_does_not_delay_the_next() -> None:
    """Hammering doesn't put off the next pass."""
    limit = RateLimit(0.5)
    assert limit.try_to_pass(0.0)
    assert not any(limit.try_to_pass(number / 100) for number in range(1, 199))
    assert limit.try_to_pass(2.0)


def test_no_second_lets_more_creates_pass_than_the_limit() -> None:
    """However creates come, no second that begins anywhere lets more pass; and none is refused without need."""
    limit, random = WindowLimit(40), Random(1)
    passed: list[float] = []
    at_s = 1.7e9
    for _ in range(5_000):
        at_s += random.expovariate(60)
        full = len([each for each in passed[-40:] if each > at_s - 1]) == 40
        assert limit.try_to_pass(at_s) is not full
        if not full:
            passed.append(at_s)
    assert len(passed) < 5_000


@pytest.mark.parametrize("start_s", [0.1, 1.7e9])
def test_creates_at_exactly_the_limit_always_pass(start_s: float) -> None:
    """A client that keeps exactly the rate is never refused, whatever floats make of its times."""
    limit = WindowLimit(40)
    assert all(limit.try_to_pass(start_s + number / 40) for number in range(2_000))


def test_the_meter_finds_the_busiest_second() -> None:
    """The most requests in any window of one second, wherever it begins."""
    meter = Meter()
    for at_s in (0.0, 0.9, 1.1, 1.2, 1.89, 5.0):
        meter.count_arrival(at_s)
    assert meter.per_s_max == 4


def test_a_page_token_is_valid_for_its_own_list_only() -> None:
    """A token gives its position back, and is refused elsewhere or when made up."""
    token = encode_page_token("jobs of p", -(2**70))
    assert decode_page_token("jobs of p", token) == -(2**70)
    for place, bad in (("jobs of q", token), ("jobs of p", "2"), ("jobs of p", token[:-4]), ("jobs of p", "é")):
        with pytest.raises(ValueError, match="token"):
            decode_page_token(place, bad)
