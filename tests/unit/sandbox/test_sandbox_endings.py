from collections import Counter
from random import Random

import pytest

from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.sandbox.faults.job_endings import ODDITIES, JobEnding, Oddity, decide_ending
from classify_batch.vocabulary import ANSWERED_STATUSES, JobStatus

FILE_IDS = [f"file-{number}" for number in range(40)]


def endings(faults: Faults, count: int = 1_000) -> list[JobEnding]:
    random = Random(3)
    return [decide_ending(faults, FILE_IDS, random) for _ in range(count)]


def test_without_faults_every_job_succeeds() -> None:
    """Without faults every job succeeds whole."""
    assert set(endings(Faults())) == {JobEnding()}


def test_job_endings_come_with_their_probabilities() -> None:
    """ERROR, CANCELLED and PARTIAL_SUCCESS have their probabilities."""
    counts = Counter(ending.status for ending in endings(Faults(error=0.1, cancelled=0.2, partial=0.3)))
    assert 70 < counts[JobStatus.ERROR] < 130
    assert 150 < counts[JobStatus.CANCELLED] < 220
    assert 180 < counts[JobStatus.PARTIAL_SUCCESS] < 260


def test_a_partial_job_has_null_and_missing_results() -> None:
    """A job that ends partial has files without a result and files missing, never the same, a tenth in all."""
    for ending in endings(Faults(partial=1), count=50):
        assert ending.status is JobStatus.PARTIAL_SUCCESS
        assert len(ending.null) + len(ending.absent) == 4
        assert not set(ending.null) & set(ending.absent)


def test_only_a_job_that_is_answered_shows_error_first() -> None:
    """As often as set, for as long as set; how jobs end is the same as without."""
    faults = Faults(error=0.2, cancelled=0.2, stuck=0.1, partial=0.3)
    drawn = endings(faults.model_copy(update={"error_first": 0.5, "error_first_s": 7.0}))
    answered_files = [ending for ending in drawn if ending.status in ANSWERED_STATUSES]
    assert {ending.error_first_s for ending in answered_files} == {0.0, 7.0}
    assert 0.4 < sum(ending.error_first_s > 0 for ending in answered_files) / len(answered_files) < 0.6
    assert {ending.error_first_s for ending in drawn if ending not in answered_files} == {0.0}
    assert [ending._replace(error_first_s=0.0) for ending in drawn] == endings(faults)


def test_a_job_of_one_file_can_be_partial() -> None:
    """Partial touches at least one file."""
    ending = decide_ending(Faults(partial=1), ["only"], Random(0))
    assert (ending.status, ending.null) == (JobStatus.PARTIAL_SUCCESS, (0,))


def test_null_results_are_drawn_for_each_file() -> None:
    """`null_result` hits single files, and a job is PARTIAL_SUCCESS exactly if one was hit."""
    drawn = endings(Faults(null_result=0.02))
    assert 600 < sum(len(ending.null) for ending in drawn) < 1_000
    assert all((ending.status is JobStatus.PARTIAL_SUCCESS) == bool(ending.null) for ending in drawn)


def test_a_poison_file_always_fails_its_job() -> None:
    """Any job that holds a poisonous file ends ERROR, with a message, whatever else was drawn."""
    for faults in (Faults(poison=frozenset({"file-17"}), cancelled=1), Faults(poison_share=0.2)):
        assert {ending.status for ending in endings(faults, 20)} == {JobStatus.ERROR}
        assert all(ending.error_message for ending in endings(faults, 20))
    assert decide_ending(Faults(poison=frozenset({"x"})), FILE_IDS, Random(0)) == JobEnding()


def test_poison_share_always_means_the_same_files() -> None:
    """Which files are poison by share depends on their IDs only."""
    faults = Faults(poison_share=0.3)
    bad = [decide_ending(faults, [file_id], Random(0)).status for file_id in FILE_IDS]
    assert bad == [decide_ending(faults, [file_id], Random(9)).status for file_id in FILE_IDS]
    assert 5 < bad.count(JobStatus.ERROR) < 20


def test_a_stuck_job_never_ends() -> None:
    """A job that is stuck is PENDING for ever, whatever else was drawn."""
    assert {ending.status for ending in endings(Faults(stuck=1, error=1, poison_share=1))} == {JobStatus.PENDING}
    assert 70 < [ending.status for ending in endings(Faults(stuck=0.1))].count(JobStatus.PENDING) < 130


@pytest.mark.parametrize("oddity", ODDITIES)
def test_an_oddity_does_not_change_how_jobs_end(oddity: Oddity) -> None:
    """Each oddity is a fault of its own with its probability, and changes nothing about how jobs end."""
    odd = endings(Faults.model_validate({oddity: 0.2, "partial": 0.3}))
    assert 150 < sum(ending.oddities == (oddity,) for ending in odd) < 250
    assert [ending._replace(oddities=()) for ending in odd] == endings(Faults(partial=0.3))
