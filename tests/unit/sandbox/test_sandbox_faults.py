import json
import re
from pathlib import Path

import pytest

from classify_batch.errors import SettingsError
from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.sandbox.faults.request_faults import SHORT_NAMES, WHATS, FaultSampler

FILE_IDS = [f"file-{number}" for number in range(1_000)]
PAGE = (Path(__file__).parents[3] / "classify_batch" / "manual" / "sandbox.md").read_text("utf-8")


def test_all_faults_are_off_by_default() -> None:
    """Without faults nothing happens to any request, no file is refused, and there is no outage."""
    assert {probability for _, probability in Faults().request_probabilities()} == {0.0}
    assert not any(
        list(Faults().indexes_with_fault(kind, FILE_IDS)) for kind in ("poison", "foreign", "rejected_vaguely")
    )
    assert not any(Faults().is_in_outage(elapsed_s) for elapsed_s in range(100))


def test_each_short_name_is_a_fault_of_its_own() -> None:
    """Each short name of the table is a fault of its own."""
    assert set(SHORT_NAMES) < set(Faults.model_fields)
    given = Faults.model_validate(dict.fromkeys(SHORT_NAMES, 1))
    assert dict(given.request_probabilities()) == dict.fromkeys(SHORT_NAMES.values(), 1.0)


def test_request_faults_can_be_given_flat_or_nested(tmp_path: Path) -> None:
    """CALL.MOMENT.WHAT is one name, dotted keys or a table in TOML; beside a file, the one given wins."""
    path = tmp_path / "faults.toml"
    path.write_text('error = 0.5\ncreate.after.502 = 0.1\n"read.before.429" = 0.2\n[any.before]\nreset = 0.3\n')
    expected = {"create.after.502": 0.1, "read.before.429": 0.2, "any.before.reset": 0.3}
    assert Faults.load_file(path).request_faults == expected
    assert Faults.load_file(path).error == 0.5
    assert Faults.load_file(path, **{"create.after.502": "0.4"}).request_faults == expected | {"create.after.502": 0.4}
    assert Faults.from_values({"list.before.404": 1}, "here") == Faults(request_faults={"list.before.404": 1})


def test_a_share_of_files_always_means_the_same_files() -> None:
    """Which files a share means depends on their IDs only, and not on what else is wrong with them."""
    faults = Faults(poison_share=0.3, foreign_share=0.3, foreign=frozenset({"file-7"}))
    poison, foreign = (
        {FILE_IDS[each] for each in faults.indexes_with_fault(kind, FILE_IDS)} for kind in ("poison", "foreign")
    )
    assert 250 < len(poison) < 350
    assert {FILE_IDS[::-1][each] for each in faults.indexes_with_fault("poison", FILE_IDS[::-1])} == poison
    assert "file-7" in foreign
    assert len(poison & foreign) < 130


def test_outages_begin_and_last_as_set() -> None:
    """Outages begin after a time or a period, last as long as set, and come again, once, or not at all."""

    def down(**given: float) -> list[int]:
        faults = Faults.model_validate(given)
        return [elapsed_s for elapsed_s in range(12) if faults.is_in_outage(elapsed_s)]

    assert down(outage_every_s=5, outage_for_s=2) == [5, 6, 10, 11]
    assert down(outage_every_s=5, outage_for_s=2, outage_after_s=1) == [1, 2, 6, 7, 11]
    assert down(outage_for_s=2, outage_after_s=3) == [3, 4]
    assert down(outage_for_s=2) == [0, 1]
    assert down(outage_every_s=5) == []


def test_faults_are_read_from_toml(tmp_path: Path) -> None:
    """A TOML file of names and values; what is given beside it wins."""
    path = tmp_path / "faults.toml"
    path.write_text('error = 0.25\npoison = ["a", "b"]\n')
    assert Faults.load_file(path) == Faults(error=0.25, poison=frozenset("ab"))
    assert Faults.load_file(path, error="0.5", poison="c").error == 0.5


@pytest.mark.parametrize(
    "text",
    [
        *("error = 2", "errors = 0.1", "error = [", 'error = "x"', "list_lag_s = inf", "credits = -1", "error.x = 1"),
        *("create.after.502 = 2", "create.after.600 = 1", "create.after.99999 = 1", "create.during.502 = 1"),
        *("created.after.502 = 1", "create.502 = 1", "create.after.rest = 1", "outage_what = 302", "any = 1"),
        *('results_lag_shows = "all"', 'overlap_mode = "SLOW"', "create_slow = 2", "list_hides_for_s = -1"),
        *("misfortunes = 1", "request_faults = 1", 'foreign_says = "aloud"', "outage_every_s = 0"),
    ],
)
def test_wrong_faults_are_refused(tmp_path: Path, text: str) -> None:
    """A fault that is unknown or out of range is a SettingsError with a hint that helps."""
    path = tmp_path / "faults.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match="faults") as caught:
        Faults.load_file(path)
    assert "error" in caught.value.hint


def test_faults_mean_the_same_on_the_command_line_and_in_a_file(tmp_path: Path) -> None:
    """As --fault gives them, and as a file has them: the same faults."""
    given = {"create_slow": 0.5, "accept_after_s": 70.0, "results_lag_s": 3.0, "results_lag_shows": "half"}
    given |= {"list_hides_after_s": 1.0, "list_hides_for_s": 2.0, "overlap": 0.25, "overlap_mode": "MULTIMODAL"}
    given |= {"same_job_id": 0.1, "error_first": 0.2, "error_first_s": 4.0, "created_at_jitter_s": 6.0}
    path = tmp_path / "faults.toml"
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items()))
    faults = Faults.load_file(path)
    assert faults == Faults.from_values({name: str(value) for name, value in given.items()}, "--fault")
    assert faults.model_dump(include=set(given)) == given


def test_a_missing_faults_file_is_refused(tmp_path: Path) -> None:
    """A file that can't be read is named."""
    with pytest.raises(SettingsError, match=r"nowhere\.toml can't be read"):
        Faults.load_file(tmp_path / "nowhere.toml")


def test_all_wrong_faults_are_reported_at_once() -> None:
    """Each wrong name is reported with what is wrong with it, whichever kind it is of."""
    with pytest.raises(SettingsError) as caught:
        Faults.from_values({"error": 2, "create.after.302": 1, "get.before.reset": 7}, "here")
    said = str(caught.value)
    for words in ("error: Input", "create.after.302: what happens is", "get.before.reset: Input should be"):
        assert words in said


def test_the_manual_lists_every_fault() -> None:
    """The manual's table has a line for each fault and each word of what can happen, and for no other."""
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    listed = {name for cell in cells for name in re.findall("`([^`]+)`", cell) if not name.startswith("--")}
    assert listed == (set(Faults.model_fields) - {"request_faults"}) | set(WHATS) | {"400", "599"}


def test_the_manual_example_is_a_faults_file(tmp_path: Path) -> None:
    """The example in the manual is accepted as it is."""
    example = PAGE.partition("$ cat faults.toml\n")[2].partition("$ classify-batch")[0]
    path = tmp_path / "faults.toml"
    path.write_text(example)
    faults = Faults.load_file(path)
    assert faults.request_faults
    assert FaultSampler(faults.request_probabilities(), 1).draw_fault("create", "after") is not None
