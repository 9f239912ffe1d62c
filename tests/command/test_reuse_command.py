"""`--reuse` as a user meets it: the real command against a sandbox over HTTP, killed and damaged on the way."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from classify_batch.rundir.journal.line import seal_line
from tests.support.command_line import asked, command, sandbox
from tests.support.killed_writer import run_killed

RULES = '[{ type = "invoice", description = "has an invoice number and a total" }]'
OTHER_RULES = '[{ type = "invoice", description = "has an invoice number and no total" }]'
MONDAY = [f"file-{number}" for number in range(25)]
TUESDAY = [f"file-{number}" for number in range(10, 40)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The base URL of a sandbox whose jobs take no time worth naming."""
    with sandbox("--job-duration-s", "0.05") as base_url:
        yield base_url


def requests_at(server: str) -> object:
    return asked(server)["requests"]


class Place:
    """A folder with a config, and the command in it."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.configure(server)

    def configure(self, server: str, rules: str = RULES, sandbox: str = "") -> None:
        (self.folder / "c.toml").write_text(
            f'[api]\nbase_url = "{server}"\n{sandbox}\n[plan]\nfiles_per_job = 10\n'
            f"[limits]\nrequests_per_s = 500.0\nsettle_s = 0.5\n[job]\nrules = {rules}\n"
        )

    def done(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        return command(*arguments, folder=self.folder, status=status)

    def killed(self, *arguments: str, step: int) -> int:
        """The exit status of a command that is killed at a step of planning."""
        return run_killed(self.folder, step, *arguments)

    def words(self, name: str, file_ids: list[str], *options: str, command: str = "run") -> list[str]:
        (self.folder / f"{name}.txt").write_text("\n".join(file_ids) + "\n")
        return [command, "c.toml", "--input", f"{name}.txt", "--run-dir", f"runs/{name}", *options]

    def night(self, name: str, file_ids: list[str], *options: str, command: str = "run") -> str:
        """A run that ends well, and is sound; what it said to the person."""
        said = self.done(*self.words(name, file_ids, *options, command=command)).stderr
        self.done("verify", f"runs/{name}", status=75 if command == "plan" else 0)
        return said

    def lines(self, name: str, file: str = "results.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.runs / name / file).read_text().splitlines()]

    def read_json(self, name: str, file: str = "manifest.json") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.runs / name / file).read_text())
        return found

    def refused(self, *arguments: str) -> str:
        """What is said of a call that ends with status 2."""
        said = self.done(*arguments, status=2).stderr
        assert said.splitlines()[-1].startswith("hint: ")
        return said


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, server: str) -> Path:
    """A folder with one run in `runs/monday`."""
    place = Place(tmp_path_factory.mktemp("lived"), server)
    place.night("monday", MONDAY, "--reuse", "runs")  # the first night: the folder holds the new run only
    return place.folder


@pytest.fixture
def place(lived: Path, tmp_path: Path, server: str) -> Place:
    """The same, for a test of its own."""
    shutil.copytree(lived / "runs", tmp_path / "runs")
    return Place(tmp_path, server)


def test_columns_that_are_carried_later_cost_nothing(place: Place, server: str) -> None:
    """Monday carried nothing. A run that carries names reuses all of it, and one that carries nothing again, too: each
    has its own columns, and a repeated ID all of them."""

    before = requests_at(server)
    rows: list[dict[str, Any]] = [
        {"file_id": each, "path": f"in/{each}", "n": [number]} for number, each in enumerate(MONDAY)
    ]
    rows += [{"file_id": MONDAY[3], "path": "ü/again", "n": None}]
    (place.folder / "named.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = ["run", "c.toml", "--input", "named.jsonl", "--run-dir", "runs/named", "--carry", "path", "--carry", "n"]
    assert "reused      25 of them" in place.done(*named, "--reuse", "runs").stderr
    expected: dict[str, Any] = {row["file_id"]: {"path": row["path"], "n": row["n"]} for row in rows[:-1]}
    expected[MONDAY[3]] = [expected[MONDAY[3]], {"path": "ü/again", "n": None}]
    assert {line["file_id"]: line["carried"] for line in place.lines("named")} == expected
    monday = {line["file_id"]: line for line in place.lines("monday")}
    for line in place.lines("named"):
        assert line["reasoning"] == monday[line["file_id"]]["reasoning"]
    place.done("verify", "runs/named")

    (place.folder / "other.csv").write_text("file_id;n\n" + "".join(f"{each};{each}\n" for each in MONDAY))
    other = (
        "run",
        "c.toml",
        "--input",
        "other.csv",
        "--run-dir",
        "runs/other",
        "--carry",
        "n",
        "--reuse",
        "runs/named",
    )
    place.done(*other)
    assert {line["file_id"]: line["carried"] for line in place.lines("other")} == {each: {"n": each} for each in MONDAY}
    assert {line["reused_from"] for line in place.lines("other")} == {place.read_json("monday")["run_id"]}
    place.done("verify", "runs/other")
    place.night("plain", MONDAY, "--reuse", "runs/other")
    assert not any("carried" in line for line in place.lines("plain"))
    assert requests_at(server) == before


def test_reused_files_are_not_sent_again(place: Place) -> None:
    """What Monday answered is reused and says so, the rest is sent; status, manifest and run.json tell how many."""
    monday = {line["file_id"]: line for line in place.lines("monday")}
    said = place.night("tuesday", TUESDAY, "--reuse", "runs")
    assert "reused      15 of them" in said

    run_id = place.read_json("monday")["run_id"]
    lines = place.lines("tuesday")
    assert sorted(line["file_id"] for line in lines) == sorted(TUESDAY)
    chunks = {file_id: line["chunk"] for line in place.lines("tuesday", "plan.jsonl") for file_id in line["file_ids"]}
    for line in lines[:15]:
        old = monday[line["file_id"]]
        assert line == {**old, "chunk": chunks[line["file_id"]], "reused_from": run_id}
    assert not any("reused_from" in line for line in lines[15:])

    manifest, run = place.read_json("tuesday"), place.read_json("tuesday", "run.json")
    assert (manifest["reused"], manifest["files"], manifest["jobs"]) == (15, 30, 2)
    assert run["reused"]["runs"] == [{"run_id": run_id, "run_dir": "runs/monday", "files": 15}]
    assert place.read_json("monday")["reused"] == 0
    status = json.loads(place.done("status", "runs/tuesday", "--json").stdout)
    assert {key: status[key] for key in manifest} == manifest

    place.night("wednesday", ["file-10", "file-39", "new"], "--reuse", "runs/monday", "--reuse", "runs/tuesday")
    payers = {line["file_id"]: line.get("reused_from") for line in place.lines("wednesday")}
    assert payers == {"file-10": run_id, "file-39": manifest["run_id"], "new": None}


def test_triage_counts_reused_outcomes(place: Place, server: str) -> None:
    """By the thresholds of the new run."""
    place.configure(server, sandbox="[triage]\naccept_above = 0.9")
    place.night("tuesday", TUESDAY, "--reuse", "runs/monday")
    status = json.loads(place.done("status", "runs/tuesday", "--json").stdout)
    lines = [json.loads(line) for line in (place.runs / "tuesday" / "results.jsonl").read_text().splitlines()]
    classified = [line for line in lines if line["type"] is not None]
    accepted = sum(line["confidence"] is not None and line["confidence"] >= 0.9 for line in classified)
    assert 0 < accepted < len(classified)
    assert status["reused"] > 0
    assert status["triage"]["accepted"] == accepted
    assert status["triage"]["review"] == len(classified) - accepted
    assert json.loads((place.runs / "tuesday" / "manifest.json").read_text())["triage"] == status["triage"]


def test_a_run_of_another_organization_is_reused(place: Place) -> None:
    """Whose files they are decides no answer; a run goes on in its own organization all the same."""
    said = place.night("tuesday", TUESDAY, "--reuse", "runs", "--organization-id", "another")
    assert "reused      15 of them" in said
    assert "is not reused" not in said
    words = place.words("tuesday", TUESDAY, "--reuse", "runs")
    assert "organization (api.organization_id)" in place.refused(*words)


def test_the_failure_limit_ignores_reused_outcomes(place: Place, tmp_path: Path) -> None:
    """However much was reused: a run stops where all that it asks fails."""
    place.night("first", [f"old-{number}" for number in range(2000)])
    with sandbox("--fault", "error=1") as failing:
        rewrite_base_url(place.runs / "first" / "run.json", failing)
        place.configure(failing)
        ids = [f"old-{number}" for number in range(2000)] + [f"new-{number}" for number in range(400)]
        (tmp_path / "second.txt").write_text("\n".join(ids))
        options = ("--reuse", "runs/first", "--stop-at-failure-percentage", "50", "--attempts", "1")
        done = place.done("run", "c.toml", "--input", "second.txt", "--run-dir", "runs/second", *options, status=77)
    assert "files that were sent failed (" in done.stderr


def rewrite_base_url(path: Path, base_url: str) -> None:
    """As if the run had been made there; its journal knows the file by its hash."""
    run = json.loads(path.read_text())
    run["identity"]["base_url"] = base_url
    path.write_text(json.dumps(run))
    journal = path.with_name("journal.jsonl")
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    for line in lines:
        if "run_sha256" in line:
            line["run_sha256"] = sha256(path.read_bytes()).hexdigest()
    bodies = [{key: value for key, value in line.items() if key != "crc"} for line in lines]
    journal.write_bytes(b"".join(seal_line(json.dumps(body, separators=(",", ":")).encode()) for body in bodies))


def test_a_run_whose_files_are_all_reused_calls_nothing(place: Place, server: str) -> None:
    """Nothing is asked of the API, and the run is complete; given again, the command changes nothing."""
    before = requests_at(server)
    place.night("tuesday", MONDAY[::-1], "--reuse", "runs/monday")
    assert requests_at(server) == before
    manifest = place.read_json("tuesday")
    assert (manifest["state"], manifest["reused"], manifest["requests"]) == ("complete", 25, 0)
    assert manifest["counts"] == place.read_json("monday")["counts"]
    assert manifest["types"] == place.read_json("monday")["types"]
    again = place.done(*place.words("tuesday", MONDAY, "--reuse", "runs"))
    assert "complete already" in again.stderr
    compared = json.loads(place.done("diff", "runs/monday", "runs/tuesday", "--json").stdout)
    assert (compared["unchanged"], compared["files"]) == (25, 25)


def test_plan_shows_what_is_reused_and_what_is_left(place: Place, server: str) -> None:
    """`plan` sends nothing, prints what is reused and what the rest takes, and `resume` carries it out."""
    before = requests_at(server)
    said = place.done(*place.words("tuesday", TUESDAY, "--reuse", "runs", command="plan")).stdout
    words = {line.split()[0]: line.split()[1] for line in said.splitlines()}
    assert (words["files"], words["reused"], words["chunks"], words["requests"]) == ("30", "15", "2", "4")
    assert "75 credits" in said
    assert requests_at(server) == before
    assert "15 of 30 files" in place.done("status", "runs/tuesday").stdout.replace(" have their outcome", " files")
    place.done("verify", "runs/tuesday", status=75)
    compared = json.loads(place.done("diff", "runs/monday", "runs/tuesday", "--json").stdout)
    assert (compared["unchanged"], compared["waiting"]) == (15, 15)
    place.done("resume", "runs/tuesday")
    place.done("verify", "runs/tuesday")
    assert sorted(line["file_id"] for line in place.lines("tuesday")) == sorted(TUESDAY)


def test_an_interrupted_run_keeps_its_reused_outcomes(place: Place) -> None:
    """What was reused survives a kill and an uncommitted tail: the same command goes on, and cuts off only that."""
    place.done(*place.words("tuesday", TUESDAY, "--reuse", "runs"))
    run = place.runs / "tuesday"
    (run / "manifest.json").unlink()
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    ends = [number for number, line in enumerate(lines) if json.loads(line)["kind"] == "collected"]
    (run / "journal.jsonl").write_bytes(b"".join(lines[: ends[0]]))
    place.done("verify", "runs/tuesday", status=75)
    assert json.loads(place.done("status", "runs/tuesday", "--json").stdout)["counts"]["failed"] == 0
    place.night("tuesday", TUESDAY, "--reuse", "runs")
    assert sorted(line["file_id"] for line in place.lines("tuesday")) == sorted(TUESDAY)


def test_failed_files_are_sent_again(place: Place, tmp_path: Path) -> None:
    """A file that failed is sent again; failing again, it gets a new chance by `--retry-failed` beside reused ones."""
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "a.txt").write_text("an invoice number and a total")
    place.configure("sandbox", sandbox=f'[sandbox]\ndocuments = "{documents}"')
    good, bad = str(uuid5(NAMESPACE_URL, "a.txt")), "unknown"
    place.done(*place.words("first", [good, bad]), status=1)
    place.done(*place.words("second", [bad, good], "--reuse", "runs/first"), status=1)
    assert place.read_json("second")["reused"] == 1
    assert [line["file_id"] for line in place.lines("second", "failures.jsonl")] == [bad]
    place.done("resume", "runs/second", "--retry-failed", status=1)
    assert place.read_json("second")["counts"] == {"classified": 1, "unmatched": 0, "failed": 1}
    assert json.loads(place.done("status", "runs/second", "--json").stdout)["counts"]["failed"] == 1
    place.done("verify", "runs/second")


def test_what_an_earlier_run_has_in_flight_is_told_before_it_is_paid_again(tmp_path: Path) -> None:
    """A run that was left with its jobs in flight has no answers to reuse: the command that plans to send its files
    again says so, and how to pay them once."""
    with sandbox("--job-duration-s", "2", "--job-duration-sigma", "0") as base_url:
        place = Place(tmp_path, base_url)
        again = ("--reuse", "runs/monday")
        place.done(*place.words("monday", MONDAY, "--submit-only"), status=75)
        said = place.done(*place.words("planned", MONDAY, *again, command="plan")).stderr
        assert "runs/monday has 3 jobs in flight, whose answers it hasn't collected" in said
        assert "let it go on first: `classify-batch resume runs/monday`" in said

        place.done("resume", "runs/monday")
        said = place.night("tuesday", MONDAY, *again)
        assert "hasn't collected" not in said
        assert asked(base_url)["files_billed"] == len(MONDAY)


def test_a_run_of_other_rules_is_not_reused(place: Place, server: str) -> None:
    """A run under other rules is named with what differs, and nothing of it is reused."""
    place.configure(server, OTHER_RULES)
    said = place.night("tuesday", MONDAY, "--reuse", "runs")
    assert "runs/monday is not reused: it differs in rules" in said
    assert place.read_json("tuesday")["reused"] == 0
    planned = place.done(*place.words("wednesday", MONDAY, "--reuse", "runs/monday", command="plan"))
    assert "runs/monday is not reused: it differs in rules" in planned.stderr


def test_a_path_without_runs_is_refused(place: Place) -> None:
    """What is neither a run nor a folder of runs is refused by name, and nothing is written."""
    (place.folder / "empty").mkdir()
    (place.folder / "file").touch()
    for name in ("absent", "empty", "file"):
        assert f"{name} is neither a run" in place.refused(*place.words("tuesday", MONDAY, "--reuse", name))
    assert "it is empty" in place.refused(*place.words("tuesday", MONDAY, "--reuse", ""))
    assert not (place.runs / "tuesday").exists()


def test_a_damaged_run_is_not_reused(place: Place) -> None:
    """A damaged journal, run.json or result of an earlier run: the file is named, and nothing is written."""
    run = place.runs / "monday"
    for name, old, new in (
        ("results.jsonl", b"invoice", b"inVoice"),
        ("journal.jsonl", b'"kind"', b'"Kind"'),
        ("run.json", b'"mode"', b'"Mode"'),
        ("run.json", b'"chunks"', b'"Chunks"'),
    ):
        sound = (run / name).read_bytes()
        assert old in sound
        (run / name).write_bytes(sound.replace(old, new, 1))
        assert f"{name} in runs/monday" in place.refused(*place.words("tuesday", TUESDAY, "--reuse", "runs"))
        (run / name).write_bytes(sound)
        assert not (place.runs / "tuesday").exists()


@pytest.mark.parametrize("step", range(6))
def test_a_killed_planning_begins_again_and_ends_the_same(place: Place, step: int) -> None:
    """SIGKILL before or after each file that planning writes: the same command begins anew, and ends the same."""
    words = place.words("tuesday", TUESDAY, "--reuse", "runs", command="plan")
    assert place.killed(*words, step=step) == -9
    left = {path.name for path in (place.runs / "tuesday").iterdir()} & {"results.jsonl", "plan.jsonl", "run.json"}
    assert len(left) == (step + 1) // 2
    place.night("tuesday", TUESDAY, "--reuse", "runs")
    assert sorted(line["file_id"] for line in place.lines("tuesday")) == sorted(TUESDAY)
    assert place.read_json("tuesday")["reused"] == 15


def test_results_of_a_killed_planning_are_not_taken_for_outcomes(place: Place) -> None:
    """What it left of results is not taken for outcomes of the new run."""
    words = place.words("tuesday", TUESDAY, "--reuse", "runs", command="plan")
    assert place.killed(*words, step=2) == -9
    assert (place.runs / "tuesday" / "results.jsonl").stat().st_size > 0
    place.done(*place.words("tuesday", TUESDAY, command="plan"))
    assert not (place.runs / "tuesday" / "results.jsonl").exists()
    place.night("tuesday", TUESDAY)
    assert place.read_json("tuesday")["reused"] == 0


def test_results_without_run_json_are_never_overwritten(place: Place) -> None:
    """Results that no planning left, with a journal beside them or without, are still refused, and not written over."""
    run = place.runs / "monday"
    (run / "run.json").unlink()
    before = (run / "results.jsonl").read_bytes()
    words = place.words("monday", MONDAY, "--reuse", "runs")
    assert "but no run.json" in place.refused(*words)
    for name in ("journal.jsonl", "failures.jsonl"):
        (run / name).unlink()
    assert "but no run.json" in place.refused(*words)
    assert (run / "results.jsonl").read_bytes() == before
