"""What a run writes for other programs: a log, metrics, a summary. The real command line, a real sandbox."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from classify_batch.cli.rendering import metrics_file, output_file, summary_file
from classify_batch.cli.run_outputs import RunOutputs
from tests.support.command_line import KEY, command, command_process, sandbox

CONFIG = """
[api]
base_url = "{url}"
[job]
rules = [{{ type = "invoice", description = "has line items and a total" }}]
[plan]
files_per_job = 2
[limits]
requests_per_s = 500
"""

SAMPLE = re.compile(r'^classify_batch_[a-z_]+\{run_dir="[^"]*"(,[a-z]+="[^"]*")*\} -?[0-9.e+]+$')


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Path]:
    """A folder with a config and an input of ten IDs, and a sandbox that runs."""
    with sandbox() as base_url:
        (tmp_path / "my.toml").write_text(CONFIG.format(url=base_url))
        (tmp_path / "ids.txt").write_text("".join(f"file-{number}\n" for number in range(10)))
        yield tmp_path


RUN = ("run", "my.toml", "--input", "ids.txt", "--run-dir", "run")


def samples(text: str) -> dict[str, float]:
    """The samples of a metrics file by name and labels, without the run directory."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(SAMPLE.match(line) for line in lines), lines
    pairs = (line.replace('run_dir="run",', "").replace('run_dir="run"', "").rsplit(" ", 1) for line in lines)
    return {name: float(value) for name, value in pairs}


def test_a_log_file_has_lines_of_json(workplace: Path) -> None:
    """Each line is an object with time, level, message and the run; jobs and requests with --verbose only."""
    command(*RUN, "--log-format", "json", "--log-file", "log.jsonl", folder=workplace, status=0)
    lines = [json.loads(line) for line in (workplace / "log.jsonl").read_text().splitlines()]
    run_id = json.loads((workplace / "run" / "run.json").read_text())["run_id"]
    assert [line["message"].split(":")[0] for line in lines] == ["run started", "run complete, exit status 0"]
    assert {(line["level"], line["run"]) for line in lines} == {("info", run_id)}
    assert all(datetime.fromisoformat(line["timestamp"]).tzinfo is not None for line in lines)
    assert stat.S_IMODE((workplace / "log.jsonl").stat().st_mode) == 0o600
    again = [*RUN[:-1], "other", "--log-format", "json", "--log-file", "log.jsonl", "--verbose"]
    command(*again, folder=workplace, status=0)
    appended = [json.loads(line) for line in (workplace / "log.jsonl").read_text().splitlines()][len(lines) :]
    created = [line for line in appended if line["message"] == "job created"]
    assert sorted(line["chunk"] for line in created) == [0, 1, 2, 3, 4]
    assert all(line["job"] for line in created)
    assert KEY not in (workplace / "log.jsonl").read_text()


def test_a_log_on_stderr_stands_in_place_of_all_else(workplace: Path) -> None:
    """With --log-format and no file, stderr holds the log alone, a JSON object a line; stdout is as always."""
    done = command(*RUN, "--log-format", "json", "--json", folder=workplace, status=0)
    assert [json.loads(line)["level"] for line in done.stderr.splitlines()] == ["info", "info"]
    assert json.loads(done.stdout)["state"] == "complete"
    text = command("resume", "run", "--log-format", "text", folder=workplace, status=0)
    assert text.stderr == ""  # it was complete: nothing happens


def test_text_lines_say_what_they_are_about(workplace: Path) -> None:
    """Time, level, message and what it is about; the summary stays on stderr."""
    done = command(*RUN, "--log-file", "run.log", folder=workplace, status=0)
    first = (workplace / "run.log").read_text().splitlines()[0]
    assert re.fullmatch(r"\S+Z info    run started: 0 of 10 files have their outcome  run=\S+", first)
    assert "outcomes" in done.stderr


def test_a_log_that_can_not_be_written_ends_no_run(workplace: Path) -> None:
    """A full device: said once, without a traceback, and the run is complete."""
    done = command_process(*RUN, "--log-file", "/dev/full", "--verbose", folder=workplace, status=0)
    assert done.stderr.count("is not written any more") == 1
    assert "Traceback" not in done.stderr


def test_metrics_are_whole_and_readable_by_the_exporter(workplace: Path) -> None:
    """Prometheus' text format with the final numbers; everybody may read it, and nothing is left beside."""
    command(*RUN, "--metrics-file", "run.prom", folder=workplace, status=0)
    text = (workplace / "run.prom").read_text()
    found = samples(text)
    assert found["classify_batch_files{}"] == 10
    assert found['classify_batch_outcomes{outcome="classified"}'] == 10
    assert found["classify_batch_jobs_total{}"] == 5
    assert (found['classify_batch_state{state="complete"}'], found["classify_batch_exit_status{}"]) == (1, 0)
    assert (workplace / "run.prom").stat().st_mode & 0o044 == 0o044 & ~current_umask()
    assert [path.name for path in workplace.iterdir() if "run.prom" in path.name] == ["run.prom"]
    parser = pytest.importorskip("prometheus_client.parser")
    assert {family.name for family in parser.text_string_to_metric_families(text)} >= {"classify_batch_files"}


def current_umask() -> int:
    """The umask of this process."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_metrics_escape_what_a_path_holds() -> None:
    """A run directory with quotes, backslashes and line breaks is one label."""
    text = metrics_file.format_metrics(metrics_file.Numbers(files=1), 'a"b\\c\nd', 1.0)
    assert 'run_dir="a\\"b\\\\c\\nd"' in text
    assert all(line.startswith(("#", "classify_batch_")) for line in text.splitlines())


def test_a_summary_is_written_at_every_end(workplace: Path) -> None:
    """Complete, or ended by an error: one small JSON object with the exit status and the reason."""
    command(*RUN, "--summary-file", "summary.json", folder=workplace, status=0)
    summary = json.loads((workplace / "summary.json").read_text())
    assert (summary["state"], summary["exit_status"], summary["counts"]["classified"]) == ("complete", 0, 10)
    (workplace / "ids.txt").write_text("another\n")
    command(*RUN, "--summary-file", "summary.json", "--metrics-file", "m.prom", folder=workplace, status=2)
    summary = json.loads((workplace / "summary.json").read_text())
    assert (summary["state"], summary["exit_status"]) == ("error", 2)
    assert "plan" in summary["reason"]
    assert samples((workplace / "m.prom").read_text())["classify_batch_exit_status{}"] == 2


def test_a_summary_fits_the_termination_message() -> None:
    """Whatever stands in it, it has at most 4,096 bytes, is JSON, and keeps state and status."""
    huge = {
        "state": "incomplete",
        "exit_status": 75,
        "reason": "ü" * 5000,
        "hint": "h" * 5000,
        "types": {f"type {number} {'x' * 40}": number for number in range(20)},
        "run_dir": "/" + "d" * 5000,
    }
    data = summary_file.encode_summary(huge)
    assert len(data) <= 4096
    assert (json.loads(data)["state"], json.loads(data)["exit_status"]) == ("incomplete", 75)


def test_a_summary_is_written_into_a_file_that_can_not_be_replaced(workplace: Path) -> None:
    """As Kubernetes mounts it: no other file can be made beside it."""
    folder = workplace / "mounted"
    folder.mkdir()
    (folder / "termination-log").write_text("before, and much longer than what comes" * 100)
    path = summary_file.SummaryFile(folder / "termination-log", Path("run"))
    inode = (folder / "termination-log").stat().st_ino
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output_file, "beside", lambda path: path.parent / "no such folder" / path.name)
        path._write_file({"state": "complete", "exit_status": 0})
    assert json.loads((folder / "termination-log").read_text())["state"] == "complete"
    assert (folder / "termination-log").stat().st_ino == inode


OPTIONS = ("--log-file", "--metrics-file", "--summary-file")


@pytest.mark.parametrize("option", OPTIONS)
def test_no_output_is_written_over_a_file_of_the_run(workplace: Path, option: str) -> None:
    """Status 2, also by way of a link and before the run has begun; the run stays as it was."""
    (workplace / "run").mkdir()
    done = command(*RUN, option, "run/journal.jsonl", folder=workplace, status=2)
    assert "run/journal.jsonl is a file of the run itself" in done.stderr
    assert not list((workplace / "run").iterdir())
    command(*RUN, "--submit-only", folder=workplace, status=75)
    (workplace / "link").symlink_to("run/results.jsonl")
    names = [path.name for path in (workplace / "run").iterdir() if path.is_file()]
    assert {"run.json", "results.jsonl", "manifest.json", "lock", "events.jsonl"} <= set(names)
    for target in (*(f"run/{name}" for name in names), "run/failures.1.jsonl", "run/lease.1.jsonl", "link"):
        done = command("resume", "run", option, target, folder=workplace, status=2)
        assert f"{target} is a file of the run itself" in done.stderr
        assert "hint:" in done.stderr
    command("resume", "run", folder=workplace, status=0)
    command("verify", "run", folder=workplace, status=0)


@pytest.mark.parametrize("option", OPTIONS)
def test_no_output_is_written_over_what_the_command_reads(workplace: Path, option: str) -> None:
    """Neither over the config, nor an input, nor the file of the key: each stays as it was."""
    (workplace / "key").write_text(KEY)
    (workplace / "more.txt").write_text("file-x\n")
    before = {path.name: path.read_bytes() for path in workplace.iterdir()}
    variables = {"LLAMA_CLOUD_API_KEY_FILE": str(workplace / "key")}
    for target in ("my.toml", "ids.txt", "./more.txt", "key"):
        done = command(*RUN, "--input", "more.txt", option, target, folder=workplace, environ=variables, status=2)
        assert f"{Path(target)} is a file that this command reads" in done.stderr
    assert {path.name: path.read_bytes() for path in workplace.iterdir()} == before


@pytest.mark.parametrize("option", OPTIONS)
def test_no_output_is_written_over_the_key_of_an_account(workplace: Path, option: str) -> None:
    """An account's key file is as little a target as that of a run with one key; `resume` and `cancel` know it, too."""
    config = workplace / "my.toml"
    config.write_text(f'{config.read_text()}\n[[accounts]]\nname = "east"\napi_key_env = "EAST_KEY"\n')
    (workplace / "key").write_text(KEY)
    variables = {"LLAMA_CLOUD_API_KEY": None, "EAST_KEY_FILE": str(workplace / "key")}
    done = command(*RUN, option, "key", folder=workplace, environ=variables, status=2)
    assert "key is a file that this command reads" in done.stderr
    command(*RUN, folder=workplace, environ=variables, status=0)
    for again in ("resume", "cancel"):
        done = command(again, "run", option, "key", folder=workplace, environ=variables, status=2)
        assert "key is a file that this command reads" in done.stderr
    assert (workplace / "key").read_text() == KEY


def test_two_outputs_want_two_files(workplace: Path) -> None:
    """The summary would replace the metrics; on a device both may stand."""
    done = command(*RUN, "--metrics-file", "out", "--summary-file", "./out", folder=workplace, status=2)
    assert "out is a file that this command reads, or writes besides" in done.stderr
    device = Path("/dev/null")
    RunOutputs(log_file=device, summary_file=device).refuse_bad_targets(workplace / "run")


@pytest.mark.parametrize("option", OPTIONS)
def test_a_target_that_can_not_be_is_refused_before_anything_is_sent(workplace: Path, option: str) -> None:
    """A folder, or a file in no folder: status 2, and no run directory."""
    for target in (".", "nowhere/file"):
        done = command(*RUN, option, target, folder=workplace, status=2)
        assert "hint:" in done.stderr
    assert not (workplace / "run").exists()
