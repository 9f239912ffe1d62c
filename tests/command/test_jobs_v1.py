"""`classify-batch jobs` on v1: what this version alone has, and that no create is ever sent again on a guess."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.api_reference import ITEM_FIELDS, JOB_FIELDS, MODES, RULE
from tests.support.command_line import KEY, PATIENCE_S, asked, calling, environment, mirror, sandbox
from tests.support.independent_server import KEY as INDEPENDENT_KEY
from tests.support.jobs_command import JobsCommand
from tests.support.real_run import INDEPENDENT_SERVER
from tests.support.start_command import COMMAND, CommandProcess

FILES = [f"file-{number}" for number in range(10)]


@pytest.fixture(scope="module")
def kind() -> Iterator[str]:
    """The base URL of a sandbox without faults; a page of results holds two."""
    with sandbox("--results-page-size", "2") as base_url:
        yield base_url


@pytest.fixture
def jobs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> JobsCommand:
    return JobsCommand(calling(capsys, monkeypatch, tmp_path, "jobs"), "v1")


# --- Every verb and field ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_every_parameter_of_a_create_is_sent_and_shown(jobs: JobsCommand, kind: str, mode: str) -> None:
    """`create` sends each parameter by its name and prints all that the API tells; `get` and `list` show the same."""
    options = ("--mode", mode, "--lang", "ch_tra", "--max-pages", "7", "--target-page", "0", "--target-page", "3")
    job = jobs.create(kind, *options, "--rule", "letter=begins with a salutation = ends with a name")
    assert set(job) == JOB_FIELDS
    assert job["mode"] == mode
    assert job["status"] == "PENDING"
    assert job["parsing_configuration"] == {"lang": "ch_tra", "max_pages": 7, "target_pages": [0, 3]}
    assert job["rules"] == [
        {"type": "invoice", "description": "has an invoice number and a total"},
        {"type": "letter", "description": "begins with a salutation = ends with a name"},
    ]
    shown = jobs.life(kind, job["id"])[-1]
    assert set(shown) == JOB_FIELDS
    assert shown["status"] == "SUCCESS"
    page = jobs(kind, "list").body
    assert set(page) == {"items", "next_page_token", "total_size"}
    assert shown in page["items"]


def test_parameters_that_are_not_given_are_not_sent(jobs: JobsCommand, kind: str) -> None:
    """Without options no parsing configuration is sent, and the mode is FAST."""
    job = jobs.create(kind)
    assert (job["mode"], job["parsing_configuration"]) == ("FAST", None)


def test_get_results_prints_all_pages_or_the_one_asked_for(jobs: JobsCommand, kind: str) -> None:
    """`get-results` prints all pages as one; with `--page-token` that page, as the API sent it."""
    job = jobs.finish(kind, file_ids=FILES[:5])
    with urllib.request.urlopen(
        urllib.request.Request(
            f"{kind}/api/v1/classifier/jobs/{job['id']}/results", headers={"Authorization": f"Bearer {KEY}"}
        )
    ) as response:
        first = json.load(response)
    whole = jobs(kind, "get-results", job["id"]).body
    assert [item["file_id"] for item in whole["items"]] == [f"file-{number}" for number in range(5)]
    assert (whole["next_page_token"], whole["total_size"]) == (None, 5)
    assert whole["items"][:2] == first["items"]
    assert set(whole["items"][0]) == ITEM_FIELDS
    assert set(whole["items"][0]["result"]) == {"type", "confidence", "reasoning"}
    second = jobs(kind, "get-results", job["id"], "--page-token", first["next_page_token"]).body
    assert second["items"] == whole["items"][2:4]
    assert second["next_page_token"]


@pytest.mark.parametrize(("habit", "status"), [("honoured", 0), ("ignored", 1), ("refused", 1)])
def test_results_whose_page_token_is_refused_are_printed_with_a_warning(
    jobs: JobsCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, habit: str, status: int
) -> None:
    """A server that won't take its page tokens back ends no call in silence, or never: what came is printed."""
    command = [*INDEPENDENT_SERVER, "--ledger", str(tmp_path / "l"), "--results-page", "2"]
    command += ["--results-tokens", habit, "--duration-s", "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            base_url = process.stdout.readline().strip()
            monkeypatch.setenv("LLAMA_CLOUD_API_KEY", INDEPENDENT_KEY)
            job = jobs.finish(base_url, file_ids=FILES[:5])
            done = jobs(base_url, "get-results", job["id"])
        finally:
            process.kill()
    assert done.status == status, done.err
    assert len(done.body["items"]) == (2 if status else 5)
    assert ("warning: there may be more" in done.err) == bool(status)


def test_project_and_organization_go_with_every_call(jobs: JobsCommand) -> None:
    """`--organization-id` and `--project-id` go with every call, and odd ids stay within their path."""
    whose = ("--organization-id", "o 1", "--project-id", "p&1")
    with mirror() as server:
        assert jobs(server.base_url, "create", "--rule", RULE, "--file-id", "a", *whose).status == 0
        assert jobs(server.base_url, "get", "../j", *whose).status == 0
        assert jobs(server.base_url, "list", "--page-size", "7", "--page-token", "t", *whose).body == {"items": []}
    assert [parse_qs(urlsplit(path).query) for path in server.paths] == [
        {"project_id": ["p&1"], "organization_id": ["o 1"]},
        {"project_id": ["p&1"], "organization_id": ["o 1"]},
        {"project_id": ["p&1"], "organization_id": ["o 1"], "page_size": ["7"], "page_token": ["t"]},
    ]
    assert urlsplit(server.paths[1]).path == "/api/v1/classifier/jobs/%2E%2E%2Fj"


def test_undocumented_fields_are_printed_as_valid_json(jobs: JobsCommand) -> None:
    """Fields that nobody documented are shown; what is no JSON (NaN, 1e999) or no text becomes what is."""
    with mirror(new={"a": [1.5]}, strange=float("nan"), huge=float("inf"), lone="\ud800") as server:
        job = jobs(server.base_url, "get", "j").body
    assert (job["new"], job["strange"], job["huge"], job["lone"]) == ({"a": [1.5]}, None, None, "\ud800")


# --- Every status -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status"),
    [("error", "ERROR"), ("cancelled", "CANCELLED"), ("partial", "PARTIAL_SUCCESS"), (None, "SUCCESS")],
)
def test_get_shows_a_job_however_it_ended(jobs: JobsCommand, fault: str | None, status: str) -> None:
    """`get` exits with 0 whatever became of the job, and `get-results` prints what the API has for it."""
    with sandbox(*(("--fault", f"{fault}=1") if fault else ())) as base_url:
        job = jobs.finish(base_url, file_ids=FILES[:10])
        results = jobs(base_url, "get-results", job["id"])
    assert job["status"] == status
    assert results.status == 0
    answered = [item for item in results.body["items"] if item["result"] is not None]
    assert len(answered) == {"SUCCESS": 10, "PARTIAL_SUCCESS": 9}.get(status, 0)


@pytest.mark.parametrize(("fault", "word"), [("stuck", "PENDING"), ("unknown_status", "")])
def test_results_of_an_unfinished_job_exit_with_75(jobs: JobsCommand, fault: str, word: str) -> None:
    """They are for later: 75, with the status that the job has, also one that nobody has heard of."""
    with sandbox("--fault", f"{fault}=1", "--job-duration-s", "60") as base_url:
        job = jobs.create(base_url)
        status = jobs(base_url, "get", job["id"]).body["status"]
        done = jobs(base_url, "get-results", job["id"])
    assert status == (word or status)
    assert done.status == 75
    assert f"not finished; the job is {status}" in done.err
    assert f"hint: `classify-batch jobs get --base-url {base_url} {job['id']}` shows" in done.err


# --- What comes from where --------------------------------------------------------------------------------------------


def test_options_override_the_config(jobs: JobsCommand, kind: str, tmp_path: Path) -> None:
    """A config's [api] and [job] are taken as in a run; each option wins over its part."""
    (tmp_path / "c.toml").write_text(
        f'[api]\nbase_url = "{kind}"\nproject_id = "p1"\n[job]\nmode = "MULTIMODAL"\n'
        'rules = [{ type = "a", description = "from the config" }]\n'
        'parsing_configuration = { lang = "de", max_pages = 3 }\n'
    )
    job = jobs(None, "create", "--config", "c.toml", "--file-id", "a").body
    assert (job["project_id"], job["mode"]) == ("p1", "MULTIMODAL")
    assert job["rules"] == [{"type": "a", "description": "from the config"}]
    assert job["parsing_configuration"] == {"lang": "de", "max_pages": 3}
    told = ("--project-id", "p2", "--mode", "FAST", "--rule", RULE, "--lang", "en")
    job = jobs(None, "create", "--config", "c.toml", "--file-id", "a", *told).body
    assert (job["project_id"], job["mode"]) == ("p2", "FAST")
    assert [rule["type"] for rule in job["rules"]] == ["invoice"]
    assert job["parsing_configuration"] == {"lang": "en", "max_pages": 3}
    assert [each["id"] for each in jobs(None, "list", "--config", "c.toml", "--project-id", "p2").body["items"]] == [
        job["id"]
    ]


def test_files_of_an_input_are_sent_once_each(jobs: JobsCommand, kind: str, tmp_path: Path) -> None:
    """`--input` takes what a run takes; an ID that comes twice is sent once, and 500 fit into a job."""
    (tmp_path / "ids.csv").write_text("id\n" + "".join(f"f{number}\n" for number in range(499)))
    before = asked(kind)["files_accepted"]
    done = jobs(
        kind, "create", "--rule", RULE, "--file-id", "f0", "--file-id", "g", "--input", "ids.csv", "--column", "id"
    )
    assert done.status == 0, done.err
    assert asked(kind)["files_accepted"] - before == 500
    done = jobs(
        kind, "create", "--rule", RULE, "--file-id", "g", "--file-id", "h", "--input", "ids.csv", "--column", "id"
    )
    assert (done.status, "a job holds at most 500 files" in done.err) == (2, True)
    assert asked(kind)["files_accepted"] - before == 500


def test_all_files_of_the_project_are_an_input(jobs: JobsCommand) -> None:
    """`project:` reads the file list first."""
    with sandbox("--files", "7") as base_url:
        assert jobs(base_url, "create", "--rule", RULE, "--input", "project:").status == 0
        assert asked(base_url)["files_accepted"] == 7


def test_a_file_of_another_project_is_named(jobs: JobsCommand) -> None:
    """The API's refusal names it."""
    with sandbox("--fault", "foreign=b") as base_url:
        done = jobs(base_url, "create", "--rule", RULE, "--file-id", "a", "--file-id", "b")
    assert (done.status, "File ID b is not in Project ID" in done.err) == (77, True)


# --- Never paid twice -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    ["close", "reset", "cut", "reset_midway", "408", "409", "500", "502", "503", "html", "garbage", "other_shape"],
)
def test_a_create_whose_answer_was_lost_is_reported_and_never_repeated(jobs: JobsCommand, what: str) -> None:
    """One request left, one job is there, and the message says how to look for it, with 77."""
    with sandbox("--fault", f"create.after.{what}=1") as base_url:
        done = jobs(base_url, "create", "--rule", RULE, "--file-id", "a")
        assert sum(asked(base_url)["requests"]["create"].values()) == 1
        assert len(jobs(base_url, "list").body["items"]) == 1
    assert done.status == 77
    assert "the job may have been accepted, and the call is not repeated" in done.err
    assert f"hint: `classify-batch jobs list --base-url {base_url}` shows whether it is there" in done.err
    assert done.out == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "--rule", RULE, "--file-id", "a"), "may have been accepted"),
        (("get", "j"), "the same command begins again"),
    ],
)
def test_a_signal_ends_a_call_and_says_whether_a_job_may_exist(
    number: signal.Signals, arguments: tuple[str, ...], words: str
) -> None:
    """A call gives up at once, with 75; of a create it says that a job may exist."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = CommandProcess(
            [*COMMAND, "jobs", *arguments, "--base-url", base_url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        with process, listener.accept()[0] as connection:
            assert connection.recv(10)
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (75, "")
    assert f"interrupted by {number.name}" in err
    assert words in err


# --- Help and a terminal ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [("get",), ("get", ""), ("get", "a b"), ("get-results", ""), ("list", "--page-size", "0"), (), ("x",)]
)
def test_wrong_usage_exits_with_2_and_points_at_the_help(
    jobs: JobsCommand, kind: str, arguments: tuple[str, ...]
) -> None:
    """It exits with 2 and points at the help."""
    done = jobs(kind if arguments and arguments != ("x",) else None, *arguments)
    assert done.status == 2
    assert "--help" in done.err


def test_a_terminal_shows_tables_of_80_columns(jobs: JobsCommand) -> None:
    """Each verb shows a table of 80 columns in which no id and no status is cut, and JSON with `--json`."""
    with sandbox("--fault", "partial=1") as base_url:
        job = jobs.finish(base_url, "--mode", "MULTIMODAL", "--lang", "de", file_ids=FILES[:10])
        listed = jobs.on_a_terminal(base_url, "list")
        shown = jobs.on_a_terminal(base_url, "get", job["id"])
        results = jobs.on_a_terminal(base_url, "get-results", job["id"])
        made = jobs.on_a_terminal(base_url, "create", "--rule", RULE, "--file-id", "a")
        as_json = jobs.on_a_terminal(base_url, "get", job["id"], "--json", width=1_000)
    assert json.loads(as_json) == job
    minute = job["created_at"][:16].replace("T", " ")
    assert f"{job['id']} PARTIAL_SUCCESS MULTIMODAL {minute}" in listed
    for words in ("invoice: has an invoice number and a total", "lang = de", job["id"], "PARTIAL_SUCCESS"):
        assert words in shown
    assert "file-1" in results
    assert "Drawn by lot" in results
    assert "PENDING" in made


def test_every_subcommand_has_help_with_an_example(jobs: JobsCommand) -> None:
    """With an example."""
    for verb in ((), ("create",), ("list",), ("get",), ("get-results",)):
        done = jobs(None, *verb, "--help")
        assert (done.status, done.err, "Example" in done.out) == (0, "", True)
