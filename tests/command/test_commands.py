"""The commands as a user meets them: the real executable, real sockets, real signals, a real terminal."""

import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import click
import pytest

from classify_batch.errors import EXIT_STATUS_MEANINGS
from tests.support.command_line import KEY, PATIENCE_S, asked, command_process, environment, sandbox, until
from tests.support.leaving import EXIT_TIMEOUT_S, LeaveTimer
from tests.support.start_command import COMMAND, CommandProcess

HEADER = "s3cr3t-header"
IDS = [f"file-{number}" for number in range(25)]
RULES = '[{ type = "invoice", description = "has an invoice number and a total" }]'
RUN = ("run", "c.toml", "--input", "ids.txt", "--run-dir", "run")
MANIFEST_KEYS = {
    *("state", "reason", "exit_status", "run_id", "started_at", "stopped_at", "files", "reused", "counts", "types"),
    *("failure_codes", "triage", "second_looks", "credits", "jobs", "requests", "journal_seq", "outputs"),
    *("discovered", "duplicates", "hint", "next", "starts", "start_count", "limits", "job_s", "waiting_s"),
    *("failure_messages", "failures_read", "failures_worth_a_retry"),
}
KNOWN_LATER = {"outputs", "hint", "waiting_s", "failure_messages", "failures_read", "failures_worth_a_retry"}
"""What `status` doesn't say of a run that is on and has no failures."""


class Place:
    """A folder with a config and an input, and the command in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        (folder / "ids.txt").write_text("\n".join(IDS) + "\n")

    def configure(self, base_url: str, text: str = "", *, jobs_in_flight: int = 20) -> None:
        """A config for jobs of 10 files; `text` goes on with its [job]."""
        (self.folder / "c.toml").write_text(
            f'[api]\nbase_url = "{base_url}"\n[plan]\nfiles_per_job = 10\n'
            f"[limits]\nrequests_per_s = 500.0\nsettle_s = 1.0\njobs_in_flight = {jobs_in_flight}\n"
            f"[job]\nrules = {RULES}\n{text}"
        )

    def start(
        self, *arguments: str, start: type[subprocess.Popen[str]] = CommandProcess, **options: Any
    ) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return start([*COMMAND, *arguments], cwd=self.folder, text=True, **{**pipes, "env": environment(), **options})

    def done(
        self, *arguments: str, status: int = 0, stdin: str = "", environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A call that ends with `status`."""
        return command_process(*arguments, folder=self.folder, status=status, stdin=stdin, environ=environ)

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run / name).read_text().splitlines()]

    def contents(self) -> Mapping[str, bytes]:
        return {str(path.relative_to(self.run)): path.read_bytes() for path in self.run.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def quick() -> Iterator[str]:
    """The base URL of a sandbox whose jobs take no time worth naming."""
    with sandbox("--job-duration-s", "0.05", "--job-duration-sigma", "0") as base_url:
        yield base_url


@pytest.fixture(scope="module")
def slow() -> Iterator[str]:
    """The base URL of a sandbox whose jobs take 4 seconds."""
    with sandbox("--job-duration-s", "4", "--job-duration-sigma", "0") as base_url:
        yield base_url


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        yield listener


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, quick: str) -> Place:
    """A complete run; copy it before changing it."""
    place = Place(tmp_path_factory.mktemp("finished"))
    place.configure(quick)
    place.done(*RUN)
    return place


# --- Help, plan, run --------------------------------------------------------------------------------------------


def test_help_names_every_command_and_exit_status(place: Place) -> None:
    """`--help` is data, names the commands, and tells what each exit status means."""
    done = place.done("--help")
    assert done.stderr == ""
    for status, meaning in EXIT_STATUS_MEANINGS.items():
        assert f"{int(status):>3}  {meaning}" in done.stdout
    for command in ("run", "resume", "plan", "status", "verify", "sandbox"):
        assert f"\n  {command} " in done.stdout
        assert "Example" in place.done(command, "--help").stdout


def test_plan_calls_nothing_and_can_be_resumed(place: Place, quick: str) -> None:
    """`plan` needs no key, sends nothing, prints what the run will take, and `resume` carries it out."""
    place.configure(quick)
    (place.folder / "ids.txt").write_text("\n".join([*IDS, IDS[0]]))
    before = asked(quick)["requests"]
    done = place.done("plan", *RUN[1:], environ={"LLAMA_CLOUD_API_KEY": ""})
    assert asked(quick)["requests"] == before
    assert "next: classify-batch resume run" in done.stderr
    told = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "25  (1 repeated" in told["files"]
    assert "3  (of up to 10 files)" in told["chunks"]
    assert told["requests"].split()[1] == "6"
    assert "125 credits, $0.16" in told["cost"]
    assert set(place.contents()) == {"plan.jsonl", "run.json", "lock"}
    assert "state       incomplete" in place.done("status", "run").stdout
    place.done("resume", "run")
    assert sorted(line["file_id"] for line in place.lines("results.jsonl")) == sorted(IDS)


def test_a_run_prints_json_on_stdout_and_messages_on_stderr(place: Place, quick: str) -> None:
    """Stdout holds the manifest as its only line with --json, and nothing without; the summary goes to stderr."""
    place.configure(quick)
    done = place.done(*RUN, "--json")
    manifest = json.loads(done.stdout.splitlines()[-1])
    assert done.stdout.count("\n") == 1
    assert manifest == json.loads((place.run / "manifest.json").read_text())
    assert set(manifest) == MANIFEST_KEYS
    for words in ("state       complete", "25 of 25", "3 jobs", "run/results.jsonl", "next: classify-batch verify run"):
        assert words in done.stderr
    shutil.rmtree(place.run)
    assert place.done(*RUN).stdout == ""


def test_status_and_verify_agree_on_a_complete_run(finished: Place) -> None:
    """`status` tells on stdout how the run stands, `--json` by the manifest's keys; `verify` proves it."""
    status = finished.done("status", "run")
    assert status.stderr == ""
    assert "25 of 25" in status.stdout
    told = json.loads(finished.done("status", "run", "--json").stdout)
    manifest = json.loads((finished.run / "manifest.json").read_text())
    assert told == manifest
    assert "sound and complete: 25 files" in finished.done("verify", "run").stdout


def test_verify_names_the_damaged_file_and_lines(place: Place, finished: Place) -> None:
    """`verify` of a run with one byte changed exits with 2 and names the file and the lines."""
    shutil.copytree(finished.run, place.run)
    results = place.run / "results.jsonl"
    results.write_bytes(results.read_bytes().replace(b"file-3", b"file-2", 1))
    done = place.done("verify", "run", status=2)
    assert any(line.startswith("damaged: results.jsonl, line") for line in done.stdout.splitlines())
    assert done.stderr.startswith("hint: ")


@pytest.mark.parametrize(("known", "status"), [(True, 0), (False, 1)])
def test_a_complete_run_started_again_changes_nothing(place: Place, *, known: bool, status: int) -> None:
    """A complete run started again calls nothing, changes no byte, says so, and exits as it did when it finished."""
    (place.folder / "a.txt").write_text("an invoice")
    (place.folder / "ids.txt").write_text(str(uuid5(NAMESPACE_URL, "a.txt") if known else "stranger"))
    place.configure("sandbox", f'[sandbox]\ndocuments = "{place.folder}"\n')
    place.done(*RUN, status=status)
    before = place.contents()
    for arguments in (RUN, ("resume", "run")):
        assert "complete already: nothing was called" in place.done(*arguments, status=status).stderr
        assert place.contents() == before


def test_a_complete_run_started_again_does_not_connect(place: Place) -> None:
    """A complete run started again doesn't even connect: its server may be gone."""
    with sandbox("--job-duration-s", "0") as base_url:
        place.configure(base_url)
        place.done(*RUN)
    place.done(*RUN)


# --- Sources, keys and settings -----------------------------------------------------------------------------------


def test_the_project_is_an_input_and_an_existing_plan_wins(place: Place) -> None:
    """`project:` classifies all files of the project; started again, the plan that is there wins and says so."""
    documents = place.folder / "documents"
    (documents / "deep").mkdir(parents=True)
    names = ["a.txt", "b.txt", "deep/c.txt"]
    for name in names:
        (documents / name).write_text("an invoice number and a total")
    arguments = ("run", "c.toml", "--input", "project:", "--run-dir", "run")
    with sandbox("--documents", str(documents), "--job-duration-s", "0.05") as base_url:
        place.configure(base_url)
        place.done(*arguments)
        expected = sorted(str(uuid5(NAMESPACE_URL, name)) for name in names)
        assert sorted(line["file_id"] for line in place.lines("results.jsonl")) == expected
        assert "going on with its plan" in place.done(*arguments).stderr


def test_stdin_is_an_input_and_an_existing_plan_wins(place: Place, quick: str) -> None:
    """`-` reads stdin; where a plan is there it wins, the run says so and hints at a new directory."""
    place.configure(quick)
    arguments = ("--input", "-", "--run-dir", "run")
    place.done("plan", "c.toml", *arguments, stdin="a\nb\n")
    done = place.done("run", "c.toml", *arguments, stdin="c\n")
    assert "going on with its plan" in done.stderr
    assert "new run directory" in done.stderr
    assert sorted(line["file_id"] for line in place.lines("results.jsonl")) == ["a", "b"]


def test_the_column_option_names_the_column_of_the_ids(place: Place, quick: str) -> None:
    """`--column` takes the file IDs from that column, and from there again when the run is resumed."""
    place.configure(quick)
    (place.folder / "ids.csv").write_text('\ufeffname,id\r\n"an, invoice",a\r\nx,b\r\n')
    for _ in range(2):
        place.done("run", "c.toml", "--input", "ids.csv", "--column", "id", "--run-dir", "run")
    assert sorted(line["file_id"] for line in place.lines("results.jsonl")) == ["a", "b"]


def test_a_refused_key_exits_with_77_and_a_right_one_resumes(place: Place, quick: str) -> None:
    """A refused key ends the run with 77 before anything is paid; the right one from a file takes it up."""
    place.configure(quick)
    (place.folder / "key").write_text(f"{KEY}\n")
    refused = place.done(*RUN, status=77, environ={"LLAMA_CLOUD_API_KEY": "llx-wr0ng-key"})
    assert "hint: " in refused.stderr
    assert "llx-wr0ng-key" not in refused.stderr + "".join(map(str, place.contents().values()))
    place.done(*RUN, environ={"LLAMA_CLOUD_API_KEY": "", "LLAMA_CLOUD_API_KEY_FILE": "key"})


def test_options_override_environment_config_and_defaults(place: Place) -> None:
    """Option over CLASSIFY_BATCH_… over LLAMA_CLOUD_BASE_URL over the config over the default."""

    def base_url(*options: str, **values: str) -> str:
        place.done("plan", *RUN[1:], *options, environ=values)
        run: dict[str, Any] = json.loads((place.run / "run.json").read_text())
        shutil.rmtree(place.run)
        return str(run["settings"]["api"]["base_url"])

    config = place.folder / "c.toml"
    config.write_text(f"[job]\nrules = {RULES}\n")
    assert base_url() == "https://api.cloud.llamaindex.ai"
    config.write_text(f'[api]\nbase_url = "https://config"\n[job]\nrules = {RULES}\n')
    assert base_url() == "https://config"
    vendor = {"LLAMA_CLOUD_BASE_URL": "https://vendor"}
    ours = {"CLASSIFY_BATCH_API__BASE_URL": "https://ours"}
    assert base_url(**vendor) == "https://vendor"
    assert base_url(**vendor, **ours) == "https://ours"
    assert base_url("--base-url", "https://option", **vendor, **ours) == "https://option"


def test_secrets_are_in_no_file_output_or_process_list(place: Place, quick: str) -> None:
    """Key and webhook headers are in no file of the run, on no output and not in the process list."""
    webhook = f'{{ webhook_url = "https://example.com", webhook_headers = {{ X-Token = "{HEADER}" }} }}'
    place.configure(quick, f"webhook_configurations = [{webhook}]\n")
    process = place.start(*RUN, "--json", start=subprocess.Popen)  # its own words are in the process list
    until((place.run / "journal.jsonl").exists, process)
    ps = Path(f"/proc/{process.pid}/cmdline")
    command_line = ps.read_text() if ps.exists() else ""
    said = "".join(process.communicate(timeout=PATIENCE_S))
    assert process.returncode == 0, said
    refused = place.done("resume", "run", status=2)
    assert "--config" in refused.stderr
    resumed = place.done("resume", "run", "--config", "c.toml")
    outputs = [place.done("status", "run", "--json"), place.done("verify", "run"), refused, resumed]
    written = b"".join(place.contents().values()).decode()
    everything = written + said + command_line + "".join(each.stdout + each.stderr for each in outputs)
    assert "webhook_headers" in everything
    for secret in (KEY, HEADER):
        assert secret not in everything


# --- While a run is on --------------------------------------------------------------------------------------------


def test_a_running_run_is_shown_by_status_and_refuses_a_second_process(place: Place, slow: str) -> None:
    """While a run is on, `status` names its holder, `verify` calls it incomplete, and a second run is refused by 75."""
    place.configure(slow)
    before = asked(slow)["creates_accepted"]
    process = place.start(*RUN)
    until(lambda: asked(slow)["creates_accepted"] == before + 3, process)
    process.send_signal(signal.SIGSTOP)  # it holds the run and stands still, however slow the machine is
    try:
        told = json.loads(place.done("status", "run", "--json").stdout)
        assert set(told) == MANIFEST_KEYS - KNOWN_LATER | {"holder", "time_left_s"}
        assert (told["state"], told["exit_status"], told["holder"]["pid"]) == ("running", None, process.pid)
        for arguments in (RUN, ("resume", "run")):
            refused = place.done(*arguments, status=75).stderr
            assert f"process {process.pid} on {socket.gethostname()}" in refused
            assert "hint: " in refused
        assert "sound, incomplete" in place.done("verify", "run", status=75).stdout
    finally:
        process.send_signal(signal.SIGCONT)
    said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert asked(slow)["creates_accepted"] == before + 3


@pytest.mark.slow
def test_a_long_run_prints_progress_lines_without_a_terminal(place: Place, slow: str) -> None:
    """A run of more than five seconds says on stderr, in plain lines, how far it is."""
    place.configure(slow, jobs_in_flight=1)
    lines = [line for line in place.done(*RUN).stderr.splitlines() if " of 25 files; " in line]
    assert lines
    assert "\x1b" not in "".join(lines)
    for words in (" classified, ", " unmatched, ", " failed", " of 1 jobs in flight, ", " files/s, ", " left, "):
        assert words in lines[0]


def test_a_terminal_shows_a_live_view_until_the_summary(place: Place, slow: str) -> None:
    """On a terminal a view shows outcomes, jobs, rate and time left, and is gone when the summary comes."""
    place.configure(slow)
    ours, theirs = pty.openpty()
    with place.start(*RUN, stderr=theirs, env=environment(TERM="xterm", COLUMNS="160")) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # how a terminal says that nobody is left at its other end
            while select.select([ours], [], [], PATIENCE_S)[0] and (data := os.read(ours, 65536)):
                shown += data
    os.close(ours)
    assert process.returncode == 0
    bar, _, summary = shown.decode().rpartition("\x1b[2K")
    for words in ("━", "0/25", "3 of 20 in flight", "files/s", "left"):
        assert words in bar
    assert "state       complete" in click.unstyle(summary)
    assert "━" not in summary


def test_quiet_and_verbose_choose_what_is_shown(place: Place, quick: str) -> None:
    """Quiet shows the summary alone; verbose a line for each job; both at once are refused."""
    place.configure(quick)
    assert place.done(*RUN, "-q").stderr.startswith("state       complete")
    shutil.rmtree(place.run)
    verbose = place.done(*RUN, "-v").stderr
    for chunk in range(3):
        for words in ("created (attempt 1)", "its job ended with SUCCESS", " classified"):
            assert any(f" chunk {chunk}: " in line and words in line for line in verbose.splitlines()), verbose
    assert "contradict" in place.done(*RUN, "-q", "-v", status=2).stderr


def test_a_command_ends_quietly_where_nobody_reads_stdout(place: Place, finished: Place) -> None:
    """Where nobody reads stdout anymore a command ends quietly, with no traceback and no bug."""
    for arguments in (("status", "run"), ("resume", "run", "--json"), ("verify", "run"), ("--help",)):
        theirs, ours = os.pipe()
        os.close(theirs)
        process = finished.start(*arguments, stdout=ours)
        os.close(ours)
        said = process.communicate(timeout=PATIENCE_S)[1]
        assert process.returncode == 75, said
        assert "Traceback" not in said
        assert "Exception ignored" not in said
        assert "error:" not in said


def test_an_error_keeps_its_status_where_nobody_reads_stderr(place: Place) -> None:
    """Where nobody reads stderr the status of an error is still its own."""
    theirs, ours = os.pipe()
    os.close(theirs)
    process = place.start("status", "absent", stderr=ours)
    os.close(ours)
    assert process.communicate(timeout=PATIENCE_S)[0] == ""
    assert process.returncode == 2


# --- Signals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_anything_is_sent_leaves_nothing_behind(
    place: Place, silent: socket.socket, number: signal.Signals
) -> None:
    """A signal while the input is still being read ends the run with 75, and leaves nothing behind."""
    place.configure(f"http://127.0.0.1:{silent.getsockname()[1]}")
    process = place.start("run", "c.toml", "--input", "-", "--run-dir", "run", stdin=subprocess.PIPE)
    until(lambda: (place.run / "lock").exists() and (place.run / "lock").read_text(), process)
    assert process.stdin is not None
    process.stdin.write("a\n")
    process.stdin.flush()
    timer = LeaveTimer(process)
    process.send_signal(number)
    assert timer.wait_s() < EXIT_TIMEOUT_S
    said = process.communicate()[1]
    assert process.returncode == 75, said
    assert f"interrupted by {number.name}" in said
    assert "hint: " in said
    assert not place.run.exists()
    silent.setblocking(False)
    with pytest.raises(BlockingIOError):
        silent.accept()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_and_the_same_command_collects_its_jobs(
    place: Place, slow: str, number: signal.Signals
) -> None:
    """A signal with jobs in flight ends the run with 75 within 4 s; the same command collects them, and sends none."""
    place.configure(slow)
    before = asked(slow)["creates_accepted"]
    process = place.start(*RUN, "--json")
    until(lambda: asked(slow)["creates_accepted"] == before + 3, process)
    timer = LeaveTimer(process)
    process.send_signal(number)
    assert timer.wait_s() < EXIT_TIMEOUT_S
    out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 75, said
    manifest = json.loads(out)
    assert (manifest["state"], manifest["exit_status"]) == ("incomplete", 75)
    assert manifest["reason"] == f"interrupted by {number.name}"
    assert "hint: " in said
    assert "next: classify-batch resume run" in said
    assert "sound, incomplete" in place.done("verify", "run", status=75).stdout
    place.done(*RUN)
    place.done("verify", "run")
    assert asked(slow)["creates_accepted"] == before + 3


EMPTY_PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n" + b'{"items":[]}'


@contextmanager
def begun_at(place: Place, silent: socket.socket) -> Iterator[subprocess.Popen[str]]:
    """A run with a create on the wire that is not answered before the block ends."""
    place.configure(f"http://127.0.0.1:{silent.getsockname()[1]}")
    process = place.start(*RUN)
    connection, _ = silent.accept()
    with connection:
        while (request := connection.recv(65536)).startswith(b"GET"):  # which project it is, is read first
            connection.sendall(EMPTY_PAGE)
        assert request.startswith(b"POST")
        yield process


def test_a_signal_ends_a_run_within_4_s_while_a_create_hangs(place: Place, silent: socket.socket) -> None:
    """Also where the server hangs the run ends within 4 s, and says that creates are ambiguous."""
    with begun_at(place, silent) as process:
        timer = LeaveTimer(process)
        process.send_signal(signal.SIGINT)
        assert timer.wait_s() < EXIT_TIMEOUT_S
        said = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 75, said
    assert "creates are ambiguous" in place.done("verify", "run", status=75).stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_exits_at_once_and_the_run_can_be_resumed(
    place: Place, silent: socket.socket, number: signal.Signals
) -> None:
    """The second signal doesn't wait for the server: 130 or 143, and the directory can be gone on with."""
    with begun_at(place, silent) as process:
        timer = LeaveTimer(process)
        assert timer.wait_s(meanwhile=lambda: os.kill(process.pid, number)) < 2
    assert "left at once" in process.communicate()[1]
    assert process.returncode == 128 + number
    assert "sound, incomplete" in place.done("verify", "run", status=75).stdout
