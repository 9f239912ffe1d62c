"""`classify-batch check` is one report: all bad lines, all errors of the settings, and what is known beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import command, environment

CONFIG = """
[api]
base_url = "sandbox"

[job]
rules = [{ type = "invoice", description = "has line items and a total" }]
"""
FAULTY = CONFIG.replace("sandbox", "ftp://nowhere") + "[limits]\nattempts = 0\n[plan]\nfile_per_job = 3\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.toml").write_text(CONFIG)
    (tmp_path / "faulty.toml").write_text(FAULTY)
    (tmp_path / "many.txt").write_text("a\nb c\na\n" + "x" * 201 + "\nd\ne\\f g\n")
    return tmp_path


def check(folder: Path, config: str, name: str, *options: str, status: int = 2) -> dict[str, Any]:
    """The report of a check, as a program reads it."""
    done = command("check", folder / config, "--input", folder / name, "--json", *options)
    assert done.returncode == status, done.stderr
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    assert report["exit_status"] == status
    return report


def finding(report: dict[str, Any], code: str) -> dict[str, Any]:
    (found,) = (each for each in report["findings"] if each["code"] == code)
    assert isinstance(found, dict)
    assert found["hint"]
    return found


# --- Lines ------------------------------------------------------------------------------------------------------------


def test_all_bad_lines_are_counted_and_the_first_few_shown(folder: Path) -> None:
    """How many, and the first few with their lines and values; what else is in the input is looked at all the same."""
    report = check(folder, "job.toml", "many.txt")
    lines = finding(report, "input")
    assert (lines["severity"], lines["count"]) == ("error", 3)
    assert [each.partition(": ")[0] for each in lines["examples"]] == ["line 2", "line 4", "line 6"]
    assert lines["examples"][0] == "line 2: 'b c' has a space in it"
    assert finding(report, "duplicates")["count"] == 1
    assert (report["files"], report["duplicates"], report["looked_up"]) == (2, 1, 2)
    said = command("check", folder / "job.toml", "--input", folder / "many.txt")
    assert "many.txt: 3 lines can't be read: line 2: 'b c' has a space in it; line 4: " in said.stdout


def test_many_bad_lines_only_raise_the_count(folder: Path) -> None:
    """Only the count grows with them, and an input without one good line is no other error."""
    (folder / "bad.txt").write_text("no id\n" * 40_000)
    report = check(folder, "job.toml", "bad.txt")
    assert [each["code"] for each in report["findings"]] == ["input"]
    assert finding(report, "input")["count"] == 40_000
    assert len(finding(report, "input")["examples"]) == 5


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        ("i.csv", 'x,file_id\n1,a\n2,b c\n"3\n",\n4\n5,a\n', ["line 3", "line 4", "line 6"]),
        ("i.jsonl", '{"file_id":"a"}\nnull\n\n{"x":1}\n{"file_id":7}\n{\n', ["line 2", "line 4", "line 5", "line 6"]),
        ("i.ndjson", '{"file_id":""}\n{"file_id":"a"}', ["line 1"]),
    ],
)
def test_a_bad_row_or_object_hides_no_other_line(folder: Path, name: str, text: str, places: list[str]) -> None:
    """A row or an object is a line by itself: one that is none hides no other."""
    (folder / name).write_text(text)
    report = check(folder, "job.toml", name)
    assert [each.partition(": ")[0] for each in finding(report, "input")["examples"]] == places
    assert finding(report, "input")["count"] == len(places)
    assert report["files"] == 1


def test_lines_that_can_not_be_carried_are_named_by_number(folder: Path) -> None:
    """Each line whose values don't fit, by its number; a run names the first one by its line as well."""
    values = ["1", "NaN", '"%s"' % ("x" * 20_000), "2"]
    lines = [f'{{"file_id": "f{number}", "p": {value}}}' for number, value in enumerate(values, 1)]
    (folder / "i.jsonl").write_text("\n".join([*lines, '{"file_id": "f5"}', ""]))
    found = finding(check(folder, "job.toml", "i.jsonl", "--carry", "p"), "input")
    assert found["count"] == 3
    assert [each.partition(" carries")[0] for each in found["examples"][:2]] == [
        "line 2: file ID f2",
        "line 3: file ID f3",
    ]
    assert found["examples"][2].startswith("line 5: no column 'p'")
    asked = ("plan", folder / "job.toml", "--input", folder / "i.jsonl", "--run-dir", folder / "run", "--carry", "p")
    done = command(*asked)
    assert (done.returncode, "i.jsonl, line 2: file ID f2 carries a number" in done.stderr) == (2, True)
    (folder / "i.csv").write_text('file_id,p\na,1\n"b","' + "y" * 20_000 + '"\n')
    done = command(*asked[:3], folder / "i.csv", *asked[4:])
    assert (done.returncode, "i.csv, line 3: file ID b carries 20,008 bytes" in done.stderr) == (2, True)
    assert not (folder / "run").exists()


def test_repeated_ids_that_carry_too_much_together_are_found(folder: Path) -> None:
    """Each line fits, and all that come with the ID don't: `check` says of it what `plan` says, and names the input."""
    lines = [json.dumps({"file_id": "b", "p": letter * 9_000}) for letter in "xyz"]
    (folder / "i.jsonl").write_text("\n".join(lines))
    report = check(folder, "job.toml", "i.jsonl", "--carry", "p")
    found = finding(report, "input")
    assert found["severity"] == "error"
    words = "i.jsonl: file ID b comes 3 times, and carries 27,026 bytes in all; 16,384 are the most"
    assert words in found["message"]
    (folder / "a.txt").write_text('{"file_id": "a", "p": 1}')
    inputs = ("--input", folder / "a.txt", "--input", folder / "i.jsonl")
    done = command("plan", folder / "job.toml", *inputs, "--run-dir", folder / "run", "--carry", "p")
    assert (done.returncode, f"{folder / 'a.txt'}, {folder / words}" in done.stderr) == (2, True)
    done = command("check", folder / "job.toml", *inputs, "--carry", "p", "--json")
    assert done.returncode == 2
    assert words in done.stdout
    (folder / "i.jsonl").write_text(lines[0])
    report = check(folder, "job.toml", "i.jsonl", "--carry", "p", status=0)
    assert "input" not in {each["code"] for each in report["findings"]}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("nowhere.txt", None, "can't be read"),
        ("i.csv", b"id\na\n", "no column 'file_id'"),
        ("i.txt", b"a\nb c\n\xff\n", "line 3: not UTF-8"),
        ("i.csv", b'file_id\n"a\n', "line 2: not CSV"),
    ],
)
def test_an_unreadable_input_is_one_error(folder: Path, name: str, data: bytes | None, words: str) -> None:
    """It is one error by itself, and nothing is made up for the rest."""
    if data is not None:
        (folder / name).write_bytes(data)
    report = check(folder, "job.toml", name)
    single = [each for each in report["findings"] if each["count"] is None]
    assert [each["code"] for each in single] == ["input"]
    assert words in single[0]["message"]
    assert report["files"] is None


def test_a_run_refuses_the_first_bad_line_and_writes_nothing(folder: Path) -> None:
    """It refuses at the first one, before anything is written."""
    for verb in ("plan", "run"):
        done = command(verb, folder / "job.toml", "--input", folder / "many.txt", "--run-dir", folder / "run")
        assert (done.returncode, "many.txt, line 2: 'b c' has a space" in done.stderr) == (2, True)
        assert not (folder / "run").exists()


# --- Settings ---------------------------------------------------------------------------------------------------------


def test_each_error_in_the_settings_is_a_finding(folder: Path) -> None:
    """Each is one, and the input is looked at as far as it can be without them."""
    report = check(folder, "faulty.toml", "many.txt")
    found = [each for each in report["findings"] if each["code"] == "settings"]
    assert [each["severity"] for each in found] == ["error"] * 3
    said = " ".join(each["message"] for each in found)
    for name in ("api.base_url", "limits.attempts", "plan.file_per_job"):
        assert name in said
    assert "faults in the settings" not in said
    assert finding(report, "input")["count"] == 3
    assert finding(report, "duplicates")["count"] == 1
    assert (report["files"], report["duplicates"], report["cost"], report["looked_up"]) == (2, 1, None, 0)


@pytest.mark.parametrize("config", ["nowhere.toml", "many.txt"])
def test_a_config_that_can_not_be_read_is_a_finding(folder: Path, config: str) -> None:
    """A config that isn't there, or is no TOML, is a finding as well."""
    report = check(folder, config, "many.txt")
    assert config in finding(report, "settings")["message"]
    assert finding(report, "input")["count"] == 3
    said = command("check", folder / config, "--input", folder / "many.txt")
    assert (said.returncode, said.stderr) == (2, "")
    assert said.stdout.splitlines()[-1] == "result      fix the input or the settings first"


def test_a_missing_documents_folder_is_a_finding_of_the_settings(folder: Path) -> None:
    """What is wrong with the embedded sandbox's folder is an error of the settings, beside what the input tells."""
    (folder / "empty").mkdir()
    for documents in ("nowhere", "empty"):
        config = f'{CONFIG}\n[sandbox]\ndocuments = "{folder / documents}"\n'
        (folder / "job.toml").write_text(config)
        report = check(folder, "job.toml", "many.txt")
        assert str(folder / documents) in finding(report, "settings")["message"]
        assert finding(report, "input")["count"] == 3


def test_without_settings_stdin_is_checked_and_the_project_skipped(folder: Path) -> None:
    """Nobody can be asked for its files, and stdin is read as ever."""
    asked = [sys.executable, "-m", "classify_batch", "check", str(folder / "faulty.toml"), "--json", "--input"]
    for source, files in (("project:", None), ("-", 2)):
        done = subprocess.run(
            [*asked, source], input="a\nb\n", capture_output=True, text=True, timeout=60, check=False, env=environment()
        )
        report = json.loads(done.stdout)
        assert (done.returncode, report["files"]) == (2, files)
        assert {each["code"] for each in report["findings"]} == {"settings"}


# --- The run directory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run_dir", "words"),
    [
        ("many.txt", "many.txt is no directory"),
        ("many.txt/run", "many.txt is no directory"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_run_directory_that_can_not_be_is_an_error(folder: Path, run_dir: str, words: str) -> None:
    """What `run` would refuse is told before; nothing is made there."""
    (folder / "few.txt").write_text("a\nb\n")
    found = finding(check(folder, "job.toml", "few.txt", "--run-dir", str(folder / run_dir)), "run_dir")
    assert found["severity"] == "error"
    assert found["message"].startswith(f"{folder / run_dir} can't be used as a run directory: ")
    assert words in found["message"]


def test_a_run_directory_that_can_be_made_is_no_finding(folder: Path) -> None:
    """Neither one that is there, nor one several levels down."""
    (folder / "few.txt").write_text("a\nb\n")
    for run_dir in (folder, folder / "new" / "run"):
        report = check(folder, "job.toml", "few.txt", "--run-dir", str(run_dir), status=0)
        assert [each for each in report["findings"] if each["code"] == "run_dir"] == []
    assert not (folder / "new").exists()
