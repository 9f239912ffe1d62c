"""What every version of the API must do behind ports.Api: one suite, over real HTTP against the served sandbox.

The versions may differ in one thing: what becomes of a create whose answer was lost. On v1 it is ambiguous; on v2 it is
made again, and gives the same job.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import anyio
import pytest

from classify_batch import Settings, arun
from classify_batch.errors import ExitStatus, Verdict
from classify_batch.model import Answer, JobView
from classify_batch.sandbox import Faults, Options, open_sandbox, serve_in_loop
from classify_batch.sandbox.jobs.job_table import count_billed
from classify_batch.settings.job_spec import JobSpec
from tests.support.served_api import (
    JOB_S,
    NOON_S,
    RULES,
    Intents,
    answers,
    attempt_at,
    calling,
    create,
    nothing,
    pages,
    refused,
    served,
)

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


@pytest.fixture(params=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- A job's life -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", [{}, {"unknown_status": 1.0}], ids=["kind", "unknown words"])
async def test_a_job_is_created_polled_and_answered(version: str, faults: dict[str, float]) -> None:
    """Created, out, finished, and answered in full, over as many pages as it takes; a word that nobody knows means that
    it is out."""
    file_ids = [f"file-{number}" for number in range(5)]
    async with served(faults, results_page_size=2) as server, calling(server, version) as (api, _):
        jobs = await create(api, version, file_ids)
        assert len({job.job_id for job in jobs}) == len(jobs)
        for age_s in (0.0, 0.6 * JOB_S):
            server.now_s = NOON_S + age_s
            seen = [await api.get(job.job_id) for job in jobs]
            assert [(each.job_id, each.finished) for each in seen] == [(job.job_id, False) for job in jobs]
        server.now_s = NOON_S + JOB_S
        seen = [await api.get(job.job_id) for job in jobs]
        assert {(each.status, each.finished, each.answered, each.error_message) for each in seen} == {
            ("SUCCESS", True, True, None)
        }
        by_file = await answers(api, jobs, file_ids)
    assert {job.created_at_s for job in [*jobs, *seen]} == {NOON_S}
    assert by_file.keys() == set(file_ids)
    assert all(each.answered and each.reasoning and 0 <= (each.confidence or -1) <= 1 for each in by_file.values())
    assert {each.type for each in by_file.values()} <= {"invoice", "letter", None}


async def test_both_versions_give_the_same_answers() -> None:
    """The same file under the same rules has the same answer, word by word, whichever version is asked."""
    file_ids = [f"file-{number}" for number in range(60)]
    said: list[dict[str | None, Answer]] = []
    for version in ("v1", "v2"):
        async with served(job_duration_s=0) as server, calling(server, version) as (api, _):
            said.append(await answers(api, await create(api, version, file_ids)))
    assert said[0] == said[1]
    assert {each.type for each in said[0].values()} == {"invoice", "letter", None}


@pytest.mark.parametrize(
    ("fault", "status", "message"), [("error", "ERROR", "TIMEOUT"), ("cancelled", "CANCELLED", None)]
)
async def test_a_failed_job_says_why(version: str, fault: str, status: str, message: str | None) -> None:
    """In one vocabulary, with the job's own message; in the list as well as by its id."""
    async with served({fault: 1.0}) as server, calling(server, version) as (api, _):
        (job,) = await create(api, version, ["a"])
        server.now_s += JOB_S
        ((listed,),) = await pages(api, 10, [job.job_id])
        for view in (await api.get(job.job_id), listed):
            assert (view.status, view.error_message, view.finished, view.answered) == (status, message, True, False)
    assert server.billed() == {}


async def test_a_cancel_stops_what_has_not_ended_where_the_version_can(version: str) -> None:
    """v2: the job is cancelled then, and a second call or one for an ended job is refused. v1 sends nothing."""
    async with served() as server, calling(server, version) as (api, _):
        (job,) = await create(api, version, ["a"])
        heard = len(server.heard)
        if version == "v1":
            assert (await refused(api.cancel(job.job_id))).verdict is Verdict.PERSON
            assert len(server.heard) == heard
            return
        assert (await api.cancel(job.job_id)).status == "CANCELLED"
        assert (await api.get(job.job_id)).status == "CANCELLED"
        (other,) = await create(api, version, ["b"])
        assert (await refused(api.cancel(job.job_id))).verdict is Verdict.REFUSED
        server.now_s += 2 * JOB_S
        assert (await refused(api.cancel(other.job_id))).verdict is Verdict.REFUSED
        assert (await api.get(other.job_id)).answered
        assert (await refused(api.cancel("never-heard-of"))).verdict is Verdict.MISSING


async def test_a_null_result_is_not_an_answer(version: str) -> None:
    """`result: null` is no verdict: neither a type nor "no rule matched"."""
    async with served({"null_result": 1.0}, job_duration_s=0) as server, calling(server, version) as (api, _):
        by_file = await answers(api, await create(api, version, ["a"]), ["a"])
    assert not any(each.answered for each in by_file.values())
    assert server.billed() == {}


# --- Lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
async def test_the_list_shows_each_job_once_with_its_configuration(version: str, order: str) -> None:
    """Page by page, in whatever order; with rules, mode, parsing configuration and age, by which v1 knows its own."""
    given = JobSpec.model_validate(
        {"rules": RULES, "parsing_configuration": {"lang": "de", "max_pages": 7, "target_pages": [0, 2, 3]}}
    )
    async with served(list_order=order) as server, calling(server, version, spec=given) as (api, _):
        made = [await api.create(attempt_at(f"f{number}", chunk=number), nothing) for number in range(25)]
        shown = await pages(api, 10)
    assert [len(page) for page in shown] == [10, 10, 5]
    jobs = [job for page in shown for job in page]
    assert sorted(job.job_id for job in jobs) == sorted(job.job_id for job in made)
    for job in jobs:
        assert job.rules == frozenset((rule["type"], rule["description"]) for rule in RULES)
        assert (job.mode, job.created_at_s, job.status) == ("FAST", NOON_S, "PENDING")
        assert job.parsing_configuration == {"lang": "de", "max_pages": 7, "target_pages": [0, 2, 3]}


async def test_a_list_by_job_ids_shows_these_jobs_only(version: str) -> None:
    """All of those that were asked for, more than a page holds, with how they stand; ids that the API doesn't know are
    left out."""
    async with served() as server, calling(server, version) as (api, _):
        made = [await api.create(attempt_at(f"f{number}", chunk=number), nothing) for number in range(130)]
        wanted = {job.job_id for job in made[:115]}
        server.now_s += JOB_S
        shown = await pages(api, 100, [*wanted, "never-heard-of"])
    jobs = [job for page in shown for job in page]
    assert sorted(job.job_id for job in jobs) == sorted(wanted)
    assert {job.status for job in jobs} == {"SUCCESS"}
    assert {(job.rules, job.mode) for job in jobs} == {(None, None)}


async def test_a_page_size_that_is_too_large_is_refused(version: str) -> None:
    """v2's largest page is documented, and no larger one is asked for. v1 refuses a larger one, and a smaller one may
    be asked for."""
    async with served() as server, calling(server, version) as (api, _):
        if version == "v1":
            error = await refused(api.list_page(page_size=101))
            assert (error.verdict, error.status, error.call) == (Verdict.REFUSED, 422, "list")
            return
        for number in range(103):
            await api.create(attempt_at(f"f{number}", chunk=number), nothing)
        shown = await pages(api, 1000)
        assert [len(page) for page in shown] == [100, 3]
        assert {each.query["page_size"][0] for each in server.heard if each.method == "GET"} == {"100"}


@pytest.mark.parametrize("page_size", [2, 100])
async def test_a_list_from_a_time_on_shows_all_younger_jobs(version: str, page_size: int) -> None:
    """To the millisecond, by the server's own clock. An API that can't filter shows older jobs, too."""
    async with served() as server, calling(server, version) as (api, _):
        made = []
        for number in range(7):
            server.now_s = NOON_S + number / 1000
            made.append(await api.create(attempt_at(f"f{number}", chunk=number), nothing))
        for number, moment_s in ((0, NOON_S - 60.0), (3, NOON_S + 0.003), (3, NOON_S + 0.0025), (7, NOON_S + 60.0)):
            shown = await pages(api, page_size, created_from_s=moment_s)
            younger = {job.job_id for job in made[number:]}
            found = {job.job_id for page in shown for job in page}
            assert younger <= found
            assert version == "v1" or found <= {job.job_id for job in made[max(0, number - 1) :]}


# --- What is written down before anything leaves ----------------------------------------------------------------------


@pytest.mark.parametrize("faults", [{}, {"foreign": ["a"]}, {"rate_429": 1.0}, {"lost_create_answer": 1.0}])
async def test_an_intent_is_written_once_before_the_create_is_sent(version: str, faults: dict[str, Any]) -> None:
    """Whatever comes of the call: exactly one intent, and the server has heard nothing of it by then."""
    async with served(faults) as server, calling(server, version) as (api, _):
        intents = Intents(server)
        call = api.create(attempt_at("a"), intents.about_to_send)
        if faults:
            await refused(call)
        else:
            await call
        assert (intents.heard, len(server.heard)) == ([0], 1)


async def test_a_create_is_not_sent_if_its_intent_cannot_be_written(version: str) -> None:
    """The server hears nothing, no request is counted, and the next call goes on."""

    async def fail() -> None:
        raise OSError("the disk is full")

    async with served() as server, calling(server, version) as (api, _):
        for _ in range(5):  # more than may be in flight
            with pytest.raises(OSError, match="the disk is full"):
                await api.create(attempt_at("a"), fail)
        assert (server.heard, api.requests) == ([], 0)
        await api.create(attempt_at("a"), nothing)


async def test_a_create_sends_the_documented_body(version: str) -> None:
    """As the server saw it: pages from 0 in a list on v1, from 1 in words on v2; the headers of webhooks in clear."""
    webhook = {
        "webhook_url": "https://example.test/done",
        "webhook_events": ["classify.success"],
        "webhook_headers": {"X-Token": "a-secret-word"},
    }
    parsing = {"lang": "de", "max_pages": 7, "target_pages": [0, 2, 3, 4]}
    given: dict[str, Any] = {"rules": RULES, "mode": "FAST", "parsing_configuration": parsing}
    spec = JobSpec.model_validate({**given, "webhook_configurations": [webhook]})
    async with served() as server:
        async with calling(server, version, spec=spec) as (api, _):
            await api.create(attempt_at("a"), nothing)
        async with calling(server, version, project_id="p", organization_id="o") as (api, _):
            assert (await api.create(attempt_at("a"), nothing)).project_id == "p"
    full, least = (each.body for each in server.heard)
    assert [each.query for each in server.heard] == [{}, {"project_id": ["p"], "organization_id": ["o"]}]
    if version == "v1":
        assert full == {**given, "file_ids": ["a"], "webhook_configurations": [webhook]}
        assert least == {"file_ids": ["a"], "rules": RULES, "mode": "FAST"}
        return
    ids = [body.pop("transaction_id") for body in (full, least)]
    assert len(set(ids)) == 2
    in_words = {**given, "parsing_configuration": {**parsing, "target_pages": "1,3-5"}}
    assert full == {"file_input": "a", "configuration": in_words, "webhook_configurations": [webhook]}
    unlimited = {"rules": RULES, "mode": "FAST", "parsing_configuration": {"max_pages": 5}}  # v1 reads 5 unasked
    assert least == {"file_input": "a", "configuration": unlimited}


# --- What the API refuses ---------------------------------------------------------------------------------------------


async def test_a_foreign_file_is_refused(version: str) -> None:
    """400 with the file's name in the API's words; the same call would be refused again."""
    async with served({"foreign": ["a"]}) as server, calling(server, version) as (api, _):
        error = await refused(api.create(attempt_at("a"), nothing))
    assert (error.verdict, error.status, error.call) == (Verdict.REFUSED, 400, "create")
    assert error.detail.startswith("File ID a is not in Project ID")


async def test_a_refused_key_needs_a_person(version: str) -> None:
    """For a create as for a read."""
    async with served() as server, calling(server, version, key="another") as (api, _):
        create_one = partial(api.create, attempt_at("a"), nothing)
        for call in (create_one, partial(api.get, "j"), partial(api.list_page, page_size=10)):
            error = await refused(call())
            assert (error.verdict, error.status, error.exit_status) == (Verdict.KEY_REFUSED, 401, ExitStatus.PERSON)
            assert "LLAMA_CLOUD_API_KEY" in error.hint


async def test_refused_rules_need_a_person(version: str) -> None:
    """What every create says alike: no other file would fare better."""
    spec = JobSpec.model_validate({"rules": [RULES[0], RULES[0]]})
    async with served() as server, calling(server, version, spec=spec) as (api, _):
        error = await refused(api.create(attempt_at("a"), nothing))
    assert (error.verdict, error.status, error.exit_status) == (Verdict.PERSON, 422, ExitStatus.PERSON)


async def test_reads_go_on_when_credits_run_out(version: str) -> None:
    """402 for a create; what was paid can still be collected."""
    async with served({"credits": 1}, job_duration_s=0) as server, calling(server, version) as (api, _):
        jobs = await create(api, version, ["a"])
        error = await refused(api.create(attempt_at("b", chunk=1), nothing))
        assert (error.verdict, error.status, error.exit_status) == (Verdict.NO_CREDIT, 402, ExitStatus.PERSON)
        assert (await answers(api, jobs))["a"].answered


async def test_a_full_plan_does_not_slow_requests_down(version: str) -> None:
    """A 429 that counts jobs holds up no other request."""
    async with served(jobs_at_once=1) as server, calling(server, version) as (api, gate):
        await create(api, version, ["a"])
        error = await refused(api.create(attempt_at("b", chunk=1), nothing))
        assert (error.verdict, error.status, gate.waiting_s) == (Verdict.PLAN_FULL, 429, 0.0)


@pytest.mark.parametrize("retry_after_s", [None, 7.0])
async def test_a_429_makes_requests_wait_as_long_as_the_api_asks(version: str, retry_after_s: float | None) -> None:
    """The create was certainly not accepted, and nothing is sent for as long as the API asks, if it does."""
    given = {} if retry_after_s is None else {"retry_after_s": retry_after_s}
    async with served({"rate_429": 1.0, **given}) as server, calling(server, version) as (api, gate):
        began_s = anyio.current_time()
        error = await refused(api.create(attempt_at("a"), nothing))
        left_s, took_s = gate.waiting_s, anyio.current_time() - began_s
        assert (error.verdict, error.status) == (Verdict.LATER, 429)
        assert (retry_after_s or 0.0) - took_s <= left_s <= (retry_after_s or 0.0)


async def test_an_unknown_job_is_missing(version: str) -> None:
    """A get and its results are 404."""
    job_id = "never-heard-of"
    async with served() as server, calling(server, version) as (api, _):
        for call in (partial(api.get, job_id), partial(api.results, JobView(job_id, "SUCCESS"), ["a"])):
            error = await refused(call())
            assert (error.verdict, error.status) == (Verdict.MISSING, 404)


# --- Lost answers -----------------------------------------------------------------------------------------------------

LOST = ("close", "reset", "cut", "reset_midway", "html", "garbage", "other_shape", "408", "409", "500", "502", "504")


@pytest.mark.parametrize("what", [*LOST, "hang"])
async def test_a_lost_create_answer_leaves_one_job_paid_once(version: str, what: str) -> None:
    """On v1 it is unknown whether the create was accepted, and the list shows the job; on v2 the same create gives the
    same job, paid once. A read is sent again on both."""
    lost = {f"create.after.{what}": 1.0, f"read.after.{what}": 1.0}
    timeout_s = 2.0 if what == "hang" else 60.0
    async with served(job_duration_s=0) as server, calling(server, version, timeout_s=timeout_s) as (api, _):
        server.set_faults(**lost)
        attempt = attempt_at("a")
        error = await refused(api.create(attempt, nothing))
        assert error.verdict is (Verdict.LATER if api.idempotent else Verdict.AMBIGUOUS)
        assert error.ambiguous
        read_error = await refused(api.list_page(page_size=10))
        assert (read_error.verdict, read_error.ambiguous) == (Verdict.LATER, False)
        server.set_faults()
        ((listed,),) = await pages(api, 10)
        assert listed.transaction_id == api.transaction_id(attempt)
        if api.idempotent:
            assert (await api.create(attempt, nothing)).job_id == listed.job_id
    assert server.billed() == {"a": 1}


async def test_a_repeated_create_gives_the_same_job_if_idempotent(version: str) -> None:
    """Idempotent or not, as the version says: then the same attempt of the same run under the same rules gives the same
    job, in another process, too; another attempt, run or rule gives another."""
    other = JobSpec.model_validate({"rules": RULES[:1]})
    async with served() as server:
        job_ids = []
        for given in ({}, {}, {"spec": other}, {"run_id": "another"}):
            async with calling(server, version, **given) as (api, _):
                assert api.idempotent is (version == "v2")
                job_ids.append((await api.create(attempt_at("a"), nothing)).job_id)
        async with calling(server, version) as (api, _):
            job_ids.append((await api.create(attempt_at("a", number=2), nothing)).job_id)
            job_ids.append((await api.create(attempt_at("b"), nothing)).job_id)
    first, again, *others = job_ids
    assert (first == again) is (version == "v2")
    assert len({first, *others}) == 5
    assert sum(1 for _ in server.app.job_table) == len(set(job_ids))


async def test_a_job_shows_the_transaction_that_was_sent(version: str) -> None:
    """Where the API knows such a thing: what is sent is what the list shows, and it is the same in another process, as
    long as the same attempt of the same run under the same rules is meant."""
    other = JobSpec.model_validate({"rules": RULES[:1]})
    given: tuple[dict[str, Any], ...] = ({}, {}, {"spec": other}, {"run_id": "another"})
    async with served() as server:
        ids = []
        for each in given:
            async with calling(server, version, **each) as (api, _):
                ids.append(api.transaction_id(attempt_at("a")))
        async with calling(server, version) as (api, _):
            assert [api.transaction_id(replace(attempt_at("a"), since_s=7.0, server_s=8.0))] == ids[:1]
            ids += [api.transaction_id(attempt_at("a", number=2)), api.transaction_id(attempt_at("b"))]
            await api.create(attempt_at("a"), nothing)
            ((listed,),) = await pages(api, 10)
    if version == "v1":
        assert {*ids, listed.transaction_id} == {None}
        return
    first, again, *others = ids
    assert first == again == listed.transaction_id == server.heard[0].body["transaction_id"]
    assert len({first, *others}) == 5


async def test_a_request_is_counted_when_it_is_sent(version: str) -> None:
    """A refused one, too."""
    async with served() as server, calling(server, version) as (api, _):
        assert api.requests == 0
        await refused(api.get("never-heard-of"))
        await create(api, version, ["a"])
        await pages(api, 10)
        assert api.requests == len(server.heard) == 3


# --- Whose files they are ---------------------------------------------------------------------------------------------


async def test_the_project_of_a_file_is_found(version: str) -> None:
    """By one request, whatever else the project holds; a UUID in any spelling. A file that the key's project doesn't
    hold tells nothing."""
    uuid = "0a6b7c1e-3d2f-4a5b-8c9d-0e1f2a3b4c5d"
    keys = {"another": "project-2"}
    async with served(files=300, project_id="project-1", further_keys=keys, files_of_project="mine") as server:
        async with calling(server, version) as (api, _):
            assert await api.project_of_file("mine-1") == "project-1"
            assert await api.project_of_file(uuid.upper()) == "project-1"
            assert len(server.heard) == 2
        async with calling(server, version, key="another") as (api, _):
            assert await api.project_of_file("mine-1") is None
            assert await api.project_of_file("everybody's") == "project-2"
        async with calling(server, version, key="wrong") as (api, _):
            assert (await refused(api.project_of_file("mine-1"))).verdict is Verdict.KEY_REFUSED


# --- A whole run ------------------------------------------------------------------------------------------------------

TEXTS = {
    "invoice.txt": "Invoice 17. Line items: two chairs, one table. The total is 310 EUR, due in a month.",
    "second/invoice.txt": "Invoice with line items and a total of 12 EUR",
    "letter.txt": "Dear Ms Gray, thank you for your letter. With this salutation and signature, yours, T. Blue",
    "walk.txt": "A river, a meadow, and nobody far and wide",
    "broken.txt": "This one breaks every job that it is in",
    "vague.txt": "This one is refused, and nobody says so by name",
}


async def test_a_whole_run_ends_the_same_on_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same files under the same rules have the same outcomes, failures with their words included: in the results
    and in both manifests."""
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", "sandbox")
    for name, text in TEXTS.items():
        (tmp_path / "documents" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "documents" / name).write_text(text)
    ids = {name: str(uuid5(NAMESPACE_URL, name)) for name in TEXTS}
    faults = Faults(poison=frozenset([ids["broken.txt"]]), rejected_vaguely=frozenset([ids["vague.txt"]]))
    options = Options(documents=tmp_path / "documents", seed=1, job_duration_s=0.02, faults=faults)
    asked = [*ids.values(), "not-in-the-project"]
    found = [await _outcomes(options, version, asked, tmp_path / version) for version in ("v1", "v2")]
    assert found[0] == found[1]
    outcomes, given = found[0]
    assert outcomes.keys() == set(asked)
    assert given["counts"] == {"classified": 3, "unmatched": 1, "failed": 3}
    assert given["failure_codes"] == {"job_error": 1, "rejected": 2}
    assert outcomes[ids["second/invoice.txt"]]["type"] == "invoice"


async def _outcomes(
    options: Options, version: str, file_ids: Sequence[str], run_dir: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What a run says of each file, and its manifest says of all, but for what tells runs and jobs apart."""
    with open_sandbox(options) as app:
        async with serve_in_loop(app) as base_url:
            settings = Settings(
                api={"version": version, "base_url": base_url, "timeout_s": 1},
                job={"rules": RULES},
                plan={"files_per_job": 3},
                limits={"settle_s": 0.5, "accept_s": 0, "clock_spread_s": 1},
            )
            result = await arun(settings, file_ids, run_dir)
        assert result.exit_status is ExitStatus.FAILURES
        assert set(count_billed(app.job_table).values()) == {1}
    names = ("results.jsonl", "failures.jsonl")
    lines = [json.loads(line) for name in names for line in (run_dir / name).read_text().splitlines()]
    alike = ("outcome", "type", "confidence", "reasoning", "mode", "code", "message")
    outcomes = {line["file_id"]: {name: line.get(name) for name in alike} for line in lines}
    assert len(outcomes) == len(lines)
    manifest = json.loads((run_dir / "manifest.json").read_text())
    said = ("state", "exit_status", "files", "counts", "types", "failure_codes")
    return outcomes, {name: manifest[name] for name in said}
