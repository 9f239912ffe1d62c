"""Signals to real processes: a closed terminal, `nohup`, and inputs that say nothing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import PATIENCE_S, asked, environment, sandbox, until
from tests.support.leaving import EXIT_TIMEOUT_S, LeaveTimer
from tests.support.start_command import COMMAND

pytestmark = pytest.mark.slow


CONFIG = """
[api]
base_url = "{base_url}"
[job]
rules = [{{ type = "invoice", description = "has line items and a total" }}]
[limits]
settle_s = 0.5
accept_s = 0
"""

STOP_SIGNALS = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]


@pytest.fixture(scope="module")
def slow() -> Iterator[str]:
    """A sandbox whose jobs take some time, and end."""
    with sandbox("--job-duration-s", "4") as base_url:
        yield base_url


@pytest.fixture(scope="module")
def endless() -> Iterator[str]:
    """A sandbox whose jobs take longer than any test."""
    with sandbox("--job-duration-s", "600") as base_url:
        yield base_url


@pytest.fixture
def place(tmp_path: Path, slow: str) -> Path:
    """A folder with a config, ten file IDs, and a FIFO that nobody writes to."""
    (tmp_path / "c.toml").write_text(CONFIG.format(base_url=slow))
    (tmp_path / "ids.txt").write_text("".join(f"file-{number}\n" for number in range(10)))
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


def begin(place: Path, *words: str, ignored: tuple[signal.Signals, ...] = (), **options: Any) -> subprocess.Popen[str]:
    """Starts a command in which no other signals are ignored: whoever runs the tests may ignore some."""

    def set_signals() -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(
        [*COMMAND, *words], cwd=place, env=environment(), text=True, preexec_fn=set_signals, **given
    )


def stopped(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
    """What a process said that had to leave within four seconds of a signal."""
    timer = LeaveTimer(process)
    process.send_signal(number)
    took_s = timer.wait_s()
    _, said = process.communicate(timeout=PATIENCE_S)
    assert took_s < EXIT_TIMEOUT_S, said
    assert "Traceback" not in said
    return said


RUN = ("run", "c.toml", "--input", "ids.txt", "--run-dir", "run")


# --- A closed terminal ------------------------------------------------------------------------------------------------


def test_a_hangup_ends_a_run_like_sigterm(place: Path, slow: str) -> None:
    """75 within 4 s, the manifest is written, and the same command goes on without paying twice."""
    before = asked(slow)["creates_accepted"]
    with begin(place, *RUN) as process:
        until(lambda: asked(slow)["creates_accepted"] > before, process)
        said = stopped(process, signal.SIGHUP)
    assert process.returncode == 75, said
    manifest = json.loads((place / "run" / "manifest.json").read_text())
    assert (manifest["state"], manifest["reason"]) == ("incomplete", "interrupted by SIGHUP")
    with begin(place, *RUN) as again:
        said = again.communicate(timeout=PATIENCE_S)[1]
    assert again.returncode == 0, said
    assert asked(slow)["creates_accepted"] == before + 1


def test_a_terminal_that_is_closed_ends_a_run_in_order(place: Path, endless: str) -> None:
    """The terminal itself goes away, and with it stderr: the manifest is still written, and the status is 75."""
    (place / "c.toml").write_text(CONFIG.format(base_url=endless))
    before = asked(endless)["creates_accepted"]
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    streams: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with subprocess.Popen(
        [*COMMAND, *RUN], cwd=place, env=environment(TERM="xterm"), preexec_fn=take_terminal, **streams
    ) as process:
        os.close(theirs)
        until(lambda: asked(endless)["creates_accepted"] > before)
        timer = LeaveTimer(process)
        os.close(ours)
        assert timer.wait_s() < EXIT_TIMEOUT_S
        assert process.wait(PATIENCE_S) == 75
    manifest = json.loads((place / "run" / "manifest.json").read_text())
    assert manifest["reason"] == "interrupted by SIGHUP"


def test_hangups_in_a_row_are_one_and_a_later_one_leaves_at_once(place: Path) -> None:
    """A closing terminal sends several; one that comes a second later means: now. 129, like 143 after SIGTERM."""
    script = (
        "import os, signal, types\nfrom classify_batch.cli import signals\n"
        "now_s = 0.0\nsignals.time = types.SimpleNamespace(monotonic=lambda: now_s)\n"  # a busy machine sleeps longer
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # whoever runs the tests may ignore it
        "signals.install_handlers()\nheard = []\nsignals.on_first_signal(heard.append)\n"
        "for now_s in (0, 0.3, 0.6, 1.8):\n    os.kill(os.getpid(), signal.SIGHUP)\n    print(heard, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 129, done.stderr
    assert done.stdout.splitlines() == ["['SIGHUP']"] * 3
    assert "left at once" in done.stderr


def test_the_sandbox_ends_at_a_hangup(place: Path) -> None:
    """Status 0, like SIGTERM."""
    with begin(place, "sandbox") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


# --- Signals that are ignored -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(place: Path, slow: str, number: signal.Signals) -> None:
    """`nohup`, and shells for what they start in the background, ignore signals for what they start."""
    before = asked(slow)["creates_accepted"]
    with begin(place, *RUN, ignored=(number,)) as process:
        until(lambda: asked(slow)["creates_accepted"] > before, process)
        for _ in range(3):
            process.send_signal(number)
            time.sleep(0.15)
        said = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 0, said


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_that_was_blocked_at_the_start_ends_a_run(place: Path, endless: str, number: signal.Signals) -> None:
    """A program that takes its signals by `sigwait` blocks them, also for whom it starts."""
    (place / "c.toml").write_text(CONFIG.format(base_url=endless))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        process = begin(place, *RUN)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with process:
        until((place / "run" / "journal.jsonl").exists)
        process.send_signal(number)
        try:
            status = process.wait(PATIENCE_S)
        finally:
            process.kill()
    assert status == 75


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_blocked_signal_that_waits_is_handled_once_it_can_be(number: signal.Signals) -> None:
    """It came before the command was there to hear it: 75 and no traceback. A busy machine may drop the message."""
    script = (
        "import os, signal, sys\n"
        f"signal.signal({number:d}, signal.SIG_DFL)\n"  # whoever runs the tests may ignore it
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [{number:d}])\nos.kill(os.getpid(), {number:d})\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    words = [sys.executable, "-c", script, *COMMAND, "manual"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 75, done.stderr
    assert "Traceback" not in done.stderr


def test_nohup_keeps_a_run_going_and_sigterm_still_ends_it(place: Path, endless: str) -> None:
    """The real nohup: SIGHUP does nothing, SIGTERM ends the run with 75."""
    (place / "c.toml").write_text(CONFIG.format(base_url=endless))
    before = asked(endless)["creates_accepted"]
    words = [shutil.which("nohup") or "nohup", *COMMAND, *RUN]
    with subprocess.Popen(words, cwd=place, env=environment(), text=True, stderr=subprocess.PIPE) as process:
        until(lambda: asked(endless)["creates_accepted"] > before, process)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 75


# --- Inputs that say nothing ------------------------------------------------------------------------------------------

SILENT = {
    "run": ("run", "c.toml", "--input", "{input}", "--run-dir", "run"),
    "check": ("check", "c.toml", "--input", "{input}"),
    "jobs create": ("jobs", "create", "--config", "c.toml", "--input", "{input}"),
}


@pytest.mark.parametrize("writer", ["none", "silent", "slow"])
@pytest.mark.parametrize("command", list(SILENT))
def test_a_signal_ends_a_command_whose_input_says_nothing(place: Path, command: str, writer: str) -> None:
    """A FIFO that nobody opens, or one whose writer is silent or slow: 75 within 4 s, and nothing is left behind."""
    feed = {"none": None, "silent": "sleep 600", "slow": "echo a; sleep 600"}[writer]
    words = [word.format(input="fifo") for word in SILENT[command]]
    with contextlib.ExitStack() as stack:
        if feed is not None:
            feeder = subprocess.Popen(
                ["sh", "-c", f"exec 3>fifo; {{ {feed}; }} >&3"], cwd=place, start_new_session=True
            )
            stack.callback(feeder.wait)
            stack.callback(os.killpg, feeder.pid, signal.SIGKILL)
        process = stack.enter_context(begin(place, *words))
        wait_until_it_reads(process)
        said = stopped(process)
    assert process.returncode == 75, said
    assert "interrupted by SIGTERM" in said
    assert not (place / "run").exists()


@pytest.mark.parametrize("command", list(SILENT))
def test_a_signal_ends_a_command_that_reads_a_slow_command(place: Path, command: str) -> None:
    """`--input <(slow command)`, as bash gives it: 75 within 4 s."""
    theirs, ours = os.pipe()
    words = [word.format(input=f"/dev/fd/{theirs}") for word in SILENT[command]]
    with begin(place, *words, pass_fds=(theirs,)) as process:
        os.close(theirs)
        os.write(ours, b"a\n")
        wait_until_it_reads(process)
        said = stopped(process)
        os.close(ours)
    assert process.returncode == 75, said


def wait_until_it_reads(process: subprocess.Popen[str]) -> None:
    """Until a thread of the process has the input open, or waits for it; the interpreter alone has one thread."""
    threads = Path(f"/proc/{process.pid}/task")
    until(lambda: len(list(threads.iterdir())) > 1, process)
    time.sleep(0.5)


def test_a_fifo_is_read_to_its_end(place: Path, slow: str) -> None:
    """Its writer comes late, and writes slowly: nothing is lost, and its end is the input's."""
    with begin(place, "check", "c.toml", "--input", "fifo", "--json") as process:
        time.sleep(0.5)
        with (place / "fifo").open("w") as fifo:
            for number in range(5):
                fifo.write(f"file-{number}\n")
                fifo.flush()
                time.sleep(0.1)
        out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert json.loads(out)["files"] == 5


def open_silently(fifo: Path, stack: contextlib.ExitStack) -> bool:
    """Opens a FIFO to write nothing to it, once somebody reads it or waits for a writer."""
    try:
        writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    stack.callback(os.close, writer)
    return True


def test_a_signal_ends_a_command_that_hangs_outside_its_loop(place: Path) -> None:
    """A key file that is a silent FIFO blocks the event loop itself: the process still leaves within 4 s."""
    process = subprocess.Popen(
        [*COMMAND, *RUN],
        cwd=place,
        env=environment(LLAMA_CLOUD_API_KEY="", LLAMA_CLOUD_API_KEY_FILE="fifo"),
        text=True,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    )
    with process, contextlib.ExitStack() as stack:
        until(lambda: open_silently(place / "fifo", stack), process)
        said = stopped(process)
    assert process.returncode == 75, said
    assert "interrupted by SIGTERM" in said


TEARS_DOWN_SLOWLY = """
import os, signal, sys, time
from classify_batch.cli import signals

signals.EXIT_TIMEOUT_S = 0.2

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.6)

sys.modules["slow"] = Slow()  # goes with the modules, when Python's own handlers are back
signals.install_handlers()
signals.on_first_signal(lambda name: None)
os.kill(os.getpid(), signal.SIGTERM)
signals.ignore_late_signals(75)
sys.exit(75)
"""


def test_a_slow_end_of_the_interpreter_keeps_the_status() -> None:
    """On a busy machine the alarm came while Python was shutting down, and killed a process that had ended well."""
    done = subprocess.run([sys.executable, "-c", TEARS_DOWN_SLOWLY], capture_output=True, timeout=60, check=False)
    assert done.returncode == 75, done.stderr
