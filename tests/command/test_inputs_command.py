"""`--input` and how it is read, as a user meets it: the real command."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import command, command_process

CONFIG = """
[api]
base_url = "sandbox"

[job]
rules = [{ type = "invoice", description = "has line items and a total" }]

[limits]
requests_per_s = 1000
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


def written(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def planned_ids(run_dir: Path) -> list[str]:
    lines = map(json.loads, (run_dir / "plan.jsonl").read_text().splitlines())
    return [file_id for line in lines for file_id in line["file_ids"]]


def run_json(run_dir: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((run_dir / "run.json").read_text())
    return told


def test_several_inputs_are_one_input(tmp_path: Path, config: Path) -> None:
    """In the order in which they are given, each in its own format, repeats among them counted; the run finds them
    again, in another order too, and says what is missing."""
    lines, table = (
        written(tmp_path / "a.txt", "a\nb\n"),
        written(tmp_path / "b.csv.gz", gzip.compress(b"n;file_id\n1;c\n")),
    )
    array, run_dir = written(tmp_path / "c", '["d", "a"]'), tmp_path / "run"
    inputs = ("--input", lines, "--input", table, "--input", array)
    done = command("run", config, *inputs, "--run-dir", run_dir)
    assert done.returncode == 0, done.stderr
    assert "repeated    1 ID in the input" in done.stderr
    assert planned_ids(run_dir) == ["a", "b", "c", "d"]
    assert run_json(run_dir)["inputs"] == [
        {"source": str(lines), "format": "lines", "strict": True},
        {"source": str(table), "format": "csv", "delimiter": ";", "strict": True},
        {"source": str(array), "format": "json"},
    ]
    again = command("run", config, "--input", array, "--input", table, "--input", lines, "--run-dir", run_dir)
    assert again.returncode == 0, again.stderr
    less = command("run", config, "--input", array, "--run-dir", run_dir)
    assert less.returncode == 2
    assert "2 of its plan are not given (b, c)" in less.stderr
    assert command("check", config, *inputs).stdout.count("4") >= 1


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("run", "config.toml", "--input", "a", "--run-dir", "x", "--run-dir", "y"), "--run-dir"),
        (("plan", "config.toml", "--input", "a", "--run-dir=x", "--column", "a", "--column", "a"), "--column"),
        (("check", "config.toml", "--input", "a", "--max-credits", "5", "--max-credits", "9"), "--max-credits"),
        (("sandbox", "--port", "1", "--port", "2"), "--port"),
        (("jobs", "list", "--page-size", "1", "--page-size", "2"), "--page-size"),
        (("files", "upload", "--concurrency", "1", "x", "--concurrency", "2"), "--concurrency"),
    ],
)
def test_an_option_with_one_value_is_given_once(tmp_path: Path, words: tuple[str, ...], option: str) -> None:
    """Every command refuses the second, also where both say the same, before anything is read."""
    done = command(*words, folder=tmp_path)
    assert done.returncode == 2
    assert f"error: {option}: given more than once, and takes one value" in done.stderr
    assert "hint: classify-batch" in done.stderr


def test_options_that_may_be_repeated_are_not_refused(tmp_path: Path, config: Path) -> None:
    """Lists, and flags, which say the same twice."""
    path = written(tmp_path / "a.csv", "file_id,p,q\na,1,2\n")
    done = command(
        "check", config, "--input", path, "--input", path, "--carry", "p", "--carry", "q", "--json", "--json"
    )
    assert json.loads(done.stdout)["files"] == 1


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("ids.json", '["a","b"]', ()),
        ("ids.txt", '[{"file_id": "a"}, {"file_id": "b"}]', ()),
        ("ids.txt", "id;n\na;1\nb;2\n", ("--column", "id")),
        ("ids.csv", "id\tn\na\t1\nb\t2\n", ("--column", "id", "--format", "tsv")),
        ("ids", "x~id\n1~a\n2~b\n", ("--column", "id", "--delimiter", "~")),
        ("ids.txt", "a\r\nb\r\n".encode("utf-16"), ()),
        ("ids.txt", gzip.compress(b'"a"\n"b"\n', mtime=0), ()),
    ],
)
def test_stdin_and_files_are_read_by_their_content(
    tmp_path: Path, config: Path, name: str, data: str | bytes, words: tuple[str, ...]
) -> None:
    """`plan` and `check` agree, and a file and stdin, too."""
    path = written(tmp_path / name, data)
    planned = command("plan", config, "--input", path, "--run-dir", tmp_path / "run", *words)
    assert planned.returncode == 0, planned.stderr
    with path.open("rb") as stdin:
        piped = command_process("plan", config, "--input", "-", "--run-dir", tmp_path / "piped", *words, stdin=stdin)
    assert piped.returncode == 0, piped.stderr
    assert planned_ids(tmp_path / "run") == planned_ids(tmp_path / "piped") == ["a", "b"]
    assert json.loads(command("check", config, "--input", path, "--json", *words).stdout)["files"] == 2
    # The run keeps its reading: without the options it finds the same IDs.
    again = command("plan", config, "--input", path, "--run-dir", tmp_path / "run")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("data", ['{"a":1}\n', "id,n\na,1\n", '["a"', '"a","b"\n', "a\nb,c\n"])
def test_what_is_no_list_of_ids_is_refused_alike(tmp_path: Path, config: Path, data: str) -> None:
    """`run`, `plan` and `check` end with 2, and nothing is planned."""
    path = written(tmp_path / "ids.txt", data)
    for verb in ("run", "plan"):
        done = command(verb, config, "--input", path, "--run-dir", tmp_path / "run")
        assert done.returncode == 2, done.stderr
        assert "hint:" in done.stderr
        assert not (tmp_path / "run" / "run.json").exists()
    assert command("check", config, "--input", path).returncode == 2


def test_a_run_that_took_lines_for_ids_goes_on(tmp_path: Path, config: Path) -> None:
    """Runs that an older version planned have no `inputs`: a line of CSV stays the ID that it was."""
    path, run_dir = written(tmp_path / "ids.txt", "a,b\nc\n"), tmp_path / "run"
    forced = command("plan", config, "--input", path, "--run-dir", run_dir, "--format", "lines")
    assert forced.returncode == 0, forced.stderr
    told = run_json(run_dir)
    del told["inputs"]
    (run_dir / "run.json").write_text(json.dumps(told))
    done = command("run", config, "--input", path, "--run-dir", run_dir)
    assert done.returncode == 0, done.stderr
    assert planned_ids(run_dir) == ["a,b", "c"]
