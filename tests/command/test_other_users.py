"""Run directories that other users could misuse, as a user meets them: refused with 2 before anything is sent."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from classify_batch import Settings
from classify_batch import run as classify
from classify_batch.errors import RunDirectoryError
from classify_batch.operations.tune import tune
from tests.support.command_line import asked, command, contents, environment, sandbox
from tests.support.start_command import run_process

CONFIG = """
[job]
rules = [{{ type = "invoice", description = "has line items and a total" }}]
[api]
base_url = "{url}"
[limits]
settle_s = 0.5
"""
START = ("c.toml", "--input", "ids.txt", "--run-dir", "run")


@pytest.fixture
def server() -> Iterator[str]:
    with sandbox() as base_url:
        yield base_url


@pytest.fixture
def folder(tmp_path: Path, server: str) -> Path:
    """A folder with a config and two IDs, and a run directory that is planned."""
    (tmp_path / "ids.txt").write_text("file-1\nfile-2\n")
    (tmp_path / "c.toml").write_text(CONFIG.format(url=server))
    command("plan", *START, folder=tmp_path, status=0)
    return tmp_path


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a complete run."""
    path = tmp_path_factory.mktemp("classified")
    (path / "ids.txt").write_text("file-1\nfile-2\n")
    (path / "c.toml").write_text(CONFIG.format(url="sandbox"))
    command("run", *START, folder=path, status=0)
    return path


@pytest.fixture
def complete(classified: Path, tmp_path: Path) -> Path:
    """The same, for a test of its own."""
    shutil.copytree(classified, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("words", [("run", *START), ("plan", *START), ("resume", "run")], ids=lambda words: words[0])
@pytest.mark.parametrize("name", ["journal.jsonl", "results.jsonl"])
def test_dangling_links_are_refused(folder: Path, server: str, words: tuple[str, ...], name: str) -> None:
    """The journal's target was made, and the results' ended with 70. Neither trust nor a retry makes one follow."""
    target = folder / "elsewhere"
    (folder / "run" / name).symlink_to(target)
    for options in ((), ("--trust-run-dir",)):
        done = command(*words, *options, folder=folder, status=2)
        assert f"{name} is a link to {target}, where nothing is" in done.stderr
        assert "hint: " in done.stderr
    assert not target.exists()
    assert asked(server)["creates_accepted"] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_directory_is_used_when_asked_for(folder: Path, server: str) -> None:
    """`run`, `plan` and `resume` say whose it is and who may write to it, send nothing, and go on where an option
    allows it."""
    os.chown(folder / "run", 54_321, -1)
    (folder / "run").chmod(0o777)
    for words in (("run", *START), ("plan", *START), ("resume", "run")):
        done = command(*words, folder=folder, status=2)
        assert "run directory run belongs to uid 54321, and every user may write to it (mode 0777)" in done.stderr
        assert "--trust-run-dir" in done.stderr
    assert asked(server)["creates_accepted"] == 0
    assert command("status", "run", folder=folder, status=0).stdout
    command("resume", "run", "--trust-run-dir", folder=folder, status=0)
    command("verify", "run", folder=folder, status=0)
    command("resume", "run", folder=folder, status=0)  # complete: nothing is sent, and nothing written


def test_a_trusted_run_is_gone_on_with_by_the_command_that_is_shown(folder: Path) -> None:
    """`next:` repeats the trust: without it the command would be refused."""
    trusted = command("plan", *START, "--trust-run-dir", folder=folder, status=0)
    assert "next: classify-batch resume run --trust-run-dir" in trusted.stderr
    limited = command("resume", "run", "--trust-run-dir", "--max-credits", "0", folder=folder, status=77)
    assert "next: classify-batch resume run --trust-run-dir" in limited.stderr


def test_links_that_are_trusted_hold_a_whole_run(folder: Path) -> None:
    """The results on another disk: what a run writes goes there, and the run verifies."""
    target = folder / "elsewhere"
    target.touch()
    (folder / "run" / "results.jsonl").symlink_to(target)
    command("resume", "run", folder=folder, status=2)
    command("resume", "run", "--trust-run-dir", folder=folder, status=0)
    assert target.read_text().count("\n") == 2
    assert (folder / "run" / "results.jsonl").is_symlink()
    command("verify", "run", folder=folder, status=0)


def test_a_link_to_a_run_directory_is_fine(folder: Path) -> None:
    """A run directory may be named by a link, and by a path through links."""
    (folder / "today").symlink_to("run")
    command("resume", "today", folder=folder, status=0)


def test_python_callers_say_the_same(folder: Path) -> None:
    """`trust_run_dir` is the option of this name."""
    target = folder / "elsewhere"
    target.touch()
    (folder / "run" / "results.jsonl").symlink_to(target)
    settings = Settings.load(folder / "c.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLAMA_CLOUD_API_KEY", "llx-s3cr3t-key")
        with pytest.raises(RunDirectoryError, match=r"results\.jsonl is a link to "):
            classify(settings, None, folder / "run")
        assert classify(settings, None, folder / "run", trust_run_dir=True).exit_status == 0


def test_a_run_that_was_copied_is_used_as_before(folder: Path) -> None:
    """Copies have other inodes, times and modes: nothing of that matters."""
    shutil.copytree(folder / "run", folder / "copy")
    for path in (folder / "copy").iterdir():
        path.chmod(0o644)
    command("resume", "copy", folder=folder, status=0)


@pytest.mark.parametrize("target", ["there", "dangling"])
@pytest.mark.parametrize("name", ["shards", "shards/00001"])
def test_links_in_the_place_of_shards_are_refused(folder: Path, server: str, name: str, target: str) -> None:
    """`run` of all shards, of one of them, and `resume` say 2 and name the link: nothing is sent, and nothing is
    written to where it leads. Whoever trusts the directory has it followed; `status` and `verify` follow it anyway."""
    start = (*START[:-1], "sharded")
    command("plan", *start, "--shards", "2", folder=folder, status=0)
    elsewhere, link = folder / "elsewhere", folder / "sharded" / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(elsewhere)
    if target == "there":
        elsewhere.mkdir()
    for words in (("run", *start), ("run", *start, "--shard", "1/2"), ("resume", "sharded")):
        refused = command(*words, folder=folder, status=2)
        assert f"{name} is a link to {elsewhere}" in refused.stderr
        assert "hint: " in refused.stderr
    assert asked(server)["creates_accepted"] == 0
    assert not elsewhere.exists() or not any(elsewhere.iterdir())
    if target == "there":
        said = command("status", "sharded", folder=folder, status=0).stdout
        assert "--trust-run-dir" in said
        command("run", *start, "--trust-run-dir", folder=folder, status=0)
        assert list(elsewhere.rglob("results.jsonl"))
        command("verify", "sharded", folder=folder, status=0)


def test_cancel_takes_no_shard_over_through_a_link(folder: Path) -> None:
    """A shard that was begun, and is a link now: 2, and nothing is written to where it leads."""
    start = (*START[:-1], "sharded")
    words = ("run", *start, "--shards", "2", "--shard", "1", "--submit-only")
    command(*words, folder=folder, status=75)
    shard, elsewhere = folder / "sharded" / "shards" / "00001", folder / "elsewhere"
    shard.rename(elsewhere)
    shard.symlink_to(elsewhere)
    before = contents(elsewhere)
    assert "shards/00001 is a link to" in command("cancel", "sharded", folder=folder, status=2).stderr
    assert contents(elsewhere) == before
    command("cancel", "sharded", "--trust-run-dir", folder=folder)
    assert contents(elsewhere) != before


@pytest.mark.parametrize("words", [("cancel", "sharded"), ("tune", "sharded", "--pause")], ids=lambda words: words[0])
def test_no_process_is_asked_through_a_link(folder: Path, words: tuple[str, ...]) -> None:
    """A shard that a process is at work on, as its lock says, and that is a link: the request is written nowhere, until
    somebody says that the directory is trusted. (Then nobody answers here.)"""
    command("plan", *START[:-1], "sharded", "--shards", "2", folder=folder, status=0)
    command("run", *START[:-1], "sharded", "--shard", "1/2", "--submit-only", folder=folder, status=75)
    shard, elsewhere = folder / "sharded" / "shards" / "00001", folder / "elsewhere"
    shard.rename(elsewhere)
    shard.symlink_to(elsewhere)
    before = contents(elsewhere)
    with (elsewhere / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = command(*words, folder=folder, status=2)
        assert f"shards/00001 is a link to {elsewhere}" in refused.stderr
        assert "hint: " in refused.stderr
        assert contents(elsewhere) == before
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("classify_batch.operations.cancel.TIMEOUT_S", 0.3)
            patch.setattr(tune, "__kwdefaults__", {"trust_run_dir": False, "timeout_s": 0.3})
            assert "did not answer" in command(*words, "--trust-run-dir", folder=folder, status=75).stderr


NO_FILES: dict[str, Callable[[Path], None]] = {
    "folder": os.mkdir,
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/null"),
}
"""What may stand in the place of a file."""

READ = {
    ("verify", "run"): ("run.json", "plan.jsonl", "journal.jsonl"),
    ("export", "run", "out.csv"): ("run.json", "journal.jsonl", "results.jsonl"),
    ("diff", "run", "run"): ("run.json", "journal.jsonl", "results.jsonl"),
    ("resume", "run"): ("run.json", "journal.jsonl", "results.jsonl"),
    ("run", *START): ("run.json", "journal.jsonl", "results.jsonl"),
}
"""Which files of a complete run a command reads."""


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize(
    ("words", "name"),
    [pytest.param(words, name, id=f"{words[0]}-{name}") for words, names in READ.items() for name in names],
)
def test_no_command_waits_for_a_pipe_or_reads_a_folder(
    complete: Path, words: tuple[str, ...], name: str, make: Callable[[Path], None]
) -> None:
    """What is no file, in the place of one, is said with 2 by whoever reads it; a pipe would be waited for."""
    (complete / "run" / name).unlink()
    make(complete / "run" / name)
    done = command(*words, folder=complete, status=2)
    assert name in done.stderr + done.stdout
    assert "hint: " in done.stderr


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("name", ["run.json", "journal.jsonl"])
def test_status_waits_for_no_pipe(complete: Path, name: str, make: Callable[[Path], None]) -> None:
    """Nor does `status`, which reads in its own way."""
    (complete / "run" / name).unlink()
    make(complete / "run" / name)
    done = command("status", "run", folder=complete, status=2)
    assert (
        f"{name} is no plain file" in done.stderr or f"{name} in run, line 1" in done.stderr or "damaged" in done.stderr
    )


BOUNDED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000))
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
runpy.run_module("classify_batch", run_name="__main__")
"""
"""The command with bounds on memory and on the seconds of CPU."""


@pytest.mark.parametrize(
    ("words", "name"),
    [
        *[
            pytest.param(words, name, id=f"{words[0]}-{name}")
            for words in (("run", *START), ("cancel", "run"), ("status", "run"), ("verify", "run"), ("report", "run"))
            for name in ("run.json", "manifest.json")
        ],
        pytest.param(("verify", "run"), "plan.jsonl", id="verify-plan.jsonl"),
        pytest.param(("verify", "run"), "journal.jsonl", id="verify-journal.jsonl"),
    ],
)
def test_no_command_reads_a_device_without_end(complete: Path, words: tuple[str, ...], name: str) -> None:
    """`/dev/zero` in the place of a file filled the memory, or was read for ever: 2, with its name."""
    (complete / "run" / name).unlink()
    (complete / "run" / name).symlink_to("/dev/zero")
    done = run_process([sys.executable, "-c", BOUNDED, *words], cwd=complete, env=environment())
    assert done.returncode == 2, done.stderr
    assert f"{name} is no plain file" in done.stderr + done.stdout
    assert "hint: " in done.stderr
