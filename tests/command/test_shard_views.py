"""What reads a run takes the directory of a whole run with shards: the same as of a run without, whatever each shard
is at. Real processes, a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from classify_batch import open_run, report
from tests.command.test_report_command import Page
from tests.command.test_shards_command import Place
from tests.support.command_line import KEY, command, environment, until
from tests.support.complete_run import write_complete_shards
from tests.support.real_run import sandbox

SHARDS = 4


class Views:
    """The same files, three times: `whole` has all shards, `plain` none; of `partial` shard 0 is complete, shard 1 was
    killed in its middle, shard 2 was never begun, and shard 3 stopped in order."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder, self.file_ids = folder, place.file_ids
        self.whole, self.plain, self.partial = folder / "whole", folder / "plain", folder / "partial"


def has_outcomes(run_dir: Path) -> bool:
    journal = run_dir / "journal.jsonl"
    return journal.exists() and b'"collected"' in journal.read_bytes()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    """The three runs, and the server that they called."""
    folder = tmp_path_factory.mktemp("views")
    with sandbox(folder, "--api-key", KEY, "--job-duration-s", "0.1", "--fault", "foreign_share=0.02") as server:
        place = Place(folder, server, jobs_in_flight=2)
        views = Views(folder, place)
        place.run_dir = views.plain
        command(*place.words(), "--jobs-in-flight", "50")
        place.run_dir = views.whole
        command(*place.words("--shards", str(SHARDS)), "--jobs-in-flight", "50")
        place.run_dir = views.partial
        command(*place.words("--shard", f"0/{SHARDS}"), "--jobs-in-flight", "50")
        for index, stop in ((1, "kill"), (3, "terminate")):
            with place.start("--shard", f"{index}/{SHARDS}") as process:
                until(partial(has_outcomes, place.shard_dir(index)), process)
                getattr(process, stop)()
        yield views


@pytest.fixture
def views(lived: Views, tmp_path: Path) -> Views:
    """The same for a test of its own, which may damage them."""
    copied = Views.__new__(Views)
    copied.folder, copied.file_ids = tmp_path, lived.file_ids
    for name in ("whole", "plain", "partial"):
        shutil.copytree(lived.folder / name, tmp_path / name)
        setattr(copied, name, tmp_path / name)
    return copied


def committed_in(run_dir: Path) -> int:
    """How many files have their outcome, as `status` says."""
    return sum(json.loads(command("status", run_dir, "--json", status=0).stdout)["counts"].values())


def diff(*words: object) -> dict[str, Any]:
    """What `diff --json` says."""
    found: dict[str, Any] = json.loads(command("diff", *words, "--json", status=0).stdout)
    return found


# --- diff -------------------------------------------------------------------------------------------------------------


def test_a_run_with_shards_is_compared_like_one_without(views: Views) -> None:
    """Either side may have shards: every file is unchanged, and the sums are the plain run's."""
    for sides in ((views.whole, views.plain), (views.plain, views.whole), (views.whole, views.whole)):
        found = diff(*sides)
        assert (found["files"], found["unchanged"]) == (len(views.file_ids), len(views.file_ids))
        assert (found["before"]["state"], found["after"]["state"], found["differs"]) == ("complete", "complete", {})
        assert found["before"]["counts"] == found["after"]["counts"]
        assert found["confidence"] == diff(views.plain, views.plain)["confidence"]


def test_files_of_shards_that_are_not_complete_wait(views: Views) -> None:
    """Those of a shard that was never begun, too: they are neither new nor gone."""
    done = committed_in(views.partial)
    assert 0 < done < len(views.file_ids)
    for sides in ((views.partial, views.plain), (views.whole, views.partial)):
        found = diff(*sides)
        assert (found["unchanged"], found["waiting"]) == (done, len(views.file_ids) - done)
        assert found["files"] == len(views.file_ids)
        assert sorted((found["before"]["state"], found["after"]["state"])) == ["complete", "incomplete"]


def test_changed_files_are_listed_from_all_shards(views: Views) -> None:
    """`--only` prints each changed file once, whichever side has shards, and names nothing else."""
    others = ["file-3", "file-70", "file-200"]
    (views.folder / "other.txt").write_text("".join(f"{each}\n" for each in ["new-1", *others]))
    run = json.loads((views.plain / "run.json").read_bytes())
    words = ("--input", views.folder / "other.txt", "--run-dir", views.folder / "other", "--base-url")
    config = views.folder / "job.toml"
    config.write_text('[job]\nrules = [{ type = "invoice", description = "has line items and a total" }]\n')
    base_url = run["settings"]["api"]["base_url"]
    command("run", config, *words, base_url, "--shards", "2")
    gone = command("diff", views.whole, views.folder / "other", "--only", "gone", status=0).stdout.splitlines()
    assert Counter(json.loads(line)["file_id"] for line in gone) == Counter(set(views.file_ids) - set(others))
    new = command("diff", views.plain, views.folder / "other", "--only", "new", status=0).stdout.splitlines()
    assert [json.loads(line)["file_id"] for line in new] == ["new-1"]


def test_diff_names_the_shard_that_is_damaged(views: Views) -> None:
    """A changed byte in one shard's outcomes is an error (2), which names the file in its directory."""
    path = views.whole / "shards" / "00002" / "results.jsonl"
    path.write_bytes(path.read_bytes().replace(b"invoice", b"invoyce", 1))
    refused = command("diff", views.whole, views.plain, status=2).stderr
    assert f"results.jsonl in {path.parent}" in refused
    assert "hint: " in refused


# --- report -----------------------------------------------------------------------------------------------------------


def words_of(run_dir: Path, *more: object) -> str:
    """The text of a report."""
    command("report", run_dir, *more, status=0)
    return " ".join(Page((Path(str(more[0])) if more else run_dir) / "report.html").text.split())


def test_the_report_of_all_shards_has_the_plain_runs_numbers(views: Views) -> None:
    """What came out is the same, word for word; then it says how far each shard is, and when processes worked on it."""
    whole, plain = words_of(views.whole), words_of(views.plain)
    begin, end = "What came out complete", "How it went files a minute"
    assert (
        whole[whole.index(begin) :].partition("All answers")[0].partition("The least certain")[0]
        == (plain[plain.index(begin) :].partition("The least certain")[0])
    )
    assert end in whole
    assert f"shards {SHARDS} {SHARDS} complete" in whole
    for index in range(SHARDS):
        assert f"Processes on shard {index}: 1 " in whole
    assert "no process at work" not in whole
    assert "Shards" not in plain


def test_the_report_of_an_unfinished_run_says_how_far_each_shard_is(views: Views) -> None:
    """Complete, killed, never begun, stopped: each in its row; the reason and the counts are those of `status`."""
    with (views.partial / "shards" / "00003" / "events.jsonl").open("a") as log:
        log.write('{"at":"2026-11-22T01:00:00Z","event":"limit_discovered","name":"requests_per_s","value":7}\n')
    said = words_of(views.partial)
    assert "shard 3: the API allows requests_per_s = 7" in said
    status = json.loads(command("status", views.partial, "--json", status=0).stdout)
    assert f"with an outcome {sum(status['counts'].values())} of {len(views.file_ids)} files" in said
    assert "shards 4 2 incomplete, 1 complete, 1 never begun" in said
    rows = re.findall(r"(\d) (complete|incomplete|never begun) (\d+) (\d+)", said[said.index("Shards ") :])
    assert [(int(row[0]), int(row[2]), int(row[3])) for row in rows] == [
        (each["shard"], each["done"], each["files"]) for each in status["shards"]
    ]
    assert [row[1] for row in rows] == ["complete", "incomplete", "never begun", "incomplete"]
    assert "Processes that ended without a stop, killed or with their machine: 1." in said
    assert f"exit status {status['exit_status']}" in said
    assert f"classify-batch resume {views.partial}" in said


def test_two_runs_with_shards_are_compared_on_a_page(views: Views) -> None:
    """Before and after, with what became of each file; from Python as from the command line."""
    page = report([views.partial, views.whole], views.folder / "both.html")
    said = " ".join(Page(page).text.split())
    waiting = len(views.file_ids) - committed_in(views.partial)
    assert f"waiting for its outcome {waiting}" in said
    assert f"files {len(views.file_ids)} {len(views.file_ids)} –" in said
    assert open_run(views.whole).report(views.folder / "one.html").exists()
    assert "<caption>" in open_run(views.whole)._repr_html_()


def test_a_report_names_the_shard_that_is_damaged(views: Views) -> None:
    """A changed byte in one shard is an error (2) that names the file, and no page is written."""
    path = views.whole / "shards" / "00001" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"submitted"', b'"submittes"', 1))
    assert f"journal.jsonl in {path.parent}" in command("report", views.whole, status=2).stderr
    assert not (views.whole / "report.html").exists()


def test_shards_that_are_running_have_a_report(views: Views, tmp_path: Path) -> None:
    """While processes hold two of the shards: it is running, the page is sound, and the commands fit."""
    for index in (1, 3):
        (views.partial / "shards" / f"{index:05d}" / "lock").write_text(
            json.dumps({"host": "here", "pid": 7, "since": "2026-11-22T01:00:00Z"})
        )
    with FileLock(views.partial / "shards" / "00001" / "lock"), FileLock(views.partial / "shards" / "00003" / "lock"):
        said = words_of(views.partial)
    assert "What came out running ." in said
    assert "shards 4 2 running, 1 complete, 1 never begun" in said
    assert f"classify-batch status {views.partial}" in said
    assert "ended without a stop" not in said
    (views.partial / "lock").write_text(json.dumps({"host": "here", "pid": 7, "since": "2026-11-22T01:00:00Z"}))
    with FileLock(views.partial / "lock"):  # one process for all shards, between two of them
        said = words_of(views.partial)
    assert "What came out running ." in said
    assert "shards 4 2 incomplete, 1 complete, 1 never begun" in said


@pytest.mark.slow
def test_a_million_files_in_a_hundred_shards_are_read_in_little_memory(tmp_path: Path) -> None:
    """A report, a comparison and a reader that follows: each holds no more than of a run without shards."""
    write_complete_shards(tmp_path / "run", 1_000_000, 500, 100)
    for call in (
        "report(sys.argv[1])",
        "assert diff(sys.argv[1], sys.argv[1]).counts['unchanged'] == 1_000_000",
        "assert sum(1 for _ in open_run(sys.argv[1]).follow()) == 1_000_000",
    ):
        code = f"import sys\nfrom classify_batch import diff, open_run, report\n{call}\n"
        code += 'print(dict(line.split(":", 1) for line in open("/proc/self/status"))["VmHWM"].split()[0])'
        words = [sys.executable, "-c", code, str(tmp_path / "run")]
        done = subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=300, check=True)
        assert int(done.stdout) < 120 * 1024, call
    assert (tmp_path / "run" / "report.html").stat().st_size < 2_000_000
