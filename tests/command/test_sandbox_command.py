"""`classify-batch sandbox` as a real process on a real socket."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from classify_batch.sandbox import read_billed
from tests.support.command_line import PATIENCE_S, command
from tests.support.leaving import LeaveTimer
from tests.support.start_command import CommandProcess, run_process

JOBS = "/api/v1/classifier/jobs"
V2_JOBS = "/api/v2/classify"
HEADERS = {"Authorization": "Bearer sandbox"}
BODY = {"file_ids": ["a", "b"], "rules": [{"type": "letter", "description": "has a salutation"}]}
UUID_OF_A_FILE = "0f8fad5b-d9cb-469f-a165-70867728950e"
COMMAND = [sys.executable, "-m", "classify_batch", "sandbox"]


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its base URL, once it listens."""
    with CommandProcess([*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().rstrip("\n")
        finally:
            process.kill()


def ask(base_url: str, path: str = JOBS, **options: Any) -> httpx.Response:
    return httpx.get(base_url + path, **{"headers": HEADERS, **options})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_sandbox_prints_its_url_and_stops_at_a_signal(number: signal.Signals) -> None:
    """It prints its base URL with the real port, serves, and ends with status 0 on SIGTERM or SIGINT, silently."""
    with running() as (process, base_url):
        assert base_url.startswith("http://127.0.0.1:")
        assert ask(base_url).json()["items"] == []
        process.send_signal(number)
        assert process.communicate(timeout=PATIENCE_S) == ("", "")
        assert process.returncode == 0


def test_without_a_key_the_sandboxs_own_is_shown(tmp_path: Path) -> None:
    """At an address of this machine; anybody else's server wants a real one."""
    config, ids = tmp_path / "my.toml", tmp_path / "ids.txt"
    ids.write_text("a\n")
    command("init", config, "--rule", "invoice=has line items and a total", status=0)
    words = ("run", config, "--input", ids, "--run-dir", tmp_path / "run", "--base-url")
    without = {"LLAMA_CLOUD_API_KEY": None}
    with running() as (_, base_url):
        said = command(*words, base_url, status=2, environ=without).stderr
        hint = said.partition("hint: ")[2]
        assert hint.startswith("export LLAMA_CLOUD_API_KEY=sandbox for `classify-batch sandbox`")
        wrong = command(*words, base_url, status=77).stderr
        assert "hint: `classify-batch sandbox` takes the key `sandbox`" in wrong
        assert "0 jobs, 1 request\n" in wrong
        name, _, key = hint.split()[1].partition("=")
        command(*words, base_url, status=0, environ={name: key})
    said = command(*words, "https://api.example", status=2, environ=without).stderr
    assert "sandbox" not in said.replace(str(tmp_path), "")


@pytest.mark.parametrize("there", [True, False])
def test_a_person_is_warned_that_pdfs_are_not_read(there: bool) -> None:
    """On a terminal, before the first of them is unmatched; and what to install."""
    hide = "" if there else "sys.modules['pypdf'] = None; "
    code = f"import runpy, sys; {hide}sys.argv[0] = 'x'; runpy.run_module('classify_batch', run_name='__main__')"
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", code, "sandbox"], stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while b"in another terminal" not in said:
            said += os.read(ours, 4096)
        process.kill()
    os.close(ours)
    assert (b"pip install 'classify-batch[pdf]'" in said) is not there


def test_options_reach_the_server(tmp_path: Path) -> None:
    """Key, documents, page size and faults given on the command line hold."""
    (tmp_path / "letter.txt").write_text("a letter")
    (tmp_path / "faults.toml").write_text("read_503 = 1.0\nretry_after_s = 3\n")
    with running("--api-key", "k", "--documents", str(tmp_path), "--list-page-size-max", "7") as (_, base_url):
        assert ask(base_url).status_code == 401
        headers = {"Authorization": "Bearer k"}
        assert [each["name"] for each in ask(base_url, "/api/v1/beta/files", headers=headers).json()["items"]] == [
            "faults.toml",
            "letter.txt",
        ]
        assert ask(base_url, f"{JOBS}?page_size=8", headers=headers).status_code == 422
    with running("--faults", str(tmp_path / "faults.toml"), "--fault", "read_503=0", "--fault", "rate_429=1") as (
        _,
        base_url,
    ):
        assert (ask(base_url).status_code, ask(base_url).headers["retry-after"]) == (429, "3")


def test_any_fault_can_be_set_by_option_or_file(tmp_path: Path) -> None:
    """CALL.MOMENT.WHAT holds on the command line and in the file, where the command line wins."""
    (tmp_path / "faults.toml").write_text('foreign = ["a"]\n[read.after]\n502 = 1\n404 = 1\n')
    with running("--faults", str(tmp_path / "faults.toml"), "--fault", "read.after.502=0") as (_, base_url):
        refused = httpx.post(base_url + JOBS, json=BODY, headers=HEADERS)
        assert (refused.status_code, refused.json()["detail"][:13]) == (400, "File ID a is ")
        assert ask(base_url).status_code == 404


def test_further_options_reach_the_server() -> None:
    """Further keys, the list's order, the date, and how jobs are shown."""
    options = ["--further-key", "k=p", "--further-key", "l=q", "--files-of-project", "ours-", "--list-order", "changed"]
    options += ["--upper-case-ids", "--silent-mode", "--silent-created-at", "--date-ahead-s", "7200"]
    with running(*options, "--fault", "create_slow=1", "--fault", "accept_after_s=0.01") as (_, base_url):
        made = httpx.post(base_url + JOBS, json=BODY, headers={"Authorization": "Bearer k"})
        assert made.json()["project_id"] == "p"
        assert not {"mode", "created_at"} & set(made.json())
        ours = BODY | {"file_ids": ["ours-1"]}
        assert httpx.post(base_url + JOBS, json=ours, headers={"Authorization": "Bearer l"}).status_code == 400
        assert httpx.post(base_url + JOBS, json=ours, headers=HEADERS).status_code == 200
        told = {"file_input": UUID_OF_A_FILE, "configuration": {"rules": BODY["rules"]}}
        shown = httpx.post(base_url + V2_JOBS, json=told, headers=HEADERS).json()["file_input"]
        assert shown == UUID_OF_A_FILE.upper()
        ahead_s = parsedate_to_datetime(made.headers["date"]).timestamp() - time.time()
        assert 7000 < ahead_s < 7300


def test_a_signal_ends_the_sandbox_while_requests_hang() -> None:
    """SIGTERM ends a sandbox at once in which one request hangs and another is slow, silently."""
    faults = ("--fault", "list.before.hang=1", "--fault", "create.after.slow=1", "--fault", "slow_s=60")
    with running(*faults) as (process, base_url), ThreadPoolExecutor(2) as pool:
        hanging = pool.submit(ask, base_url, timeout=PATIENCE_S)
        slow = pool.submit(httpx.post, base_url + JOBS, json=BODY, headers=HEADERS, timeout=PATIENCE_S)
        stats: dict[str, Any] = {}
        while stats.get("requests") != {"list": {"no answer": 1}} or stats["creates_accepted"] < 1:
            assert process.poll() is None
            stats = ask(base_url, "/sandbox/stats").json()
        timer = LeaveTimer(process)
        process.send_signal(signal.SIGTERM)
        assert timer.wait_s() < 2.5
        assert process.communicate() == ("", "")
        assert isinstance(hanging.exception(), httpx.RemoteProtocolError)
        assert slow.result().status_code == 200


def test_accepted_jobs_survive_sigkill(tmp_path: Path) -> None:
    """A job whose create was answered is still there after SIGKILL, and the ledger says what was billed."""
    ledger = tmp_path / "jobs.jsonl"
    options = ("--ledger", str(ledger), "--job-duration-s", "0")
    with running(*options) as (process, base_url):
        job = httpx.post(base_url + JOBS, json=BODY, headers=HEADERS).json()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with running(*options) as (_, base_url):
        assert ask(base_url, f"{JOBS}/{job['id']}").json()["status"] == "SUCCESS"
        assert len(ask(base_url, f"{JOBS}/{job['id']}/results").json()["items"]) == 2
    assert read_billed(ledger) == {"a": 1, "b": 1}


def test_v2_is_served_beside_v1(tmp_path: Path) -> None:
    """Creates beyond `--creates-per-s` are 429; a job that was cancelled is so after SIGKILL, and is not paid."""
    ledger = tmp_path / "jobs.jsonl"
    options = ("--ledger", str(ledger), "--job-duration-s", "60", "--creates-per-s", "1")
    told = {"file_input": "a", "configuration": {"rules": BODY["rules"]}, "transaction_id": "t"}
    with running(*options) as (process, base_url):
        with httpx.Client(headers=HEADERS) as client:  # one connection, so that two creates come within a second
            answers = [client.post(base_url + V2_JOBS, json=told) for _ in range(20)]
        path = f"{V2_JOBS}/{answers[0].json()['id']}"
        cancelled = httpx.post(f"{base_url}{path}/cancel", headers=HEADERS).json()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert 429 in [answer.status_code for answer in answers]
    with running(*options) as (_, base_url):
        assert ask(base_url, path).json() == cancelled
        assert httpx.post(base_url + V2_JOBS, json=told, headers=HEADERS).json() == cancelled
        assert ask(base_url).json()["items"] == []
    assert cancelled["status"] == "CANCELLED"
    assert read_billed(ledger) == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--documents", "/nowhere"], "/nowhere can't be read"),
        (["--fault", "thunder=1"], "thunder: there is no such fault"),
        (["--fault", "read_504=1"], "read_504: there is no such fault; did you mean 'read_503'?"),
        (["--fault", "error"], "NAME=VALUE"),
        (["--fault", "create.after.302=1"], "create.after.302: what happens is a status from 400 to 599"),
        (["--faults", "/nowhere.toml"], "/nowhere.toml can't be read"),
        (["--list-page-size-max", "0"], "list_page_size_max"),
        (["--creates-per-s", "0"], "creates_per_s"),
        (["--further-key", "k"], "KEY=PROJECT"),
        (["--further-key", "sandbox=p"], "further_keys"),
    ],
)
def test_wrong_options_exit_2_with_a_hint(options: list[str], words: str) -> None:
    """What can't be served gets one message with a hint, and nothing is printed on stdout."""
    done = run_process([*COMMAND, *options])
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_exits_2() -> None:
    """A port that another process holds is named, with a hint."""
    with running() as (_, base_url):
        port = base_url.rpartition(":")[2]
        done = run_process([*COMMAND, "--port", port])
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port} of 127.0.0.1 can't be had" in done.stderr
    assert "hint:" in done.stderr


def test_help_shows_an_example() -> None:
    """`--help` names the options and shows a command that can be copied."""
    done = run_process([*COMMAND, "--help"])
    assert done.returncode == 0, done.stderr
    assert "--results-page-size" in done.stdout
    assert "classify-batch sandbox --port 8765" in done.stdout


@pytest.mark.parametrize("option", ["--documents", "--ledger", "--faults"])
def test_an_empty_path_is_refused(option: str) -> None:
    """An unset variable of a script doesn't make the working directory the documents."""
    done = run_process([*COMMAND, option, ""])
    assert (done.returncode, done.stdout) == (2, "")
    assert "it is empty (is a variable not set?)" in done.stderr
