"""How long jobs will still take, by those that ended before: pure."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.cli.rendering.throughput import Throughput
from classify_batch.engine.poller.durations import Age, Durations
from classify_batch.engine.poller.watch import AGES_MAX, PollSchedule
from classify_batch.model import Attempt, AttemptKey, Job, Part

patient = settings(deadline=None)  # a busy machine is no fault
KNOWN_S = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=40)


def job(number: int, *, timed: bool = True) -> Job:
    attempt = Attempt(AttemptKey(number, 1), Part(number), (f"f{number}",), (0,))
    return Job(attempt, f"job-{number}", 0.0, timed=timed)


def watching(known_s: list[float], begun_s: list[float], seen_at_s: float) -> PollSchedule:
    """Jobs that began then, and were all seen in flight at a moment."""
    watch = PollSchedule(Durations(known_s))
    for number, at_s in enumerate(begun_s):
        watch.add_job(job(number), at_s)
        watch.record_job_poll(f"job-{number}", seen_at_s)
    return watch


# --- One job, and several ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "left_s"),
    [
        (Age(0.0, 0.0), 30.0),
        (Age(0.0, 12.0), 18.0),
        (Age(5.0, 12.0), 18.0),
        (Age(15.0, 15.0), 15.0),
        (Age(35.0, 36.0), 4.0),
        (Age(50.0, 50.0), 0.0),
        (Age(15.0, 90.0), 0.0),
        (Age(50.1, 50.1), None),
    ],
)
def test_a_job_takes_as_long_as_known_jobs_that_took_longer(age: Age, left_s: float | None) -> None:
    """The one in the middle of them; none is left of a job that may have ended since it was seen, and nobody knows of
    one that was seen at an age that no other job reached."""
    found = Durations([10.0, 20.0, 30.0, 40.0, 50.0]).all_end_in_s([age])
    assert found == (None if left_s is None else pytest.approx(left_s, abs=0.1))


def test_nothing_is_known_before_a_job_has_ended() -> None:
    """Neither of jobs in flight nor of new ones; but where there are none, nothing is left."""
    assert Durations().all_end_in_s([Age(1.0, 1.0)]) is None
    assert Durations().all_end_in_s([], new=1) is None
    assert Durations().all_end_in_s([]) == 0


def test_the_last_of_many_takes_longer_than_one() -> None:
    """All must have ended: of twenty jobs one will be among the longest."""
    durations = Durations(map(float, range(1, 101)))
    assert durations.all_end_in_s([], new=1) == pytest.approx(50, abs=1)
    assert durations.all_end_in_s([], new=20) == pytest.approx(97, abs=1)
    assert durations.all_end_in_s([Age(60.0, 60.0)], new=0) == pytest.approx(20, abs=1)
    assert durations.all_end_in_s([Age(60.0, 60.0)], new=1) == pytest.approx(52, abs=2)
    assert durations.all_end_in_s([], new=0) == 0


@patient
@given(KNOWN_S, st.lists(st.floats(0.0, 1.0), max_size=20), st.integers(0, 5))
def test_the_time_left_is_between_zero_and_the_longest_known(
    known_s: list[float], shares: list[float], new: int
) -> None:
    """Never less than nothing, never more than the longest that is known; another job never makes it shorter."""
    durations, longest_s = Durations(known_s), max(known_s)
    ages = [Age(share * longest_s, share * longest_s) for share in shares]
    fewer, more = durations.all_end_in_s(ages, new), durations.all_end_in_s(ages, new + 1)
    assert fewer is not None
    assert more is not None
    assert 0 <= fewer <= more * (1 + 1e-3) + 1e-9
    assert more <= longest_s


def test_jobs_end_before_the_estimate_as_often_as_after_it() -> None:
    """Over many runs the jobs end before the time that was shown about as often as behind it."""
    random, sooner = Random(7), 0
    for _ in range(400):
        durations = Durations(random.lognormvariate(1.0, 0.6) for _ in range(200))
        lasting_s = [random.lognormvariate(1.0, 0.6) for _ in range(30)]
        ages_s = [random.uniform(0, 4) for _ in lasting_s]
        out = [(age_s, lasts_s) for age_s, lasts_s in zip(ages_s, lasting_s, strict=True) if lasts_s > age_s]
        told_s = durations.all_end_in_s(Age(age_s, age_s) for age_s, _ in out)
        assert told_s is not None
        sooner += max(lasts_s - age_s for age_s, lasts_s in out) <= told_s
    assert 160 <= sooner <= 240


# --- The jobs of a run ------------------------------------------------------------------------------------------------


def test_a_job_longer_than_all_others_at_the_end_and_before() -> None:
    """Where no others follow, nobody knows how long the run takes; before that the others are what counts."""
    watch = watching([10.0, 10.0, 10.0], [0.0, 95.0], 100.0)
    assert watch.jobs_left_s(100.0, 0, none_follow=True) is None
    assert watch.jobs_left_s(100.0, 0, none_follow=False) == pytest.approx(5, abs=0.1)
    assert watch.jobs_left_s(100.0, 1, none_follow=False) == pytest.approx(10, abs=0.1)


def test_a_job_that_was_not_looked_at_for_long_may_have_ended() -> None:
    """What isn't known is no reason to say nothing."""
    watch = PollSchedule(Durations([10.0, 10.0]))
    watch.add_job(job(0), 0.0)
    assert watch.jobs_left_s(100.0, 0, none_follow=True) == 0
    watch.record_job_poll("job-0", 100.0)
    assert watch.jobs_left_s(100.0, 0, none_follow=True) is None


def test_a_job_of_an_earlier_process_is_as_old_as_it_is() -> None:
    """Its age counts from when it was made, once it was seen to be in flight."""
    watch = PollSchedule(Durations([300.0, 300.0]))
    watch.add_job(job(0, timed=False), 0.0, 250.0)
    watch.record_job_poll("job-0", 10.0)
    assert watch.jobs_left_s(10.0, 0, none_follow=True) == pytest.approx(40, abs=1)
    watch.record_job_poll("job-0", 60.0)
    assert watch.jobs_left_s(60.0, 0, none_follow=True) is None


def test_very_many_jobs_are_estimated_from_the_youngest_and_the_oldest() -> None:
    """So telling takes no longer; the oldest one is asked all the same whether it takes longer than any other."""
    count = 20 * AGES_MAX
    watch = watching([10.0, 10.0], [100.0] * count, 101.0)
    assert watch.jobs_left_s(101.0, 0, none_follow=True) == pytest.approx(9, abs=0.1)
    watch = watching([10.0, 10.0], [50.0] + [100.0] * count, 101.0)
    assert watch.jobs_left_s(101.0, 0, none_follow=True) is None


# --- What a person sees -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "jobs_left_s", "shown"),
    [
        (90, 3.0, "0:00:09"),
        (90, 123.0, "0:02:03"),
        (90, 0.0, "0:00:09"),
        (90, None, "-:--:--"),
        (72_000, 3.0, "2:00:00"),
    ],
)
def test_the_time_left_is_never_less_than_the_jobs_take(missing: int, jobs_left_s: float | None, shown: str) -> None:
    """The longer of what the pace says and what the jobs say; no figure where nobody knows."""
    pace = Throughput()
    pace.record_done(0.0, 0)
    pace.record_done(10.0, 100)
    assert pace.format_time_left(missing, jobs_left_s) == shown
