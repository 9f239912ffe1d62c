"""The live view: what stands in it, for each width and height, and that drawing it keeps nobody waiting."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pyte
import pytest

from classify_batch.cli.rendering.live_view import ERRORS_KEPT_MAX, RunView, make_progress_bar
from classify_batch.cli.rendering.progress import calling_on_continue, choose_progress
from classify_batch.cli.rendering.screen import CLOSE_WITHIN_S, LINES_WAITING_MAX, Screen
from classify_batch.cli.rendering.terminal import Terminal
from classify_batch.engine.progress import Progress
from classify_batch.events import CreateAmbiguous, FilesCommitted, FilesFailed, JobFinished, LimitsChanged
from classify_batch.limits.credit_budget import Credits
from classify_batch.model import Uploads
from tests.support.command_line import PATIENCE_S
from tests.support.cpu_waits import CpuWaits

OUTCOMES = {"classified": 8_765_432, "unmatched": 1_234_567, "failed": 1_000_001}
PROGRESS = Progress(
    files=12_000_000,
    outcomes=OUTCOMES,
    types={},
    jobs=120_000,
    in_flight=100,
    slots=100,
    ambiguous=2,
    requests=500_000,
    waiting_s=12.0,
    down=False,
    paused=True,
    stopping=None,
    jobs_left_s=3.0,
    limited_per_s=7.5,
    credits=Credits(1_000_000, 2_000_000),
    uploads=Uploads(1_234_567, 12_000_000, 765_432, 5_300_000_000),
)
EVENTS = (
    JobFinished(3, 1, "ERROR", 2.0),
    CreateAmbiguous(4, 1, "the connection broke"),
    LimitsChanged({"jobs_in_flight": 50}),
    FilesCommitted(5, 1, {"failed": 7}),
    FilesFailed(5, 1, "job_error", "PDF_IS_BROKEN \x1b]0;owned\x07" + 30 * "long ", 7),
)
FACTS = (
    "1,000,001 failed",
    "8,765,432 classified",
    "1,234,567 unmatched",
    "100 of 100 in flight",
    "2 ambiguous creates",
    "1 being collected",
    "1 ended in error or cancelled",
    "1,000,000 of 2,000,000",
    "waiting 12 s: the API's rate limit",
    "paused",
    "7.5/s",
    "jobs_in_flight = 50",
    "7 × job_error: PDF_IS_BROKEN",
    "1,234,567 of 12,000,000 documents in the project",
    "765,432 uploaded",
    "5.3 GB sent",
    "files/s",
    "left",
)


def make_view(progress: Progress = PROGRESS) -> RunView:
    view = RunView()
    view.update(progress)
    for event in EVENTS:
        view.record_event(event)
    return view


@pytest.mark.parametrize("width", [59, 79, 199])
def test_no_figure_is_cut_off_at_any_width(width: int) -> None:
    """Every fact is there in full, no line is wider than the terminal, and only texts of errors are cut."""
    lines = make_view().lines(width, 40)
    assert all(line.cell_len <= width for line in lines)
    shown = "\n".join(line.plain for line in lines)
    assert [fact for fact in FACTS if fact not in shown] == []
    assert "\x1b" not in shown


def test_the_bar_is_as_full_as_the_run_is_done() -> None:
    """In columns and in percent; a run with more outcomes than files, which can't be, breaks nothing."""
    half = replace(PROGRESS, files=200, outcomes={"classified": 100})
    bar = make_progress_bar(half, 79).plain
    assert (bar.count("━"), bar.count("─")) == (20, 20)
    assert bar.endswith(" 50 %  100/200")
    assert "100 %" in make_progress_bar(replace(half, files=50), 79).plain


def test_words_from_outside_and_collected_jobs_are_taken_back() -> None:
    """No escape code of a changed limit reaches the terminal; a job that is committed isn't being collected."""
    view = make_view()
    view.record_event(FilesCommitted(3, 1, {"classified": 7}))
    view.record_event(LimitsChanged({"jobs\x1b[31m": 50}))
    shown = "\n".join(line.plain for line in view.lines(79, 40))
    assert "being collected" not in shown
    assert "\x1b" not in shown


def test_errors_are_kept_in_bounded_number() -> None:
    """A text that was pushed out by many others begins anew."""
    view = make_view()
    for number in range(2 * ERRORS_KEPT_MAX):
        view.record_event(FilesFailed(number, 1, "rejected", f"no {number}", 1))
    view.record_event(FilesFailed(1, 1, "rejected", "no 0", 2))
    assert any("2 × rejected: no 0" in line.plain for line in view.lines(79, 40))


def test_what_matters_least_is_left_out_of_a_low_terminal() -> None:
    """The failures and what the run waits for stay to the last."""
    for height in range(3, 20):
        assert len(make_view().lines(79, height)) <= height
    low = "\n".join(line.plain for line in make_view().lines(79, 5))
    assert "1,000,001 failed" in low
    assert "waiting 12 s" in low


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """Not one character that it couldn't show."""
    assert all(line.plain.isascii() for line in make_view().lines(79, 40, True))


def test_nothing_is_shown_before_the_run_began() -> None:
    """There is nothing to say yet."""
    assert RunView().lines(79, 24) == []


def test_errors_are_counted_by_message_and_the_last_stand_first() -> None:
    """The same message adds up; of many different ones the last are shown."""
    view = make_view()
    for number in range(300):
        view.record_event(FilesFailed(number, 1, "rejected", f"no {number}", 1))
    view.record_event(FilesFailed(1, 1, "rejected", "no 250", 2))
    shown = [line.plain for line in view.lines(79, 40)]
    errors = next(at for at, line in enumerate(shown) if line.startswith("errors"))
    assert "3 × rejected: no 250" in shown[errors]
    assert "1 × rejected: no 299" in shown[errors + 1]


class Tty:
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("asked", "environ", "expected"),
    [
        ("auto", {"TERM": "xterm"}, "live"),
        ("auto", {"TERM": "xterm", "NO_COLOR": "1"}, "live"),
        ("auto", {"TERM": "dumb"}, "lines"),
        ("auto", {}, "lines"),
        ("auto", {"TERM": "xterm", "CI": "true"}, "lines"),
        ("auto", {"TERM": "xterm", "CI": "false"}, "live"),
        ("live", {"TERM": "xterm", "CI": "true"}, "live"),
        ("live", {"TERM": "dumb"}, "lines"),
        ("lines", {"TERM": "xterm"}, "lines"),
        ("none", {"TERM": "xterm"}, "none"),
    ],
)
def test_the_live_view_is_for_terminals_that_can_draw(asked: str, environ: dict[str, str], expected: str) -> None:
    """Elsewhere lines are printed, also where the view was asked for."""
    assert choose_progress(asked, Tty(), environ) == expected  # type: ignore[arg-type]


def test_where_there_is_no_terminal_lines_are_printed(tmp_path: Path) -> None:
    """A file is none, and stderr may be closed."""
    with (tmp_path / "log").open("w") as file:
        assert choose_progress("live", file, {"TERM": "xterm"}) == "lines"
    assert choose_progress("auto", None, {"TERM": "xterm"}) == "lines"


# --- On a terminal ----------------------------------------------------------------------------------------------------


def set_size(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_waiting(terminal: int) -> bytes:
    os.set_blocking(terminal, False)
    data = b""
    try:
        while block := os.read(terminal, 65536):
            data += block
    except BlockingIOError:
        return data
    return data


@pytest.mark.parametrize("no_color", [False, True])
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_lines_scroll_above_the_view_and_nothing_of_it_stays(
    columns: int, no_color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen on a screen: warnings whole and above, one view below, also after a resize; at the end only warnings."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    ours, theirs = pty.openpty()
    set_size(theirs, columns, 40)
    screen = pyte.Screen(columns, 40)
    stream, view, raw = pyte.ByteStream(screen), make_view(), b""
    try:
        with os.fdopen(theirs, "w", encoding="utf-8") as file, Terminal(file, reflows=False) as terminal:
            for number in range(3):
                view.update(replace(PROGRESS, in_flight=number))
                terminal.draw_view(f"warning: {number}", view.lines)
                raw += (data := read_waiting(ours))
                stream.feed(data)
            set_size(file.fileno(), columns + 20, 40)
            screen.resize(40, columns + 20)
            terminal.draw_view("warning: resized", view.lines)
            stream.feed(read_waiting(ours))
            shown = [line.rstrip() for line in screen.display]
            assert shown[:4] == ["warning: 0", "warning: 1", "warning: 2", "warning: resized"]
            assert sum("1,000,001 failed" in line for line in shown) == 1
            assert "2 of 100 in flight" in "\n".join(shown)
            terminal.close()
            stream.feed(read_waiting(ours))
        assert [line.rstrip() for line in screen.display if line.strip()] == shown[:4]
        assert b"?25l" not in raw, "the cursor is hidden"
        assert (b"\x1b[3" in raw) is not no_color
    finally:
        os.close(ours)


def test_after_ctrl_z_the_view_is_drawn_below_what_the_shell_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was written while the process was stopped is erased, and the view goes on below it."""
    monkeypatch.setenv("TERM", "xterm-256color")
    ours, theirs = pty.openpty()
    set_size(theirs, 80, 40)
    shown, view = pyte.Screen(80, 40), make_view()
    stream = pyte.ByteStream(shown)
    try:
        with os.fdopen(theirs, "w", encoding="utf-8") as file, Terminal(file, reflows=False) as terminal:
            terminal.draw_view("", view.lines)
            stream.feed(read_waiting(ours))
            stream.feed(b"^Z\r\n[1]+  Stopped\r\n$ fg\r\nclassify-batch run\r\n")
            terminal.forget_view()
            for _ in range(3):
                terminal.draw_view("", view.lines)
                stream.feed(read_waiting(ours))
        lines = [line.rstrip() for line in shown.display]
        fg = lines.index("$ fg")
        assert lines[fg - 1 : fg + 2] == ["[1]+  Stopped", "$ fg", "classify-batch run"]
        assert sum("1,000,001 failed" in line for line in lines[fg:]) == 1
    finally:
        os.close(ours)


def test_the_screen_goes_on_below_what_the_shell_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fg` reaches the terminal: the thread that draws lets go of the view that stands above the shell's lines."""
    monkeypatch.setenv("TERM", "xterm-256color")
    ours, theirs = pty.openpty()
    set_size(theirs, 80, 40)
    shown, view = pyte.Screen(80, 40), make_view()
    stream = pyte.ByteStream(shown)

    def feed_until_drawn() -> None:
        data, until_s = b"", time.monotonic() + PATIENCE_S
        while b"in flight" not in data and time.monotonic() < until_s:
            data += (block := read_waiting(ours))
            stream.feed(block)

    try:
        with os.fdopen(theirs, "w", encoding="utf-8") as file:
            monkeypatch.setattr(sys, "stderr", file)
            screen = Screen(view.lines)
            screen.redraw()
            feed_until_drawn()
            stream.feed(b"^Z\r\n[1]+  Stopped\r\n$ fg\r\nclassify-batch run\r\n")
            screen.start_afresh()
            feed_until_drawn()
            lines = [line.rstrip() for line in shown.display]
            screen.close()
        fg = lines.index("$ fg")
        assert lines[fg - 1 : fg + 2] == ["[1]+  Stopped", "$ fg", "classify-batch run"]
        assert sum("1,000,001 failed" in line for line in lines[fg:]) == 1
    finally:
        os.close(ours)


def test_a_process_that_is_continued_calls_its_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGCONT is what a shell sends; afterwards the signal means what it did before."""
    continued: list[bool] = []
    before = signal.getsignal(signal.SIGCONT)
    with calling_on_continue(lambda: continued.append(True)):
        os.kill(os.getpid(), signal.SIGCONT)
        deadline_s = time.monotonic() + PATIENCE_S
        while not continued and time.monotonic() < deadline_s:
            pass
    assert continued == [True]
    assert signal.getsignal(signal.SIGCONT) == before


SIGNALLED = """
import os, signal, threading
from classify_batch.cli.rendering.progress import calling_on_continue
from classify_batch.cli.rendering.screen import Screen

screen = Screen()
signals = threading.Thread(target=lambda: [os.kill(os.getpid(), signal.SIGCONT) for _ in range(30_000)])
with calling_on_continue(screen.start_afresh):
    signals.start()
    while signals.is_alive():
        screen.redraw()
screen.close()
"""


def test_many_signals_while_the_view_is_drawn_stop_nothing() -> None:
    """GNU `timeout` sends SIGCONT twice: a handler may come in the middle of a draw, or of itself, and waits for
    neither. A process of its own, which a wait for a lock would keep for ever."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_that_takes_nothing_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-S, or a line that hangs: who prints goes on at once, and so does the end of the run."""
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    file = os.fdopen(theirs, "w", encoding="utf-8")
    monkeypatch.setattr("sys.stderr", file)
    began_s, waits = time.monotonic(), CpuWaits(os.getpid())
    screen = Screen(make_view().lines)
    for number in range(3 * LINES_WAITING_MAX):
        screen.print_line(f"warning: {number} {'x' * 100}")
        screen.redraw()
    screen.close()
    assert time.monotonic() - began_s - waits.seconds() < CLOSE_WITHIN_S + 2
    deadline_s, shown = time.monotonic() + PATIENCE_S, b""
    while screen.is_open and time.monotonic() < deadline_s:  # lets its thread go before the file is closed
        shown += read_waiting(ours)
    assert b"lines were left out: the terminal was too slow" in shown
    file.close()
    os.close(ours)
