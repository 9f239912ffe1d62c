"""Answers that were changed behind a run's back: nothing of them is handed on as if they were the run's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.command_line import command

CONFIG = """
[api]
base_url = "sandbox"

[job]
rules = [
  { type = "invoice", description = "has line items and a total" },
  { type = "contract", description = "an agreement between parties" },
]

[plan]
files_per_job = 10

[limits]
requests_per_s = 1000
settle_s = 0.1
"""


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a complete run, `sound`, and `again`, which took all of it over."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "job.toml").write_text(CONFIG)
    (folder / "ids.txt").write_text("".join(f"file-{number:02}\n" for number in range(50)))
    asked = ("run", folder / "job.toml", "--input", folder / "ids.txt", "--run-dir")
    for run, more in (("sound", ()), ("again", ("--reuse", folder / "sound"))):
        done = command(*asked, folder / run, *more)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(lived: Path, tmp_path: Path) -> Path:
    shutil.copytree(lived, tmp_path / "runs")
    return tmp_path / "runs"


def changed(run: Path) -> str:
    """Changes the confidence in the last line of a run, and nothing of its shape; gives the damaged segment."""
    path = run / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    confidence = b'"confidence":%s' % str(json.loads(lines[-1])["confidence"]).encode()
    lines[-1] = lines[-1].replace(confidence, confidence[:-1] + (b"1" if confidence[-1:] != b"1" else b"2"))
    assert len(b"".join(lines)) == path.stat().st_size
    path.write_bytes(b"".join(lines))
    journal = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    segments = [item["results"] for line in journal for item in line.get("items", ()) if "results" in item]
    start, end, _ = segments[-1] if segments else (0, path.stat().st_size, 0)
    return f"results.jsonl in {run}, bytes {start} to {end}: not as they were written"


@pytest.mark.parametrize("name", ["sound", "again"])
@pytest.mark.parametrize("target", ["out.csv", "out.jsonl", "-"])
def test_a_changed_answer_is_not_exported(folder: Path, name: str, target: str) -> None:
    """It reads well and its file has the right size: the file and the bytes are named, and no old target is lost."""
    words = changed(folder / name)
    at = target if target == "-" else str(folder / target)
    if target != "-":
        (folder / target).write_text("old")
    done = command("export", folder / name, at)
    assert (done.returncode, words in done.stderr, "hint:" in done.stderr) == (2, True, True), done.stderr
    assert "Traceback" not in done.stderr
    if target != "-":
        assert (folder / target).read_text() == "old"
    assert list(folder.glob("*.tmp")) == []


@pytest.mark.parametrize("name", ["sound", "again"])
def test_a_changed_answer_is_not_compared(folder: Path, name: str) -> None:
    """On either side, and no line is printed before it is known."""
    shutil.copytree(folder / name, folder / "other")
    words = changed(folder / name)
    for sides in (("other", name), (name, "other")):
        done = command("diff", *(folder / side for side in sides), "--only", "confidence")
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


def test_undamaged_runs_are_exported_and_compared(folder: Path) -> None:
    """Sound runs are exported and compared, whole, reused and halfway committed ones."""
    for name in ("sound", "again"):
        done = command("export", folder / name, folder / f"{name}.jsonl")
        assert done.returncode == 0, done.stderr
        assert (folder / f"{name}.jsonl").read_bytes() == (folder / name / "results.jsonl").read_bytes()
    (folder / "sound" / "manifest.json").unlink()
    journal = folder / "sound" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    ended = [at for at, line in enumerate(lines) if b'"results":[' in line]
    journal.write_bytes(b"".join(lines[: ended[0] + 1]))
    done = command("export", folder / "sound", folder / "half.jsonl")
    assert done.returncode == 0, done.stderr
    assert 0 < (folder / "half.jsonl").stat().st_size <= (folder / "sound" / "results.jsonl").stat().st_size
    done = command("diff", folder / "sound", folder / "again")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stop", ["resume", "cancel"])
def test_a_journal_that_lost_lines_is_not_gone_on_with(folder: Path, stop: str) -> None:
    """An older copy of it, or one that was cut off at the end of a line, doesn't know attempts whose answers stand in
    results.jsonl: they would be paid again. The run is refused, and every file is left as it was."""
    run = folder / "sound"
    (run / "manifest.json").unlink()  # as far as a killed run's goes
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (run / "journal.jsonl").write_bytes(lines[0])
    before = {each.name: each.read_bytes() for each in run.glob("[jprf]*.jsonl")}
    done = command(stop, run)
    assert done.returncode == 2, done.stderr
    assert "has lost lines: results.jsonl has an answer, at byte 0, of attempt 1 of chunk " in done.stderr
    assert "hint: nothing was overwritten; put the journal.jsonl back that belongs to these outcomes" in done.stderr
    assert {name: (run / name).read_bytes() for name in before} == before
    done = command("verify", run)
    assert done.returncode == 2
    assert "has lost lines" in done.stdout
    assert "the next run cuts them off" not in done.stdout


@pytest.mark.parametrize("state", ["complete", "incomplete"])
def test_an_older_manifest_is_called_so(folder: Path, state: str) -> None:
    """Somebody put an older copy of manifest.json back: it vouches for nothing, status doesn't repeat what it says of
    the end, and resume writes it anew. No file is called damaged, since none is."""
    (folder / "job.toml").write_text(CONFIG + documents(folder))
    (folder / "ids.txt").write_text("stranger-1\nstranger-2\n")
    run = folder / "failed"
    command("run", folder / "job.toml", "--input", folder / "ids.txt", "--run-dir", run, status=1)
    older = json.loads((run / "manifest.json").read_text())
    command("resume", run, "--retry-failed", status=1)
    newer = json.loads((run / "manifest.json").read_text())
    assert older["journal_seq"] < newer["journal_seq"]
    if state == "incomplete":
        older |= {"state": "incomplete", "reason": "interrupted by SIGTERM", "exit_status": 75}
    (run / "manifest.json").write_text(json.dumps(older))
    said = json.loads(command("status", run, "--json", status=0).stdout)
    assert (said["state"], said["exit_status"], said["reason"]) == ("complete", None, None)
    assert "manifest.json is older than the journal" in said["hint"]
    assert " resume " in said["next"]
    done = command("verify", run)
    assert ("manifest.json is older than the journal" in done.stdout) == (state == "complete")
    assert (done.returncode, "SHA-256" in done.stdout) == (2 if state == "complete" else 0, False)
    done = command("merge", run, folder / "sound", "--output", folder / "merged", status=2)
    assert "its manifest.json is not that of its end" in done.stderr
    done = command("resume", run, status=1)
    assert "restore" not in done.stderr
    assert json.loads((run / "manifest.json").read_text())["counts"] == newer["counts"]
    command("verify", run, status=0)
    journal = [json.loads(line)["kind"] for line in (run / "journal.jsonl").read_text().splitlines()]
    assert journal[-2:] == ["opened", "closed"]


def test_a_manifest_of_another_run_says_nothing(folder: Path) -> None:
    """Somebody put the manifest.json of a longer run there: no line of the journal is called lost, and resume writes
    this run's anew."""
    run = folder / "sound"
    other = json.loads((run / "manifest.json").read_text())
    other |= {"run_id": "00000000-0000-4000-8000-000000000000", "journal_seq": 10_000}
    (run / "manifest.json").write_text(json.dumps(other))
    said = json.loads(command("status", run, "--json", status=0).stdout)
    assert (said["state"], said["exit_status"]) == ("complete", None)
    assert "manifest.json is another run's" in command("verify", run, status=2).stdout
    command("resume", run, status=0)
    command("verify", run, status=0)


def test_a_changed_failure_is_found(folder: Path) -> None:
    """The failures are proven, too: those that are left after a retry, and not the ones that were put aside."""
    (folder / "job.toml").write_text(CONFIG + documents(folder))
    (folder / "ids.txt").write_text("stranger-1\nstranger-2\n")
    run = folder / "failed"
    asked = ("run", folder / "job.toml", "--input", folder / "ids.txt", "--run-dir", run)
    assert command(*asked).returncode == 1
    assert command("resume", run, "--retry-failed").returncode == 1
    assert (run / "failures.1.jsonl").exists()
    done = command("export", run, folder / "out.jsonl")
    assert done.returncode == 0, done.stderr
    failures = run / "failures.jsonl"
    failures.write_bytes(failures.read_bytes().replace(b"stranger-1", b"stranger-3"))
    (folder / "out.jsonl").unlink()
    for only in ((), ("--only", "failed")):
        done = command("export", run, folder / "out.jsonl", *only)
        assert done.returncode == 2, done.stdout
        assert f"failures.jsonl in {run}, bytes 0 to " in done.stderr
        assert not (folder / "out.jsonl").exists()


def documents(folder: Path) -> str:
    """A folder that knows no stranger, as a section of a config."""
    (folder / "documents").mkdir()
    (folder / "documents" / "a.txt").write_text("an invoice")
    return f'\n[sandbox]\ndocuments = "{folder / "documents"}"\n'
