"""`merge` as a user meets it: real runs against a sandbox over HTTP, refused, damaged, and killed on the way."""

import csv
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

import classify_batch
from classify_batch.rundir.journal.line import seal_line
from tests.support.command_line import asked, command, sandbox
from tests.support.killed_writer import WHOLE_FILES, run_killed

RULES = '[{ type = "invoice", description = "has an invoice number and a total" }]'
OTHER_RULES = '[{ type = "invoice", description = "has an invoice number and no total" }]'
BAD = "bad-1"
IDS = {"emea": [*(f"e-{number}" for number in range(25)), BAD], "apac": [f"a-{number}" for number in range(12)]}
SAME_FILE = str(uuid5(NAMESPACE_URL, "a file"))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The base URL of a sandbox that refuses one file."""
    with sandbox("--job-duration-s", "0.05", "--fault", f'foreign=["{BAD}"]') as base_url:
        yield base_url


class Place:
    """A folder with a config, and the command in it."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self.server = server
        self.configure("c.toml")

    def configure(self, name: str, rules: str = RULES, carry: str = "") -> None:
        (self.folder / name).write_text(
            f'[api]\nbase_url = "{self.server}"\n[plan]\nfiles_per_job = 10\n{carry}\n'
            f"[limits]\nrequests_per_s = 500.0\nsettle_s = 0.5\n[job]\nrules = {rules}\n"
        )

    def done(self, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        return command(*arguments, folder=self.folder, status=status)

    def run(self, name: str, file_ids: list[str], *options: str, config: str = "c.toml", status: int = 0) -> None:
        (self.folder / f"{name}.txt").write_text("\n".join(file_ids) + "\n")
        self.done("run", config, "--input", f"{name}.txt", "--run-dir", name, *options, status=status)

    def lines(self, name: str, file: str = "results.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name / file).read_text().splitlines()]

    def manifest(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.folder / name / "manifest.json").read_text())
        return told

    def refused(self, *arguments: str) -> str:
        """What is said of a call that ends with status 2 and leaves no output."""
        said = self.done(*arguments, status=2).stderr
        assert said.splitlines()[-1].startswith("hint: ")
        assert not (self.folder / "all").exists()
        return said


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, server: str) -> Path:
    place = Place(tmp_path_factory.mktemp("lived"), server)
    place.run("emea", IDS["emea"], status=1)
    place.run("apac", IDS["apac"])
    return place.folder


@pytest.fixture
def place(tmp_path: Path, lived: Path, server: str) -> Place:
    """A folder with two complete runs, of which one has a failure."""
    shutil.copytree(lived, tmp_path, dirs_exist_ok=True)
    return Place(tmp_path, server)


def without_place(line: dict[str, Any]) -> dict[str, Any]:
    """An outcome but for its place in the run."""
    return {key: value for key, value in line.items() if key not in ("chunk", "reused_from")}


def test_a_merged_run_has_every_outcome_as_it_was_paid_for(place: Place) -> None:
    """Outcomes, counts and types are those of the parts, each names the run that paid, and nothing was called."""
    before = asked(place.server)["requests"]
    place.done("merge", "emea", "apac", "--output", "all", status=1)
    assert asked(place.server)["requests"] == before
    for file in ("results.jsonl", "failures.jsonl"):
        parts = [without_place(line) for name in ("emea", "apac") for line in place.lines(name, file)]
        assert [without_place(line) for line in place.lines("all", file)] == parts
    assert "sound and complete: 38 files" in place.done("verify", "all").stdout
    told, parts = place.manifest("all"), [place.manifest(name) for name in ("emea", "apac")]
    assert told["counts"] == {kind: sum(part["counts"][kind] for part in parts) for kind in told["counts"]}
    assert told["types"]["invoice"] == sum(part["types"]["invoice"] for part in parts)
    assert (told["merged"], told["jobs"], told["failure_codes"]) == (2, 0, parts[0]["failure_codes"])
    origins = {
        line["file_id"]: line["reused_from"] for line in place.lines("all") + place.lines("all", "failures.jsonl")
    }
    for name, file_ids in IDS.items():
        assert {origins[file_id] for file_id in file_ids} == {place.manifest(name)["run_id"]}


def test_a_merged_run_is_a_run_for_what_reads_one(place: Place) -> None:
    """It can be exported, shown, reported, compared and reused; and it overlaps with what reused it."""
    place.done("merge", "emea", "apac", "--output", "all", status=1)
    place.done("export", "all", "all.csv")
    with (place.folder / "all.csv").open(newline="") as file:
        assert sorted(row["file_id"] for row in csv.DictReader(file)) == sorted(IDS["emea"] + IDS["apac"])
    assert "merged      of 2 runs" in place.done("status", "all").stdout
    place.done("report", "all")
    compared = json.loads(place.done("diff", "apac", "all", "--json").stdout)
    assert compared["changes"]["new"] == len(IDS["emea"])
    place.run("next", [*IDS["emea"][:25], *IDS["apac"], "new-1"], "--reuse", "all")
    assert place.manifest("next")["reused"] == 37
    place.done("merge", "all", "next", "--output", "both", status=2)


def test_merged_runs_merge_again(place: Place) -> None:
    """A merged run is a part like any other, and outcomes keep the run that paid."""
    place.run("amer", ["u-1", "u-2"])
    place.done("merge", "emea", "apac", "--output", "two", status=1)
    place.done("merge", "two", "amer", "--output", "all", status=1)
    assert "sound and complete: 40 files" in place.done("verify", "all").stdout
    assert {line["reused_from"] for line in place.lines("all")} == {
        place.manifest(name)["run_id"] for name in ("emea", "apac", "amer")
    }


def test_a_folder_of_runs_is_merged_whole(place: Place) -> None:
    """A folder stands for the runs in it."""
    runs = place.folder / "runs"
    runs.mkdir()
    for name in IDS:
        (place.folder / name).rename(runs / name)
    place.done("merge", "runs", "--output", "all", status=1)
    assert place.manifest("all")["files"] == 38


@pytest.mark.parametrize("spelled", [SAME_FILE, SAME_FILE.upper()])
def test_a_file_that_is_in_two_runs_is_refused(place: Place, spelled: str) -> None:
    """However its UUID is spelled; the runs are named."""
    place.run("one", [SAME_FILE, "x-1"])
    place.run("other", ["x-2", spelled])
    said = place.refused("merge", "apac", "one", "other", "--output", "all")
    assert "1 file has an outcome in more than one of the runs" in said
    assert said.splitlines()[0].endswith("is in one and other")


def test_a_run_that_is_not_complete_is_refused_with_its_command(place: Place) -> None:
    """A run with files that wait is a hole."""
    (place.folder / "late.txt").write_text("l-1\nl-2\n")
    place.done("plan", "c.toml", "--input", "late.txt", "--run-dir", "late")
    said = place.refused("merge", "apac", "late", "--output", "all")
    assert "late is incomplete: 0 of its 2 files have an outcome" in said


def test_runs_of_other_rules_are_refused(place: Place) -> None:
    """A file could have got another answer in the other run."""
    place.configure("other.toml", OTHER_RULES)
    place.run("other", ["o-1"], config="other.toml")
    assert "rules (job.rules)" in place.refused("merge", "apac", "other", "--output", "all")


def test_the_shards_of_a_run_are_merged_all_or_none(place: Place) -> None:
    """A folder of shards is a folder of runs; one that is left out is a hole."""
    place.run("cut", [f"s-{number}" for number in range(30)], "--shards", "3")
    shards = place.folder / "cut" / "shards"
    names = sorted(str(each.relative_to(place.folder)) for each in shards.iterdir())
    said = place.refused("merge", names[0], names[2], "apac", "--output", "all")
    assert "a run has 3 shards, and shard 1 was not given" in said
    place.done("merge", "cut/shards", "apac", "--output", "all")
    assert "sound and complete: 42 files" in place.done("verify", "all").stdout


def test_a_run_with_shards_is_merged_with_what_it_reused(place: Place) -> None:
    """What the whole run took over is in none of its shards; it is one run of those that are merged."""
    place.run("cut", [f"s-{number}" for number in range(21)] + IDS["apac"], "--shards", "2", "--reuse", "apac")
    before = asked(place.server)["requests"]
    place.done("merge", "cut", "emea", "--output", "all", status=1)
    assert "sound and complete: 59 files" in place.done("verify", "all").stdout
    assert place.manifest("all")["merged"] == 2
    place.done("merge", "emea", "cut", "--output", "all", status=1)  # the same call again
    place.run("next", [f"s-{number}" for number in range(21)] + IDS["apac"], "--reuse", "all")
    assert (place.manifest("next")["reused"], asked(place.server)["requests"]) == (33, before)


def test_the_shards_of_a_run_that_reused_outcomes_are_no_whole_run(place: Place) -> None:
    """Without the directory of the whole run, the outcomes that it took over would be lost."""
    place.run("cut", [f"s-{number}" for number in range(21)] + IDS["apac"], "--shards", "2", "--reuse", "apac")
    said = place.refused("merge", "cut/shards", "emea", "--output", "all")
    assert "reused outcomes, which no shard of it has" in said
    assert said.splitlines()[-1] == "hint: name the directory of the whole run"


def test_a_run_with_a_shard_that_was_never_begun_is_refused(place: Place) -> None:
    """Its files have no outcome; the command that begins it is named."""
    place.run("cut", [f"s-{number}" for number in range(30)], "--shards", "3", "--shard", "1/3")
    said = place.refused("merge", "cut", "emea", "--output", "all")
    assert "cut is incomplete: its shard 0 was never begun" in said
    assert said.splitlines()[-1].endswith("classify-batch resume cut")


def test_one_run_alone_and_a_folder_without_runs_are_refused(place: Place) -> None:
    """One directory that is named twice is one run."""
    assert "only one run" in place.refused("merge", "apac", "apac/", "--output", "all")
    (place.folder / "empty").mkdir()
    said = place.refused("merge", "apac", "empty", "--output", "all")
    assert "neither a run directory nor a folder" in said
    assert "--reuse" not in said


@pytest.mark.parametrize("file", ["results.jsonl", "failures.jsonl"])
def test_a_damaged_outcome_is_not_merged(place: Place, file: str) -> None:
    """One changed digit is found before anything is written."""
    path = place.folder / "emea" / file
    path.write_bytes(path.read_bytes().replace(b'"attempt":1', b'"attempt":7', 1))
    assert file in place.refused("merge", "emea", "apac", "--output", "all")


def test_an_outcome_that_is_missing_is_a_hole(place: Place) -> None:
    """A run that says it is complete, and has fewer outcomes than files."""
    run = place.folder / "apac" / "run.json"
    run.write_text(run.read_text().replace('"files": 12', '"files": 13'))
    journal = place.folder / "apac" / "journal.jsonl"
    first, *rest = journal.read_bytes().splitlines()
    opened = json.loads(first)
    del opened["run_sha256"], opened["crc"]
    journal.write_bytes(b"".join([seal_line(json.dumps(opened).encode()), *(line + b"\n" for line in rest)]))
    assert "12 outcomes of 13 planned files" in place.refused("merge", "emea", "apac", "--output", "all")


def test_a_merged_run_sends_nothing_itself(place: Place) -> None:
    """A retry is refused, and a resume finds it complete, without a request."""
    place.done("merge", "emea", "apac", "--output", "all", status=1)
    before = asked(place.server)["requests"]
    said = place.done("resume", "all", "--retry-failed", status=2).stderr
    assert "was merged of other runs, and calls nothing itself" in said
    assert place.done("resume", "all", status=1).stderr.startswith("this run was complete already")
    assert "hint: 1 of 38 files failed" in place.done("status", "all").stdout
    assert asked(place.server)["requests"] == before


def test_the_output_holds_another_run(place: Place) -> None:
    """It stays as it is."""
    place.run("all", ["z-1"])
    said = place.done("merge", "emea", "apac", "--output", "all", status=2).stderr
    assert "all holds another run" in said
    assert place.manifest("all")["files"] == 1


def test_the_same_command_again_changes_nothing(place: Place) -> None:
    """Also with the runs in another order."""
    place.done("merge", "emea", "apac", "--output", "all", status=1)
    before = {path.name: path.read_bytes() for path in (place.folder / "all").iterdir()}
    said = place.done("merge", "apac", "emea", "--output", "all", status=1).stderr
    assert said.startswith("this run was complete already")
    assert {path.name: path.read_bytes() for path in (place.folder / "all").iterdir()} == before


def test_carried_columns_of_all_runs_are_kept(place: Place) -> None:
    """A CSV file has the columns of both."""
    place.configure("path.toml", carry='carry = ["path"]')
    place.configure("who.toml", carry='carry = ["who"]')
    for name, column in (("one", "path"), ("other", "who")):
        rows = "".join(f"{name}-{number},{column} {number}\n" for number in range(3))
        (place.folder / f"{name}.csv").write_text(f"file_id,{column}\n{rows}")
        place.done("run", f"{column}.toml", "--input", f"{name}.csv", "--run-dir", name)
    place.done("merge", "one", "other", "--output", "all")
    place.done("export", "all", "all.csv")
    with (place.folder / "all.csv").open(newline="") as file:
        rows_by_id = {row["file_id"]: row for row in csv.DictReader(file)}
    assert (rows_by_id["one-1"]["path"], rows_by_id["one-1"]["who"]) == ("path 1", "")
    assert (rows_by_id["other-2"]["path"], rows_by_id["other-2"]["who"]) == ("", "who 2")


KILLS_MAX = 40


def test_a_killed_merge_goes_on_by_the_same_command_and_ends_the_same(place: Place) -> None:
    """SIGKILL before or after each file that is put in place, and each commit; until none of them is left."""
    place.done("merge", "emea", "apac", "--output", "whole", status=1)
    words = ["merge", "emea", "apac", "--output", "all"]
    for step in range(KILLS_MAX):
        if run_killed(place.folder, step, *words, methods=(*WHOLE_FILES, "commit")) != -signal.SIGKILL:
            break
        if (place.folder / "all" / "run.json").exists():
            said = command("resume", "all", folder=place.folder, status=None)
            assert said.returncode == 1 or (said.returncode == 2 and "is being merged" in said.stderr)
        place.done(*words, status=1)
        place.done("verify", "all")
        for file in ("results.jsonl", "failures.jsonl", "plan.jsonl"):
            assert (place.folder / "all" / file).read_bytes() == (place.folder / "whole" / file).read_bytes()
        shutil.rmtree(place.folder / "all")
    assert 10 < step < KILLS_MAX - 1


def test_the_function_does_what_the_command_does(place: Place) -> None:
    """The function returns a result that can be read."""
    merged = classify_batch.merge([place.folder / "emea", place.folder / "apac"], place.folder / "all")
    assert (merged.exit_status, merged.counts["failed"], len(list(merged.outcomes()))) == (1, 1, 38)
