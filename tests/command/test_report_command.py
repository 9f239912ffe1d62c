"""`classify-batch report` as a user meets it: real run directories, and the page as a machine reads it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import stat
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from filelock import FileLock

from classify_batch import UsageError, report
from tests.support.command_line import command, contents, environment, sandbox, small_jobs_config
from tests.support.complete_run import write_complete_run

OLD_RUNS = Path(__file__).parents[1] / "old_runs"
NAMES = sorted(path.name for path in OLD_RUNS.iterdir() if (path / "run").is_dir())
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&</style>{{7*7}}</title></svg>"
VOID = {"meta", "link"}


class Page(HTMLParser):
    """A page, read: its tags, its attributes and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(path.read_text("utf-8"))
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += " "
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with failures of every kind, in a folder with an odd name."""
    target = tmp_path / "it's <b>a run</b>"
    shutil.copytree(OLD_RUNS / "failures_v1" / "run", target)
    return target


def test_the_page_says_what_came_out(run_dir: Path) -> None:
    """Counts, types, codes with examples, and commands; stdout has the page's path, and the run is as before."""
    before = contents(run_dir)
    done = command("report", run_dir, status=0)
    path = run_dir / "report.html"
    assert done.stdout == f"{path}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page = Page(path)
    words = " ".join(page.text.split())
    for said in ("classified 23 57.5 %", "unmatched 2 5.0 %", "failed 15 37.5 %", "contract 9", "overdue", "file-020"):
        assert said in words
    assert "job JOB_ID was not finished within limits.job_timeout_s file-020" in words
    assert "At most 195 credits ($0.24)" in words
    assert f"classify-batch resume {shlex.quote(str(run_dir))} --retry-failed" in words
    path.unlink()
    assert contents(run_dir) == before


def test_nothing_on_the_page_runs_or_leads_elsewhere(run_dir: Path) -> None:
    """No script, no handler, no address: the policy forbids them, and the page has none."""
    command("report", run_dir, status=0)
    page = Page(run_dir / "report.html")
    assert {"script", "iframe", "object", "form", "img"} & set(page.tags) == set()
    assert [name for name, _ in page.attributes if name.startswith("on")] == []
    links = [value or "" for name, value in page.attributes if name in ("href", "src", "action")]
    assert all(link.startswith("#") or link == "data:," for link in links)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("content", policy) in page.attributes
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


@pytest.mark.parametrize("name", NAMES)
def test_runs_of_older_versions_have_a_report(name: str, tmp_path: Path) -> None:
    """Complete, killed, with a second look, with reused answers, v1 and v2: the page has the numbers of the journal."""
    run = tmp_path / "run"
    shutil.copytree(OLD_RUNS / name / "run", run)
    status = json.loads(command("status", run, "--json").stdout)
    command("report", run, "--output", tmp_path / "page.html", status=0)
    words = " ".join(Page(tmp_path / "page.html").text.split())
    for kind, files in status["counts"].items():
        assert f"{kind} {files:,} " in words
    assert f"of {status['files']:,} files" in words
    assert status["state"] in words
    assert ("classify-batch resume" in words) is (status["state"] != "complete" or status["counts"]["failed"] > 0)


def hostile_run(run: Path) -> Path:
    """A run in which every word from outside is hostile."""
    write_complete_run(run, 40, 10, kind=HOSTILE)
    event = {"at": "2026-11-22T01:00:00Z", "event": "warning", "message": HOSTILE}
    (run / "events.jsonl").write_text(json.dumps(event) + "\n" + '{"torn')
    values = {"state": "incomplete", "reason": HOSTILE, "exit_status": 77, "run_id": HOSTILE, "started_at": HOSTILE}
    values |= {"stopped_at": HOSTILE, "files": 40, "counts": {}, "types": {}, "failure_codes": {}, "jobs": 1}
    (run / "manifest.json").write_text(json.dumps(values | {"requests": 1, "journal_seq": 1}))
    return run


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    """Types, messages, events, the manifest and the directory's own name are text, never markup; nothing is lost."""
    run = hostile_run(tmp_path / "<script>alert(2)<")
    command("report", run, "--output", tmp_path / "page.html", status=0)
    page = Page(tmp_path / "page.html")
    assert {"script", "img"} & set(page.tags) == set()
    assert [name for name, _ in page.attributes if name in ("onerror", "src")] == []
    assert page.text.count("<script>alert(1)</script>") >= 3
    assert "<script>alert(2)<" in page.text
    assert "{{7*7}}" in page.text
    assert page.tags.count("style") == 1


def test_without_examples_no_file_is_named(run_dir: Path) -> None:
    """`--no-examples` leaves file IDs, reasonings and the server's messages out, and keeps every number."""
    command("report", run_dir, "--no-examples", status=0)
    text = (run_dir / "report.html").read_text()
    assert re.search(r"file-\d|PDF_IS_BROKEN|Drawn by lot|HTTP 400", text) is None
    assert "overdue" in text
    assert "37.5 %" in text


def test_two_nights_are_compared(tmp_path: Path) -> None:
    """The page says what changed, has both runs, and lies in the later one."""
    for name, kind in (("monday", "invoice"), ("tuesday", "letter")):
        write_complete_run(tmp_path / name, 50, 10, kind=kind)
    done = command("report", tmp_path / "monday", tmp_path / "tuesday", status=0)
    assert done.stdout == f"{tmp_path / 'tuesday' / 'report.html'}\n"
    words = " ".join(Page(tmp_path / "tuesday" / "report.html").text.split())
    assert "Two runs compared" in words
    assert "invoice letter 50" in words
    assert f"classify-batch diff {tmp_path / 'monday'} {tmp_path / 'tuesday'} --only type" in words


def test_a_run_that_is_on_has_a_report(run_dir: Path) -> None:
    """Whoever holds the run goes on: no lock is taken, and the page says that the run is running."""
    with FileLock(run_dir / "lock"):
        (run_dir / "lock").write_text(json.dumps({"host": "h", "pid": 1, "since": "2026-11-22T01:00:00Z"}))
        command("report", run_dir, status=0)
    words = " ".join(Page(run_dir / "report.html").text.split())
    assert "running" in words
    assert "classify-batch status" in words


def words_of(run_dir: Path) -> str:
    """The text of a run's report; its numbers are those of `status`."""
    command("report", run_dir, status=0)
    words = " ".join(Page(run_dir / "report.html").text.split())
    status = json.loads(command("status", run_dir, "--json").stdout)
    for kind, files in status["counts"].items():
        assert f"{kind} {files:,} " in words
    assert f"of {status['files']:,} files" in words
    return words


def test_a_run_without_outcomes_has_a_report(tmp_path: Path) -> None:
    """Planned only, and with jobs in flight only: nothing is divided by nothing, and the page says how to go on."""
    with sandbox("--job-duration-s", "600") as url:
        (tmp_path / "my.toml").write_text(small_jobs_config(url))
        (tmp_path / "ids.txt").write_text("".join(f"file-{n}\n" for n in range(40)))
        place = ("--input", tmp_path / "ids.txt", "--run-dir", tmp_path / "run")
        command("plan", tmp_path / "my.toml", *place, status=0)
        planned = words_of(tmp_path / "run")
        assert "Jobs in flight" not in planned
        assert "files a minute unknown" in planned
        command("run", tmp_path / "my.toml", *place, "--submit-only", status=75)
    words = words_of(tmp_path / "run")
    assert "Jobs in flight: at most 2" in words
    assert "exit status 75" in words
    assert f"classify-batch resume {tmp_path / 'run'}" in words
    assert "A request waited" in words


def test_a_report_after_a_retry_counts_each_file_once(tmp_path: Path) -> None:
    """Failures that were put aside are no failures any more: those of now are listed, and no others."""
    with sandbox("--fault", "error=0.5", "--seed", "3") as url:
        (tmp_path / "my.toml").write_text(small_jobs_config(url))
        (tmp_path / "ids.txt").write_text("".join(f"file-{n}\n" for n in range(60)))
        place = ("--input", tmp_path / "ids.txt", "--run-dir", tmp_path / "run")
        command("run", tmp_path / "my.toml", *place, "--files-per-job", "1", status=1)
        first = words_of(tmp_path / "run")
        command("resume", tmp_path / "run", "--retry-failed")
    words = words_of(tmp_path / "run")
    failed = json.loads(command("status", tmp_path / "run", "--json").stdout)["counts"]["failed"]
    before = int(re.findall(r"failed (\d+) ", first)[0])
    assert 0 < failed < before
    assert f"Try {failed:,} failed files again" in words
    counted = re.search(
        r"Failures by reason code message and examples files (.*?) (?:All answers|The least certain)", words
    )
    assert counted is not None
    assert counted[1].endswith(f" {failed}")


def test_what_is_no_report_is_refused(run_dir: Path, tmp_path: Path) -> None:
    """Another suffix, a folder, no run and a damaged run end with 2 and a hint, and leave an older page as it was."""
    page = tmp_path / "page.html"
    page.write_text("the older one")
    (tmp_path / "folder.html").mkdir()
    for output in ("page.txt", "folder.html", "missing/page.html"):
        assert "hint:" in command("report", run_dir, "--output", tmp_path / output, status=2).stderr
    assert "holds no run" in command("report", tmp_path / "nothing", status=2).stderr
    results = run_dir / "results.jsonl"
    results.write_bytes(results.read_bytes().replace(b"contract", b"contrast"))
    assert "hint:" in command("report", run_dir, "--output", page, status=2).stderr
    assert page.read_text() == "the older one"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_the_browser_is_shown_the_page(run_dir: Path, tmp_path: Path) -> None:
    """`--open` gives the page's address to the user's browser."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened\n')
    browser.chmod(0o700)
    command("report", run_dir, "--open", status=0, environ={"BROWSER": f"{browser} %s"})
    assert (tmp_path / "opened").read_text() == (run_dir / "report.html").as_uri()


def test_python_programs_make_reports(run_dir: Path, tmp_path: Path) -> None:
    """`report` writes the page and returns its path; more than two directories are refused."""
    assert report(run_dir, tmp_path / "page.html") == tmp_path / "page.html"
    assert "Report of a run" in (tmp_path / "page.html").read_text()
    with pytest.raises(UsageError, match="not of 3"):
        report([run_dir] * 3)


def test_only_a_report_imports_jinja() -> None:
    """Neither the package nor `report --help` loads the template's library."""
    code = "import sys, runpy; sys.argv = ['x', 'report', '--help']\ntry: runpy.run_module('classify_batch', "
    code += "run_name='__main__')\nexcept SystemExit: print('jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.slow
def test_a_million_files_make_a_small_page(tmp_path: Path) -> None:
    """The page stays under 2 MB, and the memory doesn't follow the input."""
    write_complete_run(tmp_path / "run", 1_000_000, 500)
    code = (
        "import sys\nfrom classify_batch import report\nreport(sys.argv[1])\n"
        'print(dict(line.split(":", 1) for line in open("/proc/self/status"))["VmHWM"].split()[0])'
    )
    call = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(call, capture_output=True, text=True, env=environment(), timeout=300, check=True)
    assert (tmp_path / "run" / "report.html").stat().st_size < 2_000_000
    assert int(done.stdout) < 120 * 1024
