"""`classify-batch jobs` on v2: what this version alone has, and that no job is ever paid twice."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import get_args
from urllib.parse import parse_qs, urlsplit
from uuid import NAMESPACE_URL, uuid5

import pytest

from classify_batch.cli.jobs.listing import STATUSES
from classify_batch.protocol.v2 import Status
from tests.support.api_reference import ITEM_FIELDS, JOB_FIELDS_V2, RULE, RULES, STATUSES_V2
from tests.support.command_line import HEADER, PATIENCE_S, WIDTH, Call, asked, calling, environment, mirror, sandbox
from tests.support.jobs_command import SLOW, VERSION_OPTIONS, JobsCommand
from tests.support.start_command import COMMAND, CommandProcess


@pytest.fixture(scope="module")
def kind() -> Iterator[str]:
    """The base URL of a sandbox without faults."""
    with sandbox() as base_url:
        yield base_url


@pytest.fixture
def v1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """`classify-batch jobs`, in this process, without a version."""
    return calling(capsys, monkeypatch, tmp_path, "jobs")


@pytest.fixture
def jobs(v1: Call) -> JobsCommand:
    return JobsCommand(v1, "v2")


# --- Every verb and field -------------------------------------------------------------------------------------------


def test_every_parameter_of_a_create_is_sent_and_shown(jobs: JobsCommand, kind: str) -> None:
    """`create` sends each parameter in v2's words and prints all that the API tells; `get` and `list` show the same,
    `get` with what was billed."""
    options = ("--mode", "FAST", "--lang", "ch_tra", "--max-pages", "7", "--transaction-id", "every-field")
    pages = ("--target-page", "0", "--target-page", "3", "--target-page", "4")
    job = jobs.create(kind, *options, *pages, "--rule", "letter=begins with a salutation")
    assert set(job) == JOB_FIELDS_V2
    assert job["configuration"] == {
        "rules": [*RULES, {"type": "letter", "description": "begins with a salutation"}],
        "mode": "FAST",
        "parsing_configuration": {"lang": "ch_tra", "max_pages": 7, "target_pages": "1,4-5"},
    }
    assert (job["file_input"], job["status"], job["transaction_id"]) == ("a", "PENDING", "every-field")
    shown = jobs.life(kind, job["id"])[-1]
    assert set(shown) == JOB_FIELDS_V2 | {"usage"}
    assert (shown["status"], shown["usage"]["credits"]) == ("COMPLETED", 1.0)
    page = jobs(kind, "list", "--job-id", job["id"]).body
    assert set(page) == {"items", "next_page_token", "total_size"}
    assert page["items"] == [{name: value for name, value in shown.items() if name != "usage"}]


def test_a_create_sends_one_file_and_nothing_unasked(jobs: JobsCommand) -> None:
    """The body names one file, the rules, and nothing else that was not given, but for 5 pages and a transaction ID."""
    with mirror() as server:
        for _ in range(2):
            assert jobs(server.base_url, "create", "--file-id", "a", "--rule", RULE).status == 0
    first, second = server.bodies
    assert first.pop("transaction_id") != second.pop("transaction_id")
    told = {"rules": RULES, "mode": "FAST", "parsing_configuration": {"max_pages": 5}}
    assert first == second == {"file_input": "a", "configuration": told}
    assert {urlsplit(path).path for path in server.paths} == {"/api/v2/classify"}


def test_each_file_gets_a_job_and_a_transaction_id(jobs: JobsCommand, kind: str, tmp_path: Path) -> None:
    """Several files are several jobs, a line each, each under a transaction ID of its own; an ID given twice is one."""
    (tmp_path / "ids.txt").write_text("c\na\nd\n")
    before = asked(kind)["creates_accepted"]
    done = jobs(kind, "create", "--rule", RULE, "--file-id", "a", "--file-id", "b", "--input", "ids.txt")
    assert done.status == 0, done.err
    assert [job["file_input"] for job in done.lines] == ["a", "b", "c", "d"]
    assert len({job["id"] for job in done.lines}) == len({job["transaction_id"] for job in done.lines}) == 4
    assert asked(kind)["creates_accepted"] - before == 4


def test_a_uuid_in_two_spellings_is_sent_once(jobs: JobsCommand, kind: str, tmp_path: Path) -> None:
    """It is sent once, in the spelling that came first."""
    uuids = [str(uuid5(NAMESPACE_URL, name)) for name in ("a", "b")]
    (tmp_path / "ids.txt").write_text(f"{uuids[0]}\n{uuids[1]}\n{{{uuids[1].upper()}}}\n")
    done = jobs(kind, "create", "--rule", RULE, "--file-id", uuids[0].upper(), "--input", "ids.txt")
    assert done.status == 0, done.err
    assert [job["file_input"] for job in done.lines] == [uuids[0].upper(), uuids[1]]


def test_the_list_is_filtered_by_status_ids_and_time(jobs: JobsCommand) -> None:
    """By status, by IDs and by time, each alone and together."""
    with sandbox("--fault", "poison=bad") as base_url:
        created = [jobs.create(base_url, file_ids=(file_id,)) for file_id in ("a", "bad", "c", "d")]
        for job in created:
            jobs.life(base_url, job["id"])
        ids = [job["id"] for job in created]
        cut = created[2]["created_at"]
        assert all(former["created_at"] < later["created_at"] for former, later in pairwise(created))

        def listed(*options: str) -> list[str]:
            return sorted(job["file_input"] for job in jobs(base_url, "list", *options).body["items"])

        assert listed() == ["a", "bad", "c", "d"]
        assert listed("--status", "FAILED") == ["bad"]
        assert listed("--status", "COMPLETED", "--job-id", ids[0], "--job-id", ids[1]) == ["a"]
        assert listed("--created-at-on-or-after", cut) == ["c", "d"]
        assert listed("--created-at-on-or-before", cut) == ["a", "bad", "c"]
        assert listed("--created-at-on-or-before", cut, "--status", "COMPLETED") == ["a", "c"]


def test_filters_are_sent_by_the_apis_names(jobs: JobsCommand) -> None:
    """Each filter goes out by the API's name, times in UTC; a date is its first moment."""
    options = ("--page-size", "7", "--page-token", "t", "--status", "RUNNING", "--job-id", "i", "--job-id", "j")
    times = ("--created-at-on-or-after", "2026-11-22", "--created-at-on-or-before", "2026-11-22T06:00+02:00")
    with mirror() as server:
        assert jobs(server.base_url, "list", *options, *times, "--project-id", "p", "--organization-id", "o").body == {
            "items": []
        }
    [path] = server.paths
    assert parse_qs(urlsplit(path).query) == {
        "project_id": ["p"],
        "organization_id": ["o"],
        "page_size": ["7"],
        "page_token": ["t"],
        "status": ["RUNNING"],
        "job_ids": ["i", "j"],
        "created_at_on_or_after": ["2026-11-22T00:00:00.000Z"],
        "created_at_on_or_before": ["2026-11-22T04:00:00.000Z"],
    }


def test_odd_ids_are_one_step_of_the_path(jobs: JobsCommand) -> None:
    """Whatever stands in an ID, it is one step of the path."""
    with mirror() as server:
        for verb in ("get", "cancel"):
            assert jobs(server.base_url, verb, "../j").body["id"] == "../j"
    steps = [urlsplit(path).path for path in server.paths]
    assert steps == ["/api/v2/classify/%2E%2E%2Fj", "/api/v2/classify/%2E%2E%2Fj/cancel"]


# --- Every status ---------------------------------------------------------------------------------------------------


def test_the_status_option_takes_the_documented_statuses() -> None:
    """`--status` takes those of the reference, which are those that the program reads."""
    assert STATUSES == STATUSES_V2 == get_args(Status)


def test_a_job_is_shown_in_each_status(jobs: JobsCommand) -> None:
    """PENDING, RUNNING, COMPLETED: each is shown, and there are results only at the end."""
    now_s = time.time()
    with sandbox("--job-duration-s", "10", wall_s=lambda: now_s) as base_url:
        job = jobs.create(base_url)
        assert job["status"] == "PENDING"
        early = jobs(base_url, "get-results", job["id"])
        life = []
        for pause_s in (0, 6, 5):
            now_s += pause_s
            life.append(jobs(base_url, "get", job["id"]).body)
        results = jobs(base_url, "get-results", job["id"])
    assert [each["status"] for each in life] == ["PENDING", "RUNNING", "COMPLETED"]
    assert [each["result"] is None for each in life] == [True, True, False]
    assert [each["usage"]["credits"] for each in life] == [None, None, 1.0]
    assert (early.status, early.out) == (75, "")
    assert "not finished; the job is PENDING" in early.err
    assert f"hint: `classify-batch jobs get --api-version v2 --base-url {base_url} {job['id']}` shows" in early.err
    assert (results.status, results.body["total_size"], results.body["next_page_token"]) == (0, 1, None)
    [item] = results.body["items"]
    assert set(item) == ITEM_FIELDS
    assert (item["file_id"], item["classify_job_id"], item["result"]) == ("a", job["id"], life[-1]["result"])


@pytest.mark.parametrize(
    ("fault", "status", "results"),
    [("error", "FAILED", []), ("cancelled", "CANCELLED", []), ("null_result", "COMPLETED", [None])],
)
def test_get_shows_jobs_that_ended_without_an_answer(
    jobs: JobsCommand, fault: str, status: str, results: list[None]
) -> None:
    """`get` exits with 0 whatever became of the job, nothing was billed, and `get-results` prints what there is."""
    with sandbox("--fault", f"{fault}=1") as base_url:
        job = jobs.finish(base_url)
        done = jobs(base_url, "get-results", job["id"])
    assert (job["status"], job["usage"]["credits"]) == (status, 0.0)
    assert bool(job["error_message"]) == (status == "FAILED")
    assert (done.status, [item["result"] for item in done.body["items"]]) == (0, results)


def test_an_unknown_status_is_shown_and_means_not_finished(jobs: JobsCommand) -> None:
    """It is shown as it is, and means: not finished."""
    with sandbox("--fault", "unknown_status=1", *SLOW) as base_url:
        job = jobs.create(base_url)
        done = jobs(base_url, "get-results", job["id"])
    assert job["status"] == "QUEUED"
    assert (done.status, "the job is QUEUED" in done.err) == (75, True)


# --- Cancelling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_cancel_stops_a_job_in_flight_and_shows_it(jobs: JobsCommand, state: str) -> None:
    """`cancel` shows the job as it is then, and it stays so; nothing is billed."""
    now_s = time.time()
    with sandbox("--job-duration-s", "10", wall_s=lambda: now_s) as base_url:
        job = jobs.create(base_url)
        now_s += 6 if state == "RUNNING" else 0
        assert jobs(base_url, "get", job["id"]).body["status"] == state
        done = jobs(base_url, "cancel", job["id"])
        assert (done.status, done.body["id"], done.body["status"]) == (0, job["id"], "CANCELLED"), done.err
        assert jobs(base_url, "get", job["id"]).body["status"] == "CANCELLED"
        assert asked(base_url)["files_billed"] == 0


def test_finished_and_unknown_jobs_can_not_be_cancelled(jobs: JobsCommand, v1: Call, kind: str) -> None:
    """A finished job and an unknown one are for a person; v1 can't cancel at all, and is not asked."""
    job = jobs.finish(kind)
    done = jobs(kind, "cancel", job["id"])
    assert (done.status, "cancel: HTTP 400: Classify job is COMPLETED" in done.err) == (77, True)
    assert "hint: only a job that isn't finished can be cancelled" in done.err
    done = jobs(kind, "cancel", "nope")
    assert (done.status, "HTTP 404: Classify job not found" in done.err) == (77, True)
    with mirror() as server:
        done = v1(server.base_url, "cancel", job["id"])
        assert (done.status, server.paths) == (2, [])
    assert "error: v1 of the API can't cancel a job\nhint: v2 can: --api-version v2" in done.err


def test_a_cancel_whose_answer_was_lost_is_repeated(jobs: JobsCommand) -> None:
    """It is made again, and that the job is cancelled by then is what was wanted; a later cancel is refused."""
    with sandbox("--fault", "cancel.after.close=1", *SLOW) as base_url:
        job = jobs.create(base_url)
        done = jobs(base_url, "cancel", job["id"])
        assert asked(base_url)["requests"]["cancel"] == {"400": 1, "no answer": 1}
        again = jobs(base_url, "cancel", job["id"])
    assert (done.status, done.body["status"]) == (0, "CANCELLED"), done.err
    assert (again.status, "Classify job is CANCELLED" in again.err) == (77, True)


# --- What is refused here -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "--mode", "MULTIMODAL"), "job.mode: v2 of the API knows FAST only (given: 'MULTIMODAL')"),
        (("create", "--file-id", "b", "--transaction-id", "t"), "--transaction-id stands for one job"),
        (("create", "--transaction-id", ""), "it is empty, or not an ID"),
        (("create", "--input", "many.txt"), "one command creates jobs for at most 500 files, and more were given"),
        (("list", "--status", "SUCCESS"), "'SUCCESS' is not one of"),
        (("list", "--job-id", ""), "it is empty, or not an ID"),
        (("list", "--created-at-on-or-after", "yesterday"), "'yesterday' is no time like"),
        (("list", "--created-at-on-or-before", "31.12."), "'31.12.' is no time like"),
        (("get-results", "j", "--page-token", "t"), "on v2 of the API a job has one result, and no pages"),
        (("get", ""), "it is empty, or not an ID"),
        (("cancel", ""), "it is empty, or not an ID"),
        (("cancel",), "Missing argument 'JOB_ID'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_sent(
    jobs: JobsCommand, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """What v2 doesn't have, and what nobody has, is named with 2 and a hint."""
    (tmp_path / "many.txt").write_text("".join(f"f{number}\n" for number in range(501)))
    given = ("--file-id", "a", "--rule", RULE) if arguments[0] == "create" else ()
    with mirror() as server:
        done = jobs(server.base_url, *arguments, *given)
        assert server.paths == []
    assert (done.status, done.out) == (2, "")
    assert words in done.err
    assert "\nhint: " in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--status", "FAILED"),
        ("list", "--job-id", "j"),
        ("list", "--created-at-on-or-after", "2026-11-22"),
        ("list", "--created-at-on-or-before", "2026-11-22"),
        ("create", "--file-id", "a", "--rule", RULE, "--transaction-id", "t"),
        ("cancel", "j"),
    ],
)
def test_options_of_v2_are_refused_on_v1_with_a_hint(v1: Call, arguments: tuple[str, ...]) -> None:
    """On v1 it is refused, with the way to v2, and nothing is sent."""
    with mirror() as server:
        done = v1(server.base_url, *arguments)
        assert server.paths == []
    assert done.status == 2
    assert "error: v1 of the API " in done.err
    assert 'hint: v2 can: --api-version v2, or version = "v2" under [api]' in done.err


def test_the_version_comes_from_config_environment_or_option(
    v1: Call, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the config, the environment and the option, each stronger than the one before; there is no third."""
    (tmp_path / "c.toml").write_text(f'[api]\nversion = "v2"\nbase_url = "{kind}"\n[job]\nrules = []\n')
    create = ("create", "--file-id", "a", "--rule", RULE, "--config", "c.toml")
    assert "configuration" in v1(None, *create).body
    monkeypatch.setenv("CLASSIFY_BATCH_API__VERSION", "v1")
    assert "configuration" not in v1(None, *create).body
    assert "configuration" in v1(None, *create, *VERSION_OPTIONS["v2"]).body
    done = v1(None, *create, "--api-version", "v3")
    assert (done.status, "api.version: Input should be 'v1' or 'v2'" in done.err) == (2, True)


def test_reads_ignore_the_job_section_of_the_config(jobs: JobsCommand, kind: str, tmp_path: Path) -> None:
    """A config for v1 serves to look at v2's jobs, although v2 could not create by it."""
    job = 'mode = "MULTIMODAL"\nrules = [{ type = "a", description = "0123456789" }]\n'
    (tmp_path / "c.toml").write_text(f"[job]\n{job}")
    done = jobs(kind, "list", "--config", "c.toml")
    assert done.status == 0, done.err
    done = jobs(kind, "create", "--config", "c.toml", "--file-id", "a")
    assert (done.status, "c.toml, line 2: job.mode: v2 of the API knows FAST only" in done.err) == (2, True)


def test_single_calls_ignore_the_escalation_section(jobs: JobsCommand, kind: str, tmp_path: Path) -> None:
    """What a config says of a run's answers doesn't count, also where v2 or the options don't fit it."""
    job = '[job]\nrules = [{ type = "a", description = "0123456789" }]\n'
    (tmp_path / "c.toml").write_text(f'{job}[escalation]\nmode = "MULTIMODAL"\nbelow_confidence = 0.5\n')
    for verb in (("list",), ("create", "--file-id", "a", "--rule", RULE)):
        done = jobs(kind, *verb, "--config", "c.toml")
        assert done.status == 0, done.err


# --- What the API says no to, and what is never paid twice ----------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--fault", "foreign=c"), "File ID c is not in Project ID"),
        (("--jobs-at-once", "2", *SLOW), "already reached the maximum number of"),
        (("--fault", "credits=2"), "HTTP 402"),
    ],
)
def test_a_refusal_after_some_jobs_exits_with_77_and_names_the_file(
    jobs: JobsCommand, options: tuple[str, ...], words: str
) -> None:
    """What was created is printed, the file at fault is named, the rest is not sent, and 77 whatever the reason was:
    the same command would pay for the first ones again."""
    files = [word for file_id in "abcd" for word in ("--file-id", file_id)]
    with sandbox(*options) as base_url:
        done = jobs(base_url, "create", "--rule", RULE, *files)
        assert asked(base_url)["creates_accepted"] == 2
        assert sum(asked(base_url)["requests"]["create"].values()) == 3
    assert [job["file_input"] for job in done.lines] == ["a", "b"]
    assert done.status == 77
    assert words in done.err
    assert "this was the file c; 2 jobs had been created" in done.err
    assert "leave out the files whose jobs are printed, or they are paid twice" in done.err


def test_a_refusal_of_the_first_file_keeps_its_own_status(jobs: JobsCommand) -> None:
    """Nothing was made, so nothing has to be left out, and the status is the refusal's own."""
    with sandbox("--jobs-at-once", "1", *SLOW) as base_url:
        jobs.create(base_url)
        done = jobs(base_url, "create", "--rule", RULE, "--file-id", "b", "--file-id", "c")
    assert (done.status, done.out) == (75, "")
    assert "this was the file b\n" in done.err
    assert "paid twice" not in done.err


def test_a_create_whose_answer_was_lost_is_repeated_under_its_transaction_id(jobs: JobsCommand) -> None:
    """A create whose answer was lost is made again under the same transaction ID: one job, and it is shown."""
    with sandbox("--fault", "create.after.reset=0.5", "--seed", "2") as base_url:
        created = [jobs.create(base_url, file_ids=(f"f{number}",)) for number in range(6)]
        stats = asked(base_url)
    assert stats["requests"]["create"]["no answer"] >= 2
    assert stats["creates_accepted"] == len({job["id"] for job in created}) == 6
    assert stats["files_billed_more_than_once"] == []


@pytest.mark.parametrize(("given", "status"), [((), 77), (("--transaction-id", "mine"), 75)])
def test_a_create_without_any_answer_names_its_transaction_id(
    jobs: JobsCommand, tmp_path: Path, given: tuple[str, ...], status: int
) -> None:
    """Who gives up says under which ID the job may be there; given again with it, the command shows that job. Only
    where the ID was given does the same command do, and a scheduler may give it again."""
    ledger = ("--ledger", str(tmp_path / "ledger"))
    create = ("create", "--rule", RULE, "--file-id", "a-b")
    with sandbox("--fault", "create.after.503=1", *ledger) as base_url:
        done = jobs(base_url, *create, *given)
        stats = asked(base_url)
    assert (stats["requests"]["create"], stats["creates_accepted"]) == ({"503": 5}, 1)
    assert (done.status, done.out) == (status, "")
    found = re.search(r"may have been accepted, under the transaction ID (\w+)\n", done.err)
    assert found, done.err
    assert given[1:] in ((), (found[1],))
    assert ("the same command creates the job" in done.err) == bool(given)
    assert (f"--file-id a-b --transaction-id {found[1]} creates the job" in done.err) != bool(given)
    with sandbox(*ledger) as base_url:
        again = jobs(base_url, *create, "--transaction-id", found[1])
        [job] = jobs(base_url, "list").body["items"]
    assert (again.status, again.body["id"], again.body["transaction_id"]) == (0, job["id"], found[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--file-id", "b", "--rule", RULE), "made for another file"),
        (("--file-id", "a", "--rule", "letter=begins with a salutation"), "made by other rules"),
    ],
)
def test_a_transaction_id_of_another_job_exits_with_77(
    jobs: JobsCommand, kind: str, options: tuple[str, ...], words: str
) -> None:
    """An ID that stands for another job is not taken for an answer: 77, and nothing new is there."""
    job = jobs.create(kind, "--transaction-id", "taken")
    before = asked(kind)["creates_accepted"]
    done = jobs(kind, "create", *options, "--transaction-id", "taken")
    assert (done.status, done.out) == (77, "")
    assert f"the transaction ID 'taken' belongs to the job {job['id']}, {words}" in done.err
    assert asked(kind)["creates_accepted"] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_create_names_its_transaction_id(number: signal.Signals) -> None:
    """A create gives up at once, with 75, and says under which transaction ID the job may be there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [
            *COMMAND,
            "jobs",
            "create",
            "--rule",
            RULE,
            "--file-id",
            "a",
            "--base-url",
            base_url,
            *VERSION_OPTIONS["v2"],
        ]
        process = CommandProcess(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
        with process, listener.accept()[0] as connection:
            sent = connection.recv(65_536)
            while b'"transaction_id"' not in sent:
                sent += connection.recv(65_536)
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE_S)
    transaction_id = json.loads(sent.partition(b"\r\n\r\n")[2])["transaction_id"]
    assert (process.returncode, out) == (75, "")
    assert f"create: interrupted by {number.name}; the job may have been accepted" in err
    assert f"hint: the command with --file-id a --transaction-id {transaction_id} creates the job" in err


def test_a_signal_between_two_creates_says_what_was_created() -> None:
    """The created jobs are printed, with the words that they must be left out: 77."""
    files = [word for number in range(500) for word in ("--file-id", f"f{number}")]
    with sandbox() as base_url:
        command = [*COMMAND, "jobs", "create", "--rule", RULE, *files, "--base-url", base_url, *VERSION_OPTIONS["v2"]]
        with CommandProcess(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            printed = [process.stdout.readline()]
            process.send_signal(signal.SIGTERM)
            # `communicate` would leave out what `readline` has read ahead.
            printed += process.stdout
            err = process.stderr.read()
            process.wait(timeout=PATIENCE_S)
        accepted = asked(base_url)["creates_accepted"]
    assert process.returncode == 77
    assert 0 < len(printed) <= accepted <= len(printed) + 1 < 500
    assert f"{len(printed)} jobs had been created" in err


# --- What is never shown, and a terminal ----------------------------------------------------------------------------


def test_headers_of_other_jobs_are_never_shown(jobs: JobsCommand) -> None:
    """A server may tell of the webhooks of any job: their headers are masked in what is read, too."""
    with mirror(webhook_configurations=[{"webhook_headers": {"Authorization": HEADER}}]) as server:
        for verb in ("get", "cancel"):
            told = jobs(server.base_url, verb, "j").body["webhook_configurations"]
            assert told == [{"webhook_headers": {"Authorization": "**********"}}]


def test_a_terminal_shows_tables_of_80_columns(jobs: JobsCommand) -> None:
    """Each verb shows a table of 80 columns in which no id and no status is cut, and JSON with `--json`."""

    def shown(*arguments: str, width: int = WIDTH) -> str:
        return jobs.on_a_terminal(base_url, *arguments, width=width)

    with sandbox() as base_url:
        long_type = "x" * 50
        job_id = jobs.create(base_url, "--lang", "de", "--rule", f"{long_type}=0123456789", file_ids=("file-1",))["id"]
        job = jobs.life(base_url, job_id)[-1]
        listed, described, results = shown("list"), shown("get", job_id), shown("get-results", job_id)
        as_json = shown("get", job_id, "--json", width=2_000)
    with sandbox(*SLOW) as base_url:
        made = shown("create", "--rule", RULE, "--file-id", "a", "--file-id", "b")
        cancelled = shown("cancel", jobs.create(base_url)["id"])
    assert json.loads(as_json) == job
    assert re.search(rf"^{job_id} COMPLETED .* {job['created_at'][:16].replace('T', ' ')}", listed, re.MULTILINE)
    for words in ("invoice: has an invoice number and a total", "lang = de", "max_pages = 5", "credits = 1.0", job_id):
        assert words in described
    assert "Drawn by lot" in described
    assert "file-1" in results
    assert (made.count("PENDING"), made.count("transaction_id")) == (2, 2)
    assert "CANCELLED" in cancelled
