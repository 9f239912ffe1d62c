"""`classify-batch jobs` on both versions of the API: what holds of either."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_reference import LANGUAGES, RULE
from tests.support.command_line import HEADER, asked, calling, mirror, sandbox
from tests.support.jobs_command import WEBHOOK, JobsCommand


@pytest.fixture(scope="module")
def kind() -> Iterator[str]:
    """The base URL of a sandbox without faults."""
    with sandbox() as base_url:
        yield base_url


@pytest.fixture(params=["v1", "v2"])
def jobs(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> JobsCommand:
    """The command on each version."""
    return JobsCommand(calling(capsys, monkeypatch, tmp_path, "jobs"), request.param)


def parsing_of(jobs: JobsCommand, job: dict[str, object]) -> object:
    """The parsing configuration of a job as the API shows it."""
    configuration = job if jobs.version == "v1" else job["configuration"]
    assert isinstance(configuration, dict)
    return configuration["parsing_configuration"]


# --- What is sent and shown -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_code_reaches_the_api(jobs: JobsCommand, kind: str, language: str) -> None:
    """Each of the 86 codes of the reference reaches the API as it was given."""
    assert len(set(LANGUAGES)) == 86
    sent = {"lang": language} if jobs.version == "v1" else {"lang": language, "max_pages": 5, "target_pages": None}
    assert parsing_of(jobs, jobs.create(kind, "--lang", language)) == sent


def test_page_options_lead_through_all_jobs(jobs: JobsCommand) -> None:
    """`--page-size` and `--page-token` lead through all jobs, each once."""
    with sandbox() as base_url:
        job_ids = {jobs.create(base_url)["id"] for _ in range(5)}
        pages = [jobs(base_url, "list", "--page-size", "2").body]
        while token := pages[-1]["next_page_token"]:
            pages.append(jobs(base_url, "list", "--page-size", "2", "--page-token", token).body)
    assert [len(page["items"]) for page in pages] == [2, 2, 1]
    assert [page["total_size"] for page in pages] == [5, 5, 5]
    assert {job["id"] for page in pages for job in page["items"]} == job_ids


def test_a_webhook_reaches_the_api_and_its_headers_are_never_shown(jobs: JobsCommand) -> None:
    """Also where the API repeats them: anywhere in its answer, or in its refusal of one file or of several."""
    with mirror() as server:
        done = jobs(server.base_url, "create", "--rule", RULE, "--file-id", "a", *WEBHOOK)
    [webhook] = server.bodies[0]["webhook_configurations"]
    assert webhook == {
        "webhook_url": "https://hooks.example/x",
        "webhook_events": ["parse.success", "parse.failure"],
        "webhook_headers": {"Authorization": HEADER, "X-Route": "eu"},
    }
    shown = done.body["webhook_configurations"][0]
    assert shown == {**webhook, "webhook_headers": {"Authorization": "**********", "X-Route": "**********"}}
    assert "**********" in done.body["echo"]
    for several in ((), ("--file-id", "b")):
        with mirror(refuse=True) as server:
            done = jobs(server.base_url, "create", "--rule", RULE, "--file-id", "a", *several, *WEBHOOK)
        assert done.status == 77
        assert done.err.count("**********") == 2


def test_an_answer_about_another_job_is_refused(jobs: JobsCommand) -> None:
    """An answer that carries another job's ID is no answer."""
    verbs = ("get",) if jobs.version == "v1" else ("get", "get-results", "cancel")
    with mirror(id="other") as server:
        for verb in verbs:
            done = jobs(server.base_url, verb, "j")
            assert (done.status, "another job's id" in done.err) == (75, True)


def test_control_characters_of_a_server_are_printed_as_text(jobs: JobsCommand) -> None:
    """Control characters and markup in what it says are words."""
    with mirror(error_message="\x1b[31mred\x07 [bold]x[/bold]", **{"na\x1bme": 1}) as server:
        shown = jobs.on_a_terminal(server.base_url, "get", "j")
    assert "[31mred [bold]x[/bold]" in shown
    assert "\x1b[31m" not in shown
    assert "\x07" not in shown
    assert "na me" in shown


# --- What is refused before anything is sent --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "no file was given"),
        (("--file-id", ""), "an empty file ID"),
        (("--file-id", "a b"), "'a b' has a space in it"),
        (("--file-id", "a", "--rule", "nothing"), "Invalid value for --rule: 'nothing' is not TYPE=DESCRIPTION"),
        (("--file-id", "a", "--rule", "x=short"), "job.rules.1.description: String should have at least 10"),
        (("--file-id", "a", "--rule", f"x={'y' * 2001}"), "job.rules.1.description: 2,001 characters, and the API"),
        (("--file-id", "a", "--rule", f"{'x' * 51}=0123456789"), "job.rules.1.type: String should have at most 50"),
        (("--file-id", "a", "--rule", "x/y=0123456789"), "job.rules.1.type: must have letters, digits, spaces, - and"),
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
        (("--file-id", "a", "--nope"), "No such option"),
        (("--file-id", "a", "--config", "gone.toml"), "gone.toml"),
    ],
)
def test_documented_limits_are_checked_before_anything_is_sent(
    jobs: JobsCommand, options: tuple[str, ...], words: str
) -> None:
    """The documented limits are checked before anything is sent, in the words that a run has for them, with 2."""
    with mirror() as server:
        done = jobs(server.base_url, "create", "--rule", RULE, *options)
        assert server.paths == []
    assert (done.status, done.out) == (2, "")
    assert words in done.err
    assert done.err.startswith("error: ")
    assert "\nhint: " in done.err


def test_only_a_create_needs_rules(jobs: JobsCommand, kind: str) -> None:
    """A create without rules is refused, a look is not."""
    done = jobs(kind, "create", "--file-id", "a")
    assert (done.status, "job.rules: missing" in done.err) == (2, True)
    assert jobs(kind, "list").status == 0


def test_nothing_is_called_without_a_key(jobs: JobsCommand, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing is called."""
    monkeypatch.delenv("LLAMA_CLOUD_API_KEY")
    done = jobs(kind, "list")
    assert (done.status, "no API key" in done.err) == (2, True)


def test_the_embedded_sandbox_is_refused(jobs: JobsCommand) -> None:
    """It lives as long as a run, and the hint says what to do."""
    done = jobs("sandbox", "list")
    assert done.status == 2
    assert "hint: start one with `classify-batch sandbox`" in done.err


def test_the_key_is_never_sent_over_plain_http(jobs: JobsCommand) -> None:
    """The key never goes over the wire in the clear."""
    assert "http:// would send the API key in the clear" in jobs("http://example.com", "list").err


def test_an_error_in_the_config_is_named_with_its_line(jobs: JobsCommand, kind: str, tmp_path: Path) -> None:
    """As in a run."""
    (tmp_path / "c.toml").write_text('[job]\nmode = "SLOW"\nrules = [{ type = "a", description = "0123456789" }]\n')
    done = jobs(kind, "create", "--config", "c.toml", "--file-id", "a")
    assert (done.status, "c.toml, line 2: job.mode" in done.err) == (2, True)


# --- What the API says no to ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("400", 77, "create: HTTP 400"),
        ("401", 77, "check LLAMA_CLOUD_API_KEY"),
        ("402", 77, "buy credits"),
        ("403", 77, "check LLAMA_CLOUD_API_KEY"),
        ("404", 77, "create: HTTP 404"),
        ("413", 77, "create: HTTP 413"),
        ("422", 77, "create: HTTP 422"),
        ("plan_full", 75, "already reached the maximum number of"),
    ],
)
def test_a_refused_create_is_not_retried(jobs: JobsCommand, fault: str, status: int, words: str) -> None:
    """It is not tried again, the API's words are shown, and nothing is said of a job that may be there."""
    with sandbox("--fault", f"create.before.{fault}=1") as base_url:
        done = jobs(base_url, "create", "--rule", RULE, "--file-id", "a")
        assert sum(asked(base_url)["requests"]["create"].values()) == 1
    assert (done.status, done.out) == (status, ""), done.err
    assert words in done.err
    assert "may have been accepted" not in done.err
    assert "\nhint: " in done.err


def test_an_unknown_job_exits_with_77(jobs: JobsCommand, kind: str) -> None:
    """404 is for a person: a wrong id, project or key."""
    for verb in ("get", "get-results"):
        done = jobs(kind, verb, "nope")
        assert (done.status, "HTTP 404: Classify job not found" in done.err) == (77, True)
        assert "hint: check the id, and that --project-id and the key" in done.err


def test_a_page_that_the_api_refuses_exits_with_77(jobs: JobsCommand, kind: str) -> None:
    """A page size or a token that it won't take is for a person."""
    for options in (("--page-size", "100000"), ("--page-token", "nonsense")):
        done = jobs(kind, "list", *options)
        assert (done.status, "list: HTTP 422" in done.err) == (77, True)


@pytest.mark.parametrize("what", ["503", "reset", "html", "429"])
def test_a_failing_read_is_retried_and_exits_with_75(jobs: JobsCommand, what: str) -> None:
    """It is tried a few times, and then it is for later."""
    with sandbox("--fault", f"read.after.{what}=1", "--fault", "retry_after_s=0.01") as base_url:
        done = jobs(base_url, "list")
        assert sum(asked(base_url)["requests"]["list"].values()) == 5
    assert (done.status, done.out) == (75, "")


def test_a_refused_connection_exits_with_75(jobs: JobsCommand) -> None:
    """No connection: surely nothing was accepted, and it is for later."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = jobs(f"http://127.0.0.1:{port}", "create", "--rule", RULE, "--file-id", "a")
    assert (done.status, "no connection was made" in done.err) == (75, True)
    assert "may have been accepted" not in done.err


def test_a_create_that_was_not_accepted_is_retried(jobs: JobsCommand) -> None:
    """429 for the rate is waited out: one job in the end."""
    with sandbox("--fault", "create.before.429=0.4", "--fault", "retry_after_s=0.01", "--seed", "1") as base_url:
        done = jobs(base_url, "create", "--rule", RULE, "--file-id", "a")
        stats = asked(base_url)
    assert done.status == 0
    assert stats["requests"]["create"].get("429", 0) >= 1
    assert stats["creates_accepted"] == 1
