"""Most tests fork a command from a process that has imported the package: it does what a fresh interpreter does."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from classify_batch.cli.main import cli
from tests.support.command_line import environment, read_status, sandbox, small_jobs_config
from tests.support.start_command import COMMAND, FRESH, READ_AT_START, CommandProcess, fork_server, run_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each command has a fresh interpreter")

RUN = ("run", "c.toml", "--input", "ids.txt", "--run-dir", "run")
FILES = 25
CHANGES = re.compile(r"\b[0-9a-f]{64}\b|\b[\w-]+-[\w-]{4,}\b|\d{4}-\d\d-\d\dT[\d:.]+Z?|\d+(\.\d+)?")
"""What differs between any two runs: digests, IDs, times, numbers of bytes and seconds."""

FACTS = """
import gc, json, os, resource, signal, sys, time, warnings
def stream(each):
    return [each.name, each.mode, each.encoding, each.errors, each.line_buffering, each.write_through, each.isatty(),
            each.newlines, type(each.buffer).__name__, getattr(each.buffer, "raw", each.buffer).mode, each.fileno()]
facts = dict(
    argv=sys.argv, path=sys.path, cwd=os.getcwd(), environ=dict(os.environ), umask=os.umask(0o22), name=__name__,
    group=os.getpgid(0) == os.getpgid(os.getppid()), session=os.getsid(0) == os.getsid(os.getppid()),
    leads=os.getsid(0) == os.getpid(), status=[line for line in open("/proc/self/status")
        if line.startswith(("SigBlk", "SigIgn", "SigCgt", "Uid", "Gid", "Groups", "Threads", "CapEff", "NoNewPrivs"))],
    handlers=[repr(signal.getsignal(each)).split(" at ")[0] for each in signal.Signals],
    limits=[resource.getrlimit(each) for each in range(16)], nice=os.nice(0), zone=time.tzname,
    streams=[stream(each) for each in (sys.stdin, sys.stdout, sys.stderr)],
    same=[sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
    open=sorted(os.listdir("/proc/self/fd")), flags=str(sys.flags), options=sys._xoptions, gc=gc.isenabled(),
    filters=[each[0] for each in warnings.filters], hooks=sys.excepthook is sys.__excepthook__,
    cloexec=[os.get_inheritable(each) for each in range(3)],
)
json.dump(facts, open("facts.json", "w"))
"""
SCRIPT = [sys.executable, "-c"]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on each process has an interpreter of its own."""
    return lambda: monkeypatch.setenv(FRESH, "1")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with sandbox() as base_url:
        yield base_url


def prepare(folder: Path, base_url: str) -> Path:
    folder.mkdir()
    (folder / "c.toml").write_text(small_jobs_config(base_url))
    (folder / "ids.txt").write_text("".join(f"file-{number}\n" for number in range(FILES)))
    return folder


def values(**further: str) -> dict[str, str]:
    """Without the variable that is only for the tests."""
    return {name: value for name, value in environment(**further).items() if name != FRESH}


def called(folder: Path, *words: str, stdin: str = "") -> tuple[int, str, str]:
    done = run_process([*COMMAND, *words], cwd=folder, env=values(), stdin=stdin)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_each_command_starts_alike(fresh: Callable[[], None], tmp_path: Path, name: str) -> None:
    """The real entry point of each command says what the forked one says."""
    forked = called(tmp_path, name, "--no-such-option")
    fresh()
    assert called(tmp_path, name, "--no-such-option") == forked
    assert (forked[0], "No such option" in forked[2]) == (2, True), forked


def test_a_whole_day_of_commands_is_alike(fresh: Callable[[], None], tmp_path: Path, server: str) -> None:
    """A run and what is asked about it: the same statuses, words and outcomes, but for IDs and times."""
    days = []
    for folder in ("forked", "fresh"):
        place = prepare(tmp_path / folder, server)
        day = [
            called(place, *words)
            for words in (
                ("plan", "c.toml", "--input", "ids.txt", "--run-dir", "planned"),
                (*RUN, "--json", "--progress", "none"),  # else there is a line every five seconds
                ("status", "run"),
                ("verify", "run"),
                ("export", "run", "-"),
                ("report", "run"),
                ("resume", "absent"),
            )
        ]
        said = [[CHANGES.sub("#", text.replace(str(place), "PLACE")) for text in texts] for _, *texts in day]
        days.append([(status, *texts) for (status, *_), texts in zip(day, said, strict=True)])
        assert sum(read_status(place / "run")["counts"].values()) == FILES
        days[-1].append((0, called(place, "plan", "c.toml", "--input", "-", "--run-dir", "p", stdin="a\nb\n")[2], ""))
        fresh()
    forked, alone = days
    assert [status for status, _, _ in forked] == [0, 0, 0, 0, 0, 0, 2, 0]
    for one, other in zip(forked, alone, strict=True):
        assert one == other


def facts_of(folder: Path, start: Callable[..., Any], **options: Any) -> dict[str, Any]:
    with start([*SCRIPT, FACTS, "one", "two"], cwd=folder, **options) as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    return facts


@pytest.mark.parametrize("how", ["pipes", "terminal", "null", "session", "zone"])
def test_a_forked_process_has_what_a_fresh_one_has(tmp_path: Path, how: str) -> None:
    """Signals, streams, arguments, environment, limits, group and session, open files, flags of the interpreter."""
    ours, theirs = pty.openpty()
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    bare = {name: value for name, value in values().items() if name.startswith(READ_AT_START)}
    options: Any = {
        "pipes": {"stdin": pipe, "stdout": pipe, "stderr": pipe, "env": values()},
        "terminal": {"stdin": theirs, "stdout": theirs, "stderr": theirs, "env": values(TERM="dumb")},
        # Not without an environment: readline puts LINES and COLUMNS into the one that C hands on.
        "null": {"stdin": null, "stdout": null, "stderr": subprocess.STDOUT, "env": dict(os.environ)},
        "session": {"stdin": null, "stdout": pipe, "stderr": null, "env": values(), "start_new_session": True},
        "zone": {"stdin": null, "stdout": pipe, "stderr": pipe, "env": bare | {"TZ": "Asia/Kathmandu"}},
    }[how]
    forked, alone = (facts_of(tmp_path, start, **options) for start in (CommandProcess, subprocess.Popen))
    os.close(ours)
    os.close(theirs)
    assert {name for name, fact in forked.items() if fact != alone[name]} == set()


@pytest.mark.parametrize(
    "code",
    [
        "sys.exit(3)",
        "sys.exit('words')",
        "print('out'); sys.stderr.write('err'); sys.exit()",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "signal.raise_signal(signal.SIGTERM)",
        "sys.stdout = open('/dev/full', 'w'); print('lost')",
        "import atexit; atexit.register(print, 'last'); print('first')",
        "from threading import *; Thread(target=lambda: (main_thread().join(), print('late'))).start(); print('early')",
        "print(input(), sys.stdin.read())",
        "os._exit(9)",
    ],
)
def test_a_forked_process_ends_as_a_fresh_one(code: str) -> None:
    """Exit statuses, signals, what is flushed and what is called at the end."""
    script = [*SCRIPT, f"import os, signal, sys\n{code}"]
    forked = run_process(script, stdin="a\nb\n", env=values())
    alone = subprocess.run(script, input="a\nb\n", env=values(), capture_output=True, text=True, check=False)
    assert (forked.returncode, forked.stdout, forked.stderr) == (alone.returncode, alone.stdout, alone.stderr)


def test_a_forked_process_can_be_stopped_and_killed() -> None:
    """It has a pid of its own, and its end is seen by whoever waits."""
    script = [*SCRIPT, "import time; print('up', flush=True); time.sleep(60)"]
    with CommandProcess(script, stdout=subprocess.PIPE, text=True, env=values()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(signal.SIGSTOP)
        assert process.poll() is None
        process.kill()
    assert process.returncode == process.poll() == process.wait() == -signal.SIGKILL
    assert not Path(f"/proc/{process.pid}").exists()


def test_forked_processes_draw_different_numbers() -> None:
    """Each has random numbers and UUIDs of its own."""
    script = [*SCRIPT, "import random, uuid; print(random.random(), uuid.uuid4())"]
    drawn = [run_process(script, env=values()).stdout.split() for _ in range(3)]
    assert len({word for each in drawn for word in each}) == 6


def parent(words: Sequence[str] = (), **options: Any) -> int:
    script = words or [*SCRIPT, "import os; print(os.getppid())"]
    given = {"env": values(), "stdout": subprocess.PIPE, "text": True, **options}
    with CommandProcess(script, **given) as process:
        return int(process.communicate(timeout=60)[0])


def test_what_is_asked_beyond_a_fork_gets_an_interpreter_of_its_own(fresh: Callable[[], None]) -> None:
    """What a process inherits, what it reads at its start, and options that a fork doesn't know."""
    assert parent() == fork_server().pid
    assert parent(env=values(COLUMNS="30")) == fork_server().pid
    ours = os.getpid()
    assert parent(preexec_fn=lambda: None) == ours
    assert parent(close_fds=False) == ours
    assert parent(umask=0o77) == ours
    assert parent(process_group=0) == ours
    for name in ("PYTHONHASHSEED", "LC_ALL", "LANG"):
        assert parent(env=values(**{name: "0" if name == "PYTHONHASHSEED" else "C"})) == ours, name
    assert parent([sys.executable, "-X", "dev", "-c", "import os; print(os.getppid())"]) == ours
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert parent() == ours
    finally:
        signal.signal(signal.SIGHUP, before)
    umask = os.umask(0o77)
    try:
        assert parent() == ours
    finally:
        os.umask(umask)
    assert parent() == fork_server().pid
    fresh()
    assert parent() == ours
