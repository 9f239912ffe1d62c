"""`classify-batch jobs`: every verb, field, mode, status and language of the API's reference, through the command."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.api_reference import ITEM_FIELDS, JOB_FIELDS, LANGUAGES, MODES, RULE
from tests.support.command_line import (
    COMMAND,
    HEADER,
    KEY,
    PATIENCE_S,
    WIDTH,
    Call,
    asked,
    calling,
    environment,
    mirror,
    on_a_terminal,
    sandbox,
)

STRANGER = Path(__file__).parents[1] / "support" / "independent_server.py"


@pytest.fixture(scope="module")
def kind() -> Iterator[str]:
    """The base URL of a sandbox without faults; a page of results holds two."""
    with sandbox("--results-page-size", "2") as base_url:
        yield base_url


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """`classify-batch jobs`, in this process."""
    return calling(capsys, monkeypatch, tmp_path, "jobs")


def created(call: Call, base_url: str, *options: str, files: int = 3) -> dict[str, Any]:
    """A job that was created, as the command shows it."""
    named = [word for number in range(files) for word in ("--file-id", f"file-{number}")]
    done = call(base_url, "create", *named, "--rule", RULE, *options)
    assert done.status == 0, done.err
    body: dict[str, Any] = done.body
    return body


def finished(call: Call, base_url: str, job_id: str) -> dict[str, Any]:
    """A job, once it is."""
    end_s = time.monotonic() + PATIENCE_S
    while (job := call(base_url, "get", job_id).body)["status"] == "PENDING":
        assert time.monotonic() < end_s, "it never finished"
    body: dict[str, Any] = job
    return body


# --- The four verbs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_every_parameter_of_a_create_is_sent_and_shown(call: Call, kind: str, mode: str) -> None:
    """`create` sends each parameter by its name and prints all that the API tells; `get` and `list` show the same."""
    options = ("--mode", mode, "--lang", "ch_tra", "--max-pages", "7", "--target-page", "0", "--target-page", "3")
    job = created(call, kind, *options, "--rule", "letter=begins with a salutation = ends with a name")
    assert set(job) == JOB_FIELDS
    assert job["mode"] == mode
    assert job["status"] == "PENDING"
    assert job["parsing_configuration"] == {"lang": "ch_tra", "max_pages": 7, "target_pages": [0, 3]}
    assert job["rules"] == [
        {"type": "invoice", "description": "has an invoice number and a total"},
        {"type": "letter", "description": "begins with a salutation = ends with a name"},
    ]
    shown = finished(call, kind, job["id"])
    assert set(shown) == JOB_FIELDS
    assert shown["status"] == "SUCCESS"
    page = call(kind, "list").body
    assert set(page) == {"items", "next_page_token", "total_size"}
    assert shown in page["items"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_code_reaches_the_api(call: Call, kind: str, language: str) -> None:
    """Each of the 86 codes of the reference reaches the API as it was given."""
    assert len(set(LANGUAGES)) == 86
    assert created(call, kind, "--lang", language, files=1)["parsing_configuration"] == {"lang": language}


def test_parameters_that_are_not_given_are_not_sent(call: Call, kind: str) -> None:
    """Without options no parsing configuration is sent, and the mode is FAST."""
    job = created(call, kind)
    assert (job["mode"], job["parsing_configuration"]) == ("FAST", None)


def test_page_options_lead_through_all_jobs(call: Call) -> None:
    """`--page-size` and `--page-token` lead through all jobs, each once."""
    with sandbox() as base_url:
        job_ids = {created(call, base_url, files=1)["id"] for _ in range(5)}
        page = call(base_url, "list", "--page-size", "2").body
        pages = [page]
        while token := page["next_page_token"]:
            page = call(base_url, "list", "--page-size", "2", "--page-token", token).body
            pages.append(page)
    assert [len(page["items"]) for page in pages] == [2, 2, 1]
    assert [page["total_size"] for page in pages] == [5, 5, 5]
    assert {job["id"] for page in pages for job in page["items"]} == job_ids


def test_get_results_prints_all_pages_or_the_one_asked_for(call: Call, kind: str) -> None:
    """`get-results` prints all pages as one; with `--page-token` that page, as the API told it."""
    job = finished(call, kind, created(call, kind, files=5)["id"])
    with urllib.request.urlopen(
        urllib.request.Request(
            f"{kind}/api/v1/classifier/jobs/{job['id']}/results", headers={"Authorization": f"Bearer {KEY}"}
        )
    ) as response:
        first = json.load(response)
    whole = call(kind, "get-results", job["id"]).body
    assert [item["file_id"] for item in whole["items"]] == [f"file-{number}" for number in range(5)]
    assert (whole["next_page_token"], whole["total_size"]) == (None, 5)
    assert whole["items"][:2] == first["items"]
    assert set(whole["items"][0]) == ITEM_FIELDS
    assert set(whole["items"][0]["result"]) == {"type", "confidence", "reasoning"}
    second = call(kind, "get-results", job["id"], "--page-token", first["next_page_token"]).body
    assert second["items"] == whole["items"][2:4]
    assert second["next_page_token"]


@pytest.mark.parametrize(("habit", "status"), [("honoured", 0), ("ignored", 1), ("refused", 1)])
def test_results_whose_page_token_is_refused_are_printed_with_a_warning(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, habit: str, status: int
) -> None:
    """A server that won't take its page tokens back ends no call in silence, or never: what came is printed."""
    command = [sys.executable, str(STRANGER), "--ledger", str(tmp_path / "l"), "--results-page", "2"]
    command += ["--results-tokens", habit, "--duration-s", "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            base_url = process.stdout.readline().strip()
            monkeypatch.setenv("LLAMA_CLOUD_API_KEY", "llx-stranger")
            job = finished(call, base_url, created(call, base_url, files=5)["id"])
            done = call(base_url, "get-results", job["id"])
        finally:
            process.kill()
    assert done.status == status, done.err
    assert len(done.body["items"]) == (2 if status else 5)
    assert ("warning: there may be more" in done.err) == bool(status)


# --- Every status ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status"),
    [("error", "ERROR"), ("cancelled", "CANCELLED"), ("partial", "PARTIAL_SUCCESS"), (None, "SUCCESS")],
)
def test_get_shows_a_job_however_it_ended(call: Call, fault: str | None, status: str) -> None:
    """`get` exits with 0 whatever became of the job, and `get-results` prints what the API has for it."""
    with sandbox(*(("--fault", f"{fault}=1") if fault else ())) as base_url:
        job = finished(call, base_url, created(call, base_url, files=10)["id"])
        results = call(base_url, "get-results", job["id"])
    assert job["status"] == status
    assert results.status == 0
    answered = [item for item in results.body["items"] if item["result"] is not None]
    assert len(answered) == {"SUCCESS": 10, "PARTIAL_SUCCESS": 9}.get(status, 0)


@pytest.mark.parametrize(("fault", "word"), [("stuck", "PENDING"), ("unknown_status", "")])
def test_results_of_an_unfinished_job_exit_with_75(call: Call, fault: str, word: str) -> None:
    """They are for later: 75, with the status that the job has, also one that nobody has heard of."""
    with sandbox("--fault", f"{fault}=1", "--job-duration-s", "60") as base_url:
        job = created(call, base_url)
        status = call(base_url, "get", job["id"]).body["status"]
        done = call(base_url, "get-results", job["id"])
    assert status == (word or status)
    assert done.status == 75
    assert f"not finished; the job is {status}" in done.err
    assert f"hint: `classify-batch jobs get --base-url {base_url} {job['id']}` shows" in done.err


# --- What is refused here -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "no file was given"),
        (("--file-id", ""), "an empty file ID"),
        (("--file-id", "a b"), "'a b' has a space in it"),
        (("--file-id", "a", "--rule", "nothing"), "Invalid value for --rule: 'nothing' is not TYPE=DESCRIPTION"),
        (("--file-id", "a", "--rule", "x=short"), "job.rules.1.description: String should have at least 10"),
        (("--file-id", "a", "--rule", f"x={'y' * 501}"), "job.rules.1.description: String should have at most 500"),
        (("--file-id", "a", "--rule", f"{'x' * 51}=0123456789"), "job.rules.1.type: String should have at most 50"),
        (("--file-id", "a", "--rule", "x/y=0123456789"), "job.rules.1.type: String should match pattern"),
        (("--file-id", "a", "--rule", RULE), "job.rules: rule types must be unique; given more than once: invoice"),
        (("--file-id", "a", "--mode", "fast"), "job.mode: Input should be 'FAST' or 'MULTIMODAL'"),
        (("--file-id", "a", "--lang", "klingon"), "job.parsing_configuration.lang: Input should be 'af', 'az'"),
        (("--file-id", "a", "--max-pages", "0"), "job.parsing_configuration.max_pages: Input should be greater"),
        (("--file-id", "a", "--max-pages", "many"), "Invalid value for '--max-pages'"),
        (("--file-id", "a", "--target-page", "-1"), "job.parsing_configuration.target_pages.0: Input should be"),
        (("--file-id", "a", "--webhook-url", "http://x"), "webhook_url must begin with https://"),
        (("--file-id", "a", "--webhook-event", "parse.success"), "webhook_configurations.0.webhook_url: missing"),
        (("--file-id", "a", "--webhook-header", HEADER), "Invalid value for --webhook-header: a value is not NAME="),
        (("--file-id", "a", "--webhook-header", "Authorization=Bearer", "s3cr3t-header"), "too many words"),
        (("--file-id", "a", "--input", "gone.txt"), "gone.txt"),
        (
            (
                "--file-id",
                "a",
                "--nope",
            ),
            "No such option",
        ),
        (("--file-id", "a", "--config", "gone.toml"), "gone.toml"),
    ],
)
def test_documented_limits_are_checked_before_anything_is_sent(
    call: Call, kind: str, options: tuple[str, ...], words: str
) -> None:
    """The documented limits are checked before anything is sent, in the words that a run has for them, with 2."""
    before = asked(kind)["requests"].get("create")
    done = call(kind, "create", "--rule", RULE, *options)
    assert done.status == 2
    assert done.out == ""
    assert words in done.err
    assert done.err.startswith("error: ")
    assert "\nhint: " in done.err
    assert asked(kind)["requests"].get("create") == before


def test_only_a_create_needs_rules(call: Call, kind: str) -> None:
    """A create without rules is refused, a look is not."""
    done = call(kind, "create", "--file-id", "a")
    assert (done.status, "job.rules: missing" in done.err) == (2, True)
    assert call(kind, "list").status == 0


@pytest.mark.parametrize(
    "arguments", [("get",), ("get", ""), ("get", "a b"), ("get-results", ""), ("list", "--page-size", "0"), (), ("x",)]
)
def test_wrong_usage_exits_with_2_and_points_at_the_help(call: Call, kind: str, arguments: tuple[str, ...]) -> None:
    """It exits with 2 and points at the help."""
    done = call(kind if arguments and arguments != ("x",) else None, *arguments)
    assert done.status == 2
    assert "--help" in done.err


def test_nothing_is_called_without_a_key(call: Call, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing is called."""
    monkeypatch.delenv("LLAMA_CLOUD_API_KEY")
    done = call(kind, "list")
    assert (done.status, "no API key" in done.err) == (2, True)


def test_the_embedded_sandbox_is_refused(call: Call) -> None:
    """It lives as long as a run, and the hint says what to do."""
    done = call("sandbox", "list")
    assert done.status == 2
    assert "hint: start one with `classify-batch sandbox`" in done.err


def test_the_key_is_never_sent_over_plain_http(call: Call) -> None:
    """The key never goes over the wire in the clear."""
    assert "http:// would send the API key in the clear" in call("http://example.com", "list").err


# --- What comes from where ------------------------------------------------------------------------------------------


def test_options_override_the_config(call: Call, kind: str, tmp_path: Path) -> None:
    """A config's [api] and [job] are taken as in a run; each option wins over its part."""
    (tmp_path / "c.toml").write_text(
        f'[api]\nbase_url = "{kind}"\nproject_id = "p1"\n[job]\nmode = "MULTIMODAL"\n'
        'rules = [{ type = "a", description = "from the config" }]\n'
        'parsing_configuration = { lang = "de", max_pages = 3 }\n'
    )
    job = call(None, "create", "--config", "c.toml", "--file-id", "a").body
    assert (job["project_id"], job["mode"]) == ("p1", "MULTIMODAL")
    assert job["rules"] == [{"type": "a", "description": "from the config"}]
    assert job["parsing_configuration"] == {"lang": "de", "max_pages": 3}
    told = ("--project-id", "p2", "--mode", "FAST", "--rule", RULE, "--lang", "en")
    job = call(None, "create", "--config", "c.toml", "--file-id", "a", *told).body
    assert (job["project_id"], job["mode"]) == ("p2", "FAST")
    assert [rule["type"] for rule in job["rules"]] == ["invoice"]
    assert job["parsing_configuration"] == {"lang": "en", "max_pages": 3}
    assert [each["id"] for each in call(None, "list", "--config", "c.toml", "--project-id", "p2").body["items"]] == [
        job["id"]
    ]


def test_an_error_in_the_config_is_named_with_its_line(call: Call, kind: str, tmp_path: Path) -> None:
    """As in a run."""
    (tmp_path / "c.toml").write_text('[job]\nmode = "SLOW"\nrules = [{ type = "a", description = "0123456789" }]\n')
    done = call(kind, "create", "--config", "c.toml", "--file-id", "a")
    assert (done.status, "c.toml, line 2: job.mode" in done.err) == (2, True)


def test_files_of_an_input_are_sent_once_each(call: Call, kind: str, tmp_path: Path) -> None:
    """`--input` takes what a run takes; an ID that comes twice is sent once, and 500 fit into a job."""
    (tmp_path / "ids.csv").write_text("id\n" + "".join(f"f{number}\n" for number in range(499)))
    before = asked(kind)["files_accepted"]
    done = call(
        kind, "create", "--rule", RULE, "--file-id", "f0", "--file-id", "g", "--input", "ids.csv", "--column", "id"
    )
    assert done.status == 0, done.err
    assert asked(kind)["files_accepted"] - before == 500
    done = call(
        kind, "create", "--rule", RULE, "--file-id", "g", "--file-id", "h", "--input", "ids.csv", "--column", "id"
    )
    assert (done.status, "a job holds at most 500 files" in done.err) == (2, True)
    assert asked(kind)["files_accepted"] - before == 500


def test_all_files_of_the_project_are_an_input(call: Call) -> None:
    """`project:` reads the file list first."""
    with sandbox("--files", "7") as base_url:
        assert call(base_url, "create", "--rule", RULE, "--input", "project:").status == 0
        assert asked(base_url)["files_accepted"] == 7


# --- What the API says no to ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("create.before.400", 77, "create: HTTP 400"),
        ("create.before.401", 77, "check LLAMA_CLOUD_API_KEY"),
        ("create.before.402", 77, "buy credits"),
        ("create.before.403", 77, "check LLAMA_CLOUD_API_KEY"),
        ("create.before.404", 77, "create: HTTP 404"),
        ("create.before.413", 77, "create: HTTP 413"),
        ("create.before.422", 77, "create: HTTP 422"),
        ("create.before.plan_full", 75, "already reached the maximum number of"),
    ],
)
def test_a_refused_create_is_not_retried(call: Call, fault: str, status: int, words: str) -> None:
    """It is not tried again, the API's words are told, and nothing is said of a job that may be there."""
    with sandbox("--fault", f"{fault}=1") as base_url:
        done = call(base_url, "create", "--rule", RULE, "--file-id", "a")
        assert sum(asked(base_url)["requests"]["create"].values()) == 1
    assert done.status == status, done.err
    assert words in done.err
    assert "may have been accepted" not in done.err
    assert "\nhint: " in done.err
    assert done.out == ""


def test_a_file_of_another_project_is_named(call: Call) -> None:
    """The API's refusal names it."""
    with sandbox("--fault", "foreign=b") as base_url:
        done = call(base_url, "create", "--rule", RULE, "--file-id", "a", "--file-id", "b")
    assert (done.status, "File ID b is not in Project ID" in done.err) == (77, True)


def test_an_unknown_job_exits_with_77(call: Call, kind: str) -> None:
    """404 is for a person: a wrong id, project or key."""
    for verb in ("get", "get-results"):
        done = call(kind, verb, "nope")
        assert (done.status, "HTTP 404: Classify job not found" in done.err) == (77, True)
        assert "hint: check the id, and that --project-id and the key" in done.err


def test_a_page_that_the_api_refuses_exits_with_77(call: Call, kind: str) -> None:
    """A page size or a token that it won't take is for a person."""
    for options in (("--page-size", "100000"), ("--page-token", "nonsense")):
        done = call(kind, "list", *options)
        assert (done.status, "list: HTTP 422" in done.err) == (77, True)


@pytest.mark.parametrize("what", ["503", "reset", "html", "429"])
def test_a_failing_read_is_retried_and_exits_with_75(call: Call, what: str) -> None:
    """It is tried a few times, and then it is for later."""
    with sandbox("--fault", f"read.after.{what}=1", "--fault", "retry_after_s=0.01") as base_url:
        done = call(base_url, "list")
        assert sum(asked(base_url)["requests"]["list"].values()) == 5
    assert (done.status, done.out) == (75, "")


def test_a_refused_connection_exits_with_75(call: Call) -> None:
    """No connection: surely nothing was accepted, and it is for later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = call(f"http://127.0.0.1:{port}", "create", "--rule", RULE, "--file-id", "a")
    assert (done.status, "no connection was made" in done.err) == (75, True)
    assert "may have been accepted" not in done.err


# --- Never paid twice -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    ["close", "reset", "cut", "reset_midway", "408", "409", "500", "502", "503", "html", "garbage", "other_shape"],
)
def test_a_create_whose_answer_was_lost_is_reported_and_never_repeated(call: Call, what: str) -> None:
    """One request left, one job is there, and the message says how to look for it, with 77."""
    with sandbox("--fault", f"create.after.{what}=1") as base_url:
        done = call(base_url, "create", "--rule", RULE, "--file-id", "a")
        assert sum(asked(base_url)["requests"]["create"].values()) == 1
        assert len(call(base_url, "list").body["items"]) == 1
    assert done.status == 77
    assert "the job may have been accepted, and the call is not repeated" in done.err
    assert f"hint: `classify-batch jobs list --base-url {base_url}` shows whether it is there" in done.err
    assert done.out == ""


def test_a_create_that_was_not_accepted_is_retried(call: Call) -> None:
    """429 for the rate is waited out: one job in the end."""
    with sandbox("--fault", "create.before.429=0.4", "--fault", "retry_after_s=0.01", "--seed", "1") as base_url:
        done = call(base_url, "create", "--rule", RULE, "--file-id", "a")
        stats = asked(base_url)
    assert done.status == 0
    assert stats["requests"]["create"].get("429", 0) >= 1
    assert stats["creates_accepted"] == 1


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
        process = subprocess.Popen(
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


# --- What is sent, and what is never shown --------------------------------------------------------------------------


WEBHOOK = (
    *(
        "--webhook-url",
        "https://hooks.example/x",
        "--webhook-event",
        "parse.success",
        "--webhook-event",
        "parse.failure",
    ),
    *("--webhook-header", f"Authorization={HEADER}", "--webhook-header", "X-Route=eu"),
)


def test_a_webhook_reaches_the_api_and_its_headers_are_never_shown(call: Call) -> None:
    """Also where the API repeats them: anywhere in its answer, or in its refusal."""
    with mirror() as server:
        done = call(server.base_url, "create", "--rule", RULE, "--file-id", "a", *WEBHOOK)
    [webhook] = server.bodies[0]["webhook_configurations"]
    assert webhook == {
        "webhook_url": "https://hooks.example/x",
        "webhook_events": ["parse.success", "parse.failure"],
        "webhook_headers": {"Authorization": HEADER, "X-Route": "eu"},
    }
    shown = done.body["webhook_configurations"][0]
    assert shown == {**webhook, "webhook_headers": {"Authorization": "**********", "X-Route": "**********"}}
    assert "**********" in done.body["echo"]
    with mirror(refuse=True) as server:
        done = call(server.base_url, "create", "--rule", RULE, "--file-id", "a", *WEBHOOK)
    assert done.status == 77
    assert done.err.count("**********") == 2


def test_project_and_organization_go_with_every_call(call: Call) -> None:
    """`--organization-id` and `--project-id` go with every call, and odd ids stay within their path."""
    whose = ("--organization-id", "o 1", "--project-id", "p&1")
    with mirror() as server:
        assert call(server.base_url, "create", "--rule", RULE, "--file-id", "a", *whose).status == 0
        assert call(server.base_url, "get", "../j", *whose).status == 0
        assert call(server.base_url, "list", "--page-size", "7", "--page-token", "t", *whose).body == {"items": []}
    assert [parse_qs(urlsplit(path).query) for path in server.paths] == [
        {"project_id": ["p&1"], "organization_id": ["o 1"]},
        {"project_id": ["p&1"], "organization_id": ["o 1"]},
        {"project_id": ["p&1"], "organization_id": ["o 1"], "page_size": ["7"], "page_token": ["t"]},
    ]
    assert urlsplit(server.paths[1]).path == "/api/v1/classifier/jobs/%2E%2E%2Fj"


def test_undocumented_fields_are_printed_as_valid_json(call: Call) -> None:
    """Fields that nobody documented are shown; what is no JSON (NaN, 1e999) or no text becomes what is."""
    with mirror(new={"a": [1.5]}, strange=float("nan"), huge=float("inf"), lone="\ud800") as server:
        job = call(server.base_url, "get", "j").body
    assert (job["new"], job["strange"], job["huge"], job["lone"]) == ({"a": [1.5]}, None, None, "\ud800")


def test_an_answer_about_another_job_is_refused(call: Call) -> None:
    """It is no answer."""
    with mirror(id="other") as server:
        done = call(server.base_url, "get", "j")
    assert (done.status, "another job's id" in done.err) == (75, True)


# --- On a terminal --------------------------------------------------------------------------------------------------


def shown_on_a_terminal(base_url: str, *arguments: str, width: int = WIDTH) -> str:
    text = on_a_terminal("jobs", *arguments, "--base-url", base_url, width=width)
    assert max(map(len, text.splitlines())) <= width, text
    return text


def test_a_terminal_shows_tables_of_80_columns(call: Call) -> None:
    """Each verb shows a table of 80 columns in which no id and no status is cut, and JSON with `--json`."""
    with sandbox("--fault", "partial=1") as base_url:
        job = finished(call, base_url, created(call, base_url, "--mode", "MULTIMODAL", "--lang", "de", files=10)["id"])
        listed = shown_on_a_terminal(base_url, "list")
        shown = shown_on_a_terminal(base_url, "get", job["id"])
        results = shown_on_a_terminal(base_url, "get-results", job["id"])
        made = shown_on_a_terminal(base_url, "create", "--rule", RULE, "--file-id", "a")
        as_json = shown_on_a_terminal(base_url, "get", job["id"], "--json", width=1_000)
    assert json.loads(as_json) == job
    minute = job["created_at"][:16].replace("T", " ")
    assert f"{job['id']} PARTIAL_SUCCESS MULTIMODAL {minute}" in listed
    for words in ("invoice: has an invoice number and a total", "lang = de", job["id"], "PARTIAL_SUCCESS"):
        assert words in shown
    assert "file-1" in results
    assert "Drawn by lot" in results
    assert "PENDING" in made


def test_control_characters_of_a_server_are_printed_as_text(call: Call) -> None:
    """Control characters and markup in what it says are words."""
    with mirror(error_message="\x1b[31mred\x07 [bold]x[/bold]", **{"na\x1bme": 1}) as server:
        shown = shown_on_a_terminal(server.base_url, "get", "j")
    assert "[31mred [bold]x[/bold]" in shown
    assert "\x1b[31m" not in shown
    assert "\x07" not in shown
    assert "na me" in shown


def test_every_subcommand_has_help_with_an_example(call: Call) -> None:
    """With an example."""
    for verb in ((), ("create",), ("list",), ("get",), ("get-results",)):
        done = call(None, *verb, "--help")
        assert (done.status, done.err, "Example" in done.out) == (0, "", True)
