"""stdout and stderr that are full, broken or closed, disks without room, and signals that come in pairs."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import pytest

from classify_batch.store.os_errors import hint_for
from tests.support.command_line import PATIENCE_S, asked, environment, sandbox, until
from tests.support.start_command import COMMAND, CommandProcess

RULE = "invoice=has an invoice number and a total"
RUN = ("run", "c.toml", "--input", "ids.txt", "--run-dir", "run")
FULL = "stdout can't be written (No space left on device)"
FILES = 25


NOBODY_READS = "a pipe"

PLAIN = {
    "IT": (None, None),
    "IT >/dev/full": ("/dev/full", None),
    "IT >/dev/null": ("/dev/null", None),
    "IT 2>/dev/full": (None, "/dev/full"),
    "IT > >(exec true)": (NOBODY_READS, None),
    "IT 2> >(exec true)": (None, NOBODY_READS),
}
"""What a shell does by giving the command other streams: where stdout and stderr go; None: to the test."""


def open_stream(name: str) -> BinaryIO:
    """A file, or a pipe whose reader has left."""
    if name != NOBODY_READS:
        return Path(name).open("wb")
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "wb")


def with_streams(
    folder: Path, stdout: str | None, stderr: str | None, words: Sequence[str], values: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """The command with such streams; without a shell, so that it can be forked."""
    with ExitStack() as stack:
        out, err = (
            subprocess.PIPE if each is None else stack.enter_context(open_stream(each)) for each in (stdout, stderr)
        )
        with CommandProcess(
            [*words], cwd=folder, env=values, stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True
        ) as process:
            said, complained = process.communicate(timeout=60)
    return subprocess.CompletedProcess([*words], process.returncode, said or "", complained or "")


def under(folder: Path, how: str, *arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
    """A command of a shell's making: `how` says where its streams go, or what it may write, as a shell has it."""
    words = arguments if arguments and arguments[0] == sys.executable else (*COMMAND, *arguments)
    if how in PLAIN and words[: len(COMMAND)] == tuple(COMMAND):
        return with_streams(folder, *PLAIN[how], words, environment(**values))
    return subprocess.run(
        ["bash", "-c", how.replace("IT", 'exec "$@"'), "bash", *words],
        cwd=folder,
        env=environment(**values),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def configure(folder: Path, base_url: str, name: str = "c.toml") -> None:
    (folder / "ids.txt").write_text("".join(f"file-{number}\n" for number in range(FILES)))
    (folder / name).write_text(
        f'[api]\nbase_url = "{base_url}"\n[plan]\nfiles_per_job = 10\n[limits]\nsettle_s = 1.0\n'
        '[job]\nrules = [{ type = "invoice", description = "has an invoice number and a total" }]\n'
    )


@pytest.fixture(scope="module")
def quick() -> Iterator[str]:
    with sandbox("--files", "3") as base_url:
        yield base_url


@pytest.fixture(scope="module")
def slow() -> Iterator[str]:
    """The base URL of a sandbox whose jobs take longer than any test."""
    with sandbox("--job-duration-s", "60") as base_url:
        yield base_url


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, quick: str) -> Path:
    """A folder with a complete run; copy it before changing it."""
    folder = tmp_path_factory.mktemp("finished")
    configure(folder, quick)
    done = under(folder, "IT", *RUN)
    assert done.returncode == 0, done.stderr
    return folder


# --- Talk that nobody gets ------------------------------------------------------------------------------------------

NO_STDERR = ("IT 2>/dev/full", "IT 2>&-", "IT 2> >(exec true)", "IT 2</dev/null")


@pytest.mark.parametrize("how", NO_STDERR)
def test_a_run_ends_normally_where_stderr_can_not_be_written(tmp_path: Path, quick: str, how: str) -> None:
    """A run goes on to its end, prints what was asked for, and leaves with its own status."""
    configure(tmp_path, quick)
    done = under(tmp_path, how, *RUN, "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["counts"].keys() == {"classified", "unmatched", "failed"}
    assert "complete" in under(tmp_path, "IT", "verify", "run").stdout


@pytest.mark.parametrize("how", NO_STDERR)
def test_an_error_keeps_its_status_where_stderr_can_not_be_written(tmp_path: Path, how: str) -> None:
    """An error that nobody hears has its own status."""
    for arguments in (("status",), ("status", "absent"), ("nonsense",), (*RUN,)):
        assert under(tmp_path, how, *arguments).returncode == 2, arguments


@pytest.mark.slow
def test_a_run_goes_on_where_progress_can_not_be_written(tmp_path: Path) -> None:
    """A run that would say how far it is goes on."""
    with sandbox("--job-duration-s", "6") as base_url:
        configure(tmp_path, base_url)
        done = under(tmp_path, "IT 2>/dev/full", *RUN, "--json")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "complete")


# --- Answers that can't be handed over ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("jobs", "create", "--help"),
        (*RUN, "--json"),
        ("resume", "run", "--json"),
        ("status", "run"),
        ("status", "run", "--json"),
        ("verify", "run"),
        ("diff", "run", "run"),
        ("diff", "run", "run", "--json"),
        ("export", "run", "-"),
        ("export", "run", "x.csv", "--json"),
        ("plan", "c.toml", "--input", "ids.txt", "--run-dir", "other"),
        ("check", "c.toml", "--input", "ids.txt"),
        ("files", "list", "--config", "c.toml"),
        ("files", "list", "--all", "--config", "c.toml"),
        ("files", "upload", "ids.txt", "--config", "c.toml"),
        ("jobs", "list", "--config", "c.toml"),
        ("sandbox",),
    ],
    ids=" ".join,
)
def test_a_full_stdout_exits_with_75_and_one_message(finished: Path, tmp_path: Path, arguments: Sequence[str]) -> None:
    """One message, and 75: the same command prints the result when there is room. It is no bug."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    done = under(folder, "IT >/dev/full", *arguments)
    assert done.returncode == 75, done.stderr
    assert done.stderr.count("error: ") == 1
    assert f"error: {FULL}\nhint: make room where stdout goes" in done.stderr
    assert "Exception ignored" not in done.stderr
    if arguments[0] != "sandbox":
        assert under(folder, "IT >/dev/null", *arguments).returncode == 0


def test_a_stdout_error_is_reported_in_the_systems_words(finished: Path) -> None:
    """Any other reason is given in the system's words."""
    done = under(finished, "ulimit -f 0; IT >said", "status", "run")
    (finished / "said").unlink()
    assert (done.returncode, "stdout can't be written (File too large)" in done.stderr) == (75, True)


def test_a_status_that_needs_a_person_is_kept_where_stdout_fails(finished: Path, tmp_path: Path) -> None:
    """Where somebody has to act, the status says so whether or not stdout can be written."""
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "run" / "results.jsonl").write_bytes(b"")
    done = under(tmp_path, "IT >/dev/full", "verify", "run")
    assert (done.returncode, FULL in done.stderr) == (2, True)
    with sandbox("--fault", "create.before.402=1") as base_url:
        configure(tmp_path, base_url)
        done = under(tmp_path, "IT >/dev/full", *RUN[:-1], "poor", "--json")
    assert (done.returncode, FULL in done.stderr) == (77, True)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("how", ["IT >/dev/full", "IT > >(exec true)"])
def test_a_created_job_that_can_not_be_printed_is_named_in_the_error(tmp_path: Path, version: str, how: str) -> None:
    """It was made and costs credits: the error tells its ID and how to see it, and no scheduler makes it again."""
    files = ("--file-id", "a", "--file-id", "b")
    with sandbox() as base_url:
        where = ("--base-url", base_url, "--api-version", version)
        done = under(tmp_path, how, "jobs", "create", "--rule", RULE, *files, *where)
        [job] = json.loads(under(tmp_path, "IT", "jobs", "list", *where).stdout)["items"]
        assert done.returncode == 77, done.stderr
        assert f"; the job {job['id']} was created\n" in done.stderr
        _, *command = shlex.split(done.stderr.split("`")[1])
        shown = under(tmp_path, "IT", *command)
        assert json.loads(shown.stdout)["id"] == job["id"]
    assert "Exception ignored" not in done.stderr


def test_a_job_with_a_transaction_id_is_printed_by_the_same_command_again(tmp_path: Path) -> None:
    """Under a transaction ID the same command prints what could not be printed, and pays nothing: 75."""
    with sandbox() as base_url:
        create = ("jobs", "create", "--rule", RULE, "--file-id", "a", "--transaction-id", "t")
        where = ("--base-url", base_url, "--api-version", "v2")
        done = under(tmp_path, "IT >/dev/full", *create, *where)
        again = under(tmp_path, "IT", *create, *where)
        assert asked(base_url)["creates_accepted"] == 1
    assert (done.returncode, again.returncode) == (75, 0)
    assert f"the job {json.loads(again.stdout)['id']} was created" in done.stderr


def test_output_waits_for_the_reader_of_a_non_blocking_pipe(finished: Path) -> None:
    """Where somebody made a pipe non-blocking a command waits for its reader all the same, and all comes through."""
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    code = (
        "import click; from classify_batch.cli.rendering import outputs\n"
        "outputs.install_streams(); click.echo('x' * 300_000)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=ours, stderr=subprocess.PIPE) as process:
        os.close(ours)
        time.sleep(0.3)  # the pipe is full by now
        with os.fdopen(theirs, "rb") as reader:
            assert len(reader.read()) == 300_001
    assert process.returncode == 0


# --- Bugs, and errors of the disk -----------------------------------------------------------------------------------


def failing(words: str) -> tuple[str, ...]:
    """A command that meets an error which nobody thought of."""
    raising = f"def fail(**_): raise {words}"
    return (sys.executable, "-c", f"from classify_batch.cli import main\n{raising}\nmain.cli.main = fail\nmain.main()")


@pytest.mark.parametrize("how", ["ulimit -f 0; IT", "ulimit -f 0; IT 2>/dev/full", "ulimit -f 0; IT 2>&-"])
def test_a_bug_exits_with_70_where_its_traceback_can_not_be_saved(tmp_path: Path, how: str) -> None:
    """A bug exits with 70 also where no file can be written; no traceback is shown, and no empty file is left."""
    done = under(tmp_path, how, *failing("RuntimeError('odd')"), TMPDIR=str(tmp_path))
    assert done.returncode == 70
    assert "Traceback" not in done.stdout + done.stderr
    if "2>" not in how:
        assert "a bug in classify-batch: RuntimeError: odd\nhint: report it; its traceback" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "words", "message"),
    [
        (errno.ENOSPC, "No space left on device", "x.jsonl: No space left on device"),
        (errno.EFBIG, "File too large", "x.jsonl: File too large"),
        (errno.EMFILE, "Too many open files", "Too many open files"),
    ],
)
def test_a_full_disk_exits_with_75_and_names_the_file(tmp_path: Path, number: int, words: str, message: str) -> None:
    """Wherever it shows: 75, with the file's name and the hint that a run's own disk would give."""
    error = OSError(number, words, "x.jsonl")
    done = under(tmp_path, "IT", *failing(f"OSError({number}, {words!r}, 'x.jsonl')"))
    assert (done.returncode, done.stderr) == (75, f"error: {message}\nhint: {hint_for(error)}\n")


def test_a_machine_without_room_for_a_thread_is_75(finished: Path) -> None:
    """Too little memory, or too many threads: it is no bug, and the hint names the limits."""
    code = (
        "import resource, threading; from classify_batch.cli import main\n"
        "threading.stack_size(1 << 30); resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "main.main()"
    )
    done = under(finished, "IT", sys.executable, "-c", code, "verify", "run")
    hint = "raise the limit of memory (`ulimit -v`) or threads (`ulimit -u`); the same command goes on"
    assert (done.returncode, done.stderr) == (75, f"error: can't start new thread\nhint: {hint}\n")
    done = under(finished, "IT", *failing("MemoryError"))
    assert (done.returncode, done.stderr.splitlines()[0]) == (75, "error: there is no memory left")


def test_a_run_exits_with_75_where_nothing_can_be_written(tmp_path: Path, quick: str) -> None:
    """Not stdout, no file and no log: 75, without a traceback."""
    done = under(tmp_path, "ulimit -f 0; IT 2>&1 >/dev/full", "jobs", "list", "--base-url", quick)
    assert (done.returncode, "Traceback" in done.stdout) == (75, False)
    assert FULL in done.stdout


# --- Streams that were closed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["IT >&-", "IT <&- >&- 2>&-"])
def test_commands_work_with_closed_streams(tmp_path: Path, finished: Path, quick: str, how: str) -> None:
    """A closed stream is /dev/null: every command works, and nothing of it gets into the run's own files."""
    configure(tmp_path, quick)
    assert under(tmp_path, how, *RUN, "--json").returncode == 0
    assert "complete" in under(tmp_path, "IT", "verify", "run").stdout
    under(tmp_path, how, "files", "upload", "ids.txt", "--config", "c.toml")
    for arguments in (
        ("status", "run"),
        ("verify", "run"),
        ("export", "run", "-"),
        ("diff", "run", str(finished / "run")),
        ("jobs", "list", "--config", "c.toml"),
        ("files", "list", "--config", "c.toml", "--all"),
        ("--help",),
    ):
        done = under(tmp_path, how, *arguments)
        assert (done.returncode, done.stderr if "2>" not in how else "") in {(0, ""), (0, done.stderr)}, arguments
        assert "error" not in done.stderr
    assert under(tmp_path, how, "status", "absent").returncode == 2


# --- Signals in pairs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_signals_at_once_count_as_one_request_to_stop(tmp_path: Path, slow: str, number: signal.Signals) -> None:
    """`timeout` signals a process, and then its group: that is one wish, and the run comes to an orderly stop."""
    process = with_jobs_out(tmp_path, slow)
    # Until it was waited for, the process ID is its own. It stands still meanwhile, so both arrive together.
    for each in (signal.SIGSTOP, number, signal.SIGTERM, signal.SIGCONT):
        os.kill(process.pid, each)
    said = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 75, said
    assert "incomplete: interrupted by SIG" in said
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["state"] == "incomplete"


def test_gnu_timeout_stops_a_run_in_order(tmp_path: Path, slow: str) -> None:
    """GNU timeout itself, whose time is over when its alarm comes: here, as soon as jobs are in flight."""
    process = with_jobs_out(tmp_path, slow, "timeout", "--preserve-status", "3600")
    os.kill(process.pid, signal.SIGALRM)
    said = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 75, said
    assert "incomplete: interrupted by SIGTERM" in said
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["state"] == "incomplete"


def test_a_later_second_signal_exits_at_once(tmp_path: Path) -> None:
    """A signal well after the first leaves at once, also where a create is not answered."""
    code = (
        "import time; from classify_batch.cli import signals\n"
        "signals.install_handlers(); signals.on_first_signal(lambda name: print(name, flush=True))\n"
        "print('on', flush=True)\nwhile True: time.sleep(0.01)"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        os.kill(process.pid, signal.SIGTERM)
        assert process.stdout.readline() == "SIGTERM\n"
        time.sleep(0.3)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE_S)[1]
    assert (process.returncode, "left at once" in said) == (143, True)


def with_jobs_out(folder: Path, base_url: str, *starter: str) -> subprocess.Popen[str]:
    """A run with all its jobs in flight; `starter`: the words before the command."""
    configure(folder, base_url)
    before = asked(base_url)["creates_accepted"]
    process = subprocess.Popen(
        [*starter, *COMMAND, *RUN],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: asked(base_url)["creates_accepted"] == before + 3, process)
    return process
