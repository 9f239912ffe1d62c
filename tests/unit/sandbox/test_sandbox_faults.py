from collections import Counter
from pathlib import Path
from random import Random

import pytest

from classify_batch.errors import SettingsError
from classify_batch.records import JobStatus
from classify_batch.sandbox.faults import MISFORTUNES, Dice, Ending, Faults, decide_ending

FILE_IDS = [f"file-{number}" for number in range(40)]


def endings(faults: Faults, count: int = 1_000) -> list[Ending]:
    random = Random(3)
    return [decide_ending(faults, FILE_IDS, random) for _ in range(count)]


def test_kind_by_default() -> None:
    """Without faults every job succeeds whole and nothing happens to any request."""
    assert set(endings(Faults())) == {Ending()}
    dice = Dice(Faults(), seed=1)
    assert {dice.throw(call, row.moment) for row in MISFORTUNES for call in row.calls} == {None}


def test_endings_come_as_often_as_told() -> None:
    """ERROR, CANCELLED and PARTIAL_SUCCESS have their probabilities."""
    counts = Counter(ending.status for ending in endings(Faults(error=0.1, cancelled=0.2, partial=0.3)))
    assert 70 < counts[JobStatus.ERROR] < 130
    assert 150 < counts[JobStatus.CANCELLED] < 220
    assert 180 < counts[JobStatus.PARTIAL_SUCCESS] < 260


def test_partial_leaves_files_null_and_absent() -> None:
    """A job that ends partial has files without a result and files missing, never the same, a tenth in all."""
    for ending in endings(Faults(partial=1), count=50):
        assert ending.status is JobStatus.PARTIAL_SUCCESS
        assert len(ending.null) + len(ending.absent) == 4
        assert not set(ending.null) & set(ending.absent)


def test_a_job_of_one_file_can_be_partial() -> None:
    """Partial touches at least one file."""
    ending = decide_ending(Faults(partial=1), ["only"], Random(0))
    assert (ending.status, ending.null) == (JobStatus.PARTIAL_SUCCESS, (0,))


def test_null_results_are_per_file() -> None:
    """`null_result` strikes single files, and its job is PARTIAL_SUCCESS exactly if one was struck."""
    drawn = endings(Faults(null_result=0.02))
    assert 600 < sum(len(ending.null) for ending in drawn) < 1_000
    assert all((ending.status is JobStatus.PARTIAL_SUCCESS) == bool(ending.null) for ending in drawn)


def test_poison_ends_its_job_always() -> None:
    """Any job that holds a poisonous file ends ERROR, with a message, whatever else was drawn."""
    for faults in (Faults(poison=frozenset({"file-17"}), cancelled=1), Faults(poison_share=0.2)):
        assert {ending.status for ending in endings(faults, 20)} == {JobStatus.ERROR}
        assert all(ending.error_message for ending in endings(faults, 20))
    assert decide_ending(Faults(poison=frozenset({"x"})), FILE_IDS, Random(0)) == Ending()


def test_a_share_of_poison_is_always_the_same_files() -> None:
    """Which files are poison by share depends on their IDs only."""
    faults = Faults(poison_share=0.3)
    bad = [decide_ending(faults, [file_id], Random(0)).status for file_id in FILE_IDS]
    assert bad == [decide_ending(faults, [file_id], Random(9)).status for file_id in FILE_IDS]
    assert 5 < bad.count(JobStatus.ERROR) < 20


def test_every_row_is_a_fault_that_can_be_set() -> None:
    """Each row of the table is drawn for its calls at its moment once its field is set to 1."""
    for row in MISFORTUNES:
        dice = Dice(Faults.model_validate({row.name: 1}), seed=1)
        assert {dice.throw(call, row.moment) for call in row.calls} == {row}


def test_same_seed_same_misfortunes() -> None:
    """The faults' own seed decides; without one, the sandbox's."""

    def drawn(faults: Faults, seed: int) -> list[object]:
        dice = Dice(faults, seed)
        return [dice.throw("list", "before") for _ in range(50)]

    assert drawn(Faults(read_503=0.5, seed=4), 1) == drawn(Faults(read_503=0.5, seed=4), 2)
    assert drawn(Faults(read_503=0.5), 1) == drawn(Faults(read_503=0.5), 1)
    assert drawn(Faults(read_503=0.5), 1) != drawn(Faults(read_503=0.5), 2)


def test_faults_are_read_from_toml(tmp_path: Path) -> None:
    """A TOML file of names and values; what is given beside it wins."""
    path = tmp_path / "faults.toml"
    path.write_text('error = 0.25\npoison = ["a", "b"]\n')
    assert Faults.load(path) == Faults(error=0.25, poison=frozenset("ab"))
    assert Faults.load(path, error="0.5", poison="c").error == 0.5


@pytest.mark.parametrize("text", ["error = 2", "errors = 0.1", "error = [", 'error = "x"', "list_lag_s = inf"])
def test_wrong_faults_are_refused(tmp_path: Path, text: str) -> None:
    """A fault that is unknown or out of range is a SettingsError with a hint that helps."""
    path = tmp_path / "faults.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match="faults") as caught:
        Faults.load(path)
    assert "error" in caught.value.hint


def test_a_missing_faults_file_is_refused(tmp_path: Path) -> None:
    """A file that can't be read is named."""
    with pytest.raises(SettingsError, match=r"nowhere\.toml can't be read"):
        Faults.load(tmp_path / "nowhere.toml")
