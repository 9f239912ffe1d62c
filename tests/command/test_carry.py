"""`run --carry`: what the input says of a file stands beside its outcome."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import command

CONFIG = """
[api]
base_url = "sandbox"

[job]
rules = [{ type = "invoice", description = "has line items and a total" }]

[plan]
files_per_job = 3

[limits]
requests_per_s = 1000
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


def carried(run_dir: Path) -> dict[str, Any]:
    lines = (run_dir / "results.jsonl").read_text().splitlines() + (run_dir / "failures.jsonl").read_text().splitlines()
    return {line["file_id"]: line.get("carried") for line in map(json.loads, lines)}


def test_csv_columns_are_carried_to_the_outcomes(tmp_path: Path, config: Path) -> None:
    """Quoted cells and all."""
    rows = ["id,path,note"] + [f'f{n},"in/{n}, ""x"".pdf",ü\u2028{n}' for n in range(8)]
    (tmp_path / "ids.csv").write_text("\n".join(rows))
    run_dir = tmp_path / "run"
    told = ("--column", "id", "--carry", "path", "--carry", "note")
    done = command("run", config, "--input", tmp_path / "ids.csv", "--run-dir", run_dir, *told)
    assert done.returncode == 0, done.stderr
    assert carried(run_dir) == {f"f{n}": {"path": f'in/{n}, "x".pdf', "note": f"ü\u2028{n}"} for n in range(8)}
    assert command("verify", run_dir).returncode == 0


def test_an_id_that_comes_again_carries_all_that_came_with_it(tmp_path: Path, config: Path) -> None:
    """One outcome, whose `carried` is a list in the order of the input; the run says how many came again; the outcomes
    are an input like any other, and a table has the list in its cell."""
    rows = ["file_id,path", *[f"f{n},in/{n}" for n in range(8)], "f3,b", "f3,a", "missing,m1", "missing,m2"]
    (tmp_path / "ids.csv").write_text("\n".join(rows))
    run_dir, documents = tmp_path / "run", tmp_path / "documents"
    documents.mkdir()
    planned = command("plan", config, "--input", tmp_path / "ids.csv", "--run-dir", run_dir, "--carry", "path")
    assert planned.returncode == 0, planned.stderr
    assert json.loads((run_dir / "run.json").read_text())["format"] == 4
    done = command("resume", run_dir)
    assert done.returncode == 0, done.stderr
    assert "repeated    3 IDs in the input" in done.stderr
    expected: dict[str, Any] = {f"f{n}": {"path": f"in/{n}"} for n in range(8)}
    expected["f3"] = [{"path": "in/3"}, {"path": "b"}, {"path": "a"}]
    expected["missing"] = [{"path": "m1"}, {"path": "m2"}]
    assert carried(run_dir) == expected
    assert command("verify", run_dir).returncode == 0
    assert json.loads((run_dir / "manifest.json").read_text())["duplicates"] == 3

    table = tmp_path / "table.csv"
    assert command("export", run_dir, table).returncode == 0
    with table.open(newline="") as file:
        cells = {row["file_id"]: row["path"] for row in csv.DictReader(file)}
    assert (cells["f3"], cells["f4"]) == ('["in/3","b","a"]', "in/4")
    again = command(
        "run", config, "--input", run_dir / "results.jsonl", "--run-dir", tmp_path / "again", "--carry", "path"
    )
    assert again.returncode == 0, again.stderr
    assert carried(tmp_path / "again") == expected


def test_the_file_list_is_carried_too(tmp_path: Path, config: Path) -> None:
    """`project:` has the names of its files."""
    documents = tmp_path / "documents"
    documents.mkdir()
    for name in ("a.txt", "b.txt"):
        (documents / name).write_text("an invoice with line items and a total")
    config.write_text(CONFIG + f"[sandbox]\ndocuments = {str(documents)!r}\n")
    run_dir = tmp_path / "run"
    done = command("run", config, "--input", "project:", "--run-dir", run_dir, "--carry", "name")
    assert done.returncode == 0, done.stderr
    assert sorted(each["name"] for each in carried(run_dir).values()) == ["a.txt", "b.txt"]


def test_jsonl_keys_are_carried_and_carried_on_from_outcomes(tmp_path: Path, config: Path) -> None:
    """Any JSON value; and what a run carried is carried on when its outcomes are the input."""
    values = ["x", 7, None, {"deep": [1, 2]}, "\ud800", 10**30]
    first = tmp_path / "ids.jsonl"
    first.write_text("\n".join(json.dumps({"file_id": f"f{n}", "tag": value}) for n, value in enumerate(values)))
    run_dir = tmp_path / "run"
    assert command("run", config, "--input", first, "--run-dir", run_dir, "--carry", "tag").returncode == 0
    expected = {f"f{n}": {"tag": value} for n, value in enumerate(values)}
    assert carried(run_dir) == expected
    again = command(
        "run", config, "--input", run_dir / "results.jsonl", "--run-dir", tmp_path / "again", "--carry", "tag"
    )
    assert again.returncode == 0, again.stderr
    assert carried(tmp_path / "again") == expected


def test_a_resumed_run_carries_the_planned_columns(tmp_path: Path, config: Path) -> None:
    """`plan` writes the columns down; `resume` needs no input."""
    (tmp_path / "ids.csv").write_text("file_id,path\na,1\nb,2\nc,3\nd,4\n")
    run_dir = tmp_path / "run"
    planned = command("plan", config, "--input", tmp_path / "ids.csv", "--run-dir", run_dir, "--carry", "path")
    assert planned.returncode == 0, planned.stderr
    assert command("resume", run_dir).returncode == 0
    assert carried(run_dir) == {each: {"path": str(n)} for n, each in enumerate("abcd", 1)}
    other = command("run", config, "--input", tmp_path / "ids.csv", "--run-dir", run_dir)
    assert other.returncode == 2
    assert "carried columns" in other.stderr


@pytest.mark.parametrize(
    ("name", "text", "told", "words"),
    [
        ("ids.csv", "file_id,path\na,1\n", ("paht",), ["line 1", "no column 'paht'", "hint: name columns"]),
        ("ids.jsonl", '{"file_id": "a", "p": 1}\n{"file_id": "b"}\n', ("p",), ["line 2", "no column 'p'"]),
        (
            "ids.jsonl",
            '{"file_id": "a", "p": NaN}\n',
            ("p",),
            ["line 1: file ID a carries a number that JSON doesn't have"],
        ),
        ("ids.txt", "a\n", ("p",), ["one value on each line, and no columns: 'p' can't be carried"]),
        ("ids.csv", "file_id,path\na,1\n", ("path", "path"), ["plan.carry", "named once"]),
        ("ids.csv", "file_id,path\na," + "x" * 20_000 + "\n", ("path",), ["line 2: file ID a carries", "16,384"]),
    ],
)
def test_a_value_that_can_not_be_carried_names_file_and_line(
    tmp_path: Path, config: Path, name: str, text: str, told: tuple[str, ...], words: list[str]
) -> None:
    """Told by file and line, and nothing is left behind."""
    (tmp_path / name).write_text(text)
    options = [each for column in told for each in ("--carry", column)]
    done = command("run", config, "--input", tmp_path / name, "--run-dir", tmp_path / "run", *options)
    assert done.returncode == 2
    for each in words:
        assert each in done.stderr
    assert "hint:" in done.stderr
    assert not (tmp_path / "run" / "run.json").exists()
