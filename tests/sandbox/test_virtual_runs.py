"""Whole runs in virtual time: every fault, every kind of stop, and power cuts at any moment."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Any

import anyio
import httpx
import pytest

from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ExitStatus, StoreError
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Log
from tests.support.simulated_run import Lab, answer, ends_well, is_create, laboratory, nothing

pytestmark = pytest.mark.anyio


# --- Undisturbed -----------------------------------------------------------------------------------------------------


async def test_a_run_without_faults_creates_each_chunk_once_and_polls_little() -> None:
    """A create for each chunk and no more, results for each job, and few polls beside."""
    with laboratory(1000, files_per_job=50, job_duration_s=2.0) as lab:
        await ends_well(lab)
        assert lab.wire.count("POST") == lab.accepted() == 20
        assert lab.codes() == {}
        assert sum(path.endswith("/results") for _, _, path in lab.wire.requests) == 20
        assert lab.wire.count("GET") < 20 + 120


async def test_jobs_that_take_hours() -> None:
    """A run of jobs that take hours polls seldom."""
    with laboratory(200, files_per_job=20, job_duration_s=10_000.0, limits={"job_timeout_s": 1e6}) as lab:
        await ends_well(lab)
        assert anyio.current_time() > 10_000
        assert lab.wire.count("GET") < 10 * 450


async def test_slots_are_kept_busy() -> None:
    """Forty equal jobs through four slots take hardly longer than ten of them one after the other."""
    with laboratory(
        40, files_per_job=1, job_duration_s=10.0, job_duration_sigma=0, limits={"jobs_in_flight": 4}
    ) as lab:
        await ends_well(lab)
        assert anyio.current_time() < 1.12 * 100
        most = max(
            sum(a.created_at_s <= b.created_at_s < a.finished_at_s for a in lab.app.job_table)
            for b in lab.app.job_table
        )
        assert most == 4


@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
async def test_nothing_rests_on_the_lists_order_or_page_size(order: str) -> None:
    """The list may come in any order, in pages of ten, behind a thousand jobs of other runs."""
    options: dict[str, Any] = {
        "list_order": order,
        "list_page_size_max": 10,
        "job_duration_s": 3.0,
        "results_page_size": 3,
    }
    with laboratory(100, files_per_job=5, faults={"lost_create_answer": 0.2}, **options) as lab:
        other = {"file_ids": ["other"], "rules": [{"type": "x", "description": "another run's rules"}]}
        async with httpx.AsyncClient(transport=lab.wire.end(), base_url="https://sandbox.test") as client:
            for _ in range(60):
                with anyio.move_on_after(1):
                    headers = {"Authorization": "Bearer sandbox"}
                    await _perhaps(client.post("/api/v1/classifier/jobs", json=other, headers=headers))
        before = lab.paid_twice()
        assert before == ["other"]
        ending = await lab.run()
        assert ending.state == "complete"
        assert await lab.judge() == {"paid twice": ["other"]}


async def _perhaps(call: Any) -> None:
    with suppress(httpx.ReadError):
        await call


async def test_a_list_that_fails_now_and_then_costs_few_polls() -> None:
    """One poll of the list in ten is answered 503: about one poll a job is enough all the same."""
    limits = {"jobs_in_flight": 30, "requests_in_flight": 10, "requests_per_s": 500.0}
    given: dict[str, Any] = {"files_per_job": 1, "job_duration_s": 5.0, "latency_s": lambda: 0.01, "limits": limits}
    with laboratory(600, faults={"list.before.503": 0.1}, **given) as lab:
        await ends_well(lab)
        requests = lab.app.request_stats()["requests"]
        polls = sum(requests["list"].values()) + sum(requests["get"].values())
        assert requests["list"]["503"] > 20
        assert polls < 1.1 * 600


async def test_a_complete_run_makes_no_request() -> None:
    """Started again, there is nothing to do and nobody to ask."""
    with laboratory(20) as lab:
        await ends_well(lab)
        requests = len(lab.wire.requests)
        await ends_well(lab)
        assert len(lab.wire.requests) == requests


# --- Jobs that end otherwise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "codes"),
    [
        ({"error": 0.3}, {"job_error"}),
        ({"cancelled": 0.3}, {"job_cancelled"}),
        ({"partial": 0.6}, {"not_answered"}),
        ({"null_result": 0.3}, {"not_answered"}),
        ({"error": 0.1, "cancelled": 0.1, "partial": 0.3, "null_result": 0.1}, None),
    ],
)
async def test_jobs_that_end_badly(faults: dict[str, float], codes: set[str] | None) -> None:
    """Tried again, split, or collected in part: one outcome each, and what failed says why."""
    with laboratory(200, faults=faults) as lab:
        await ends_well(lab)
        found = set(lab.codes().values())
        assert found <= (codes or {"job_error", "job_cancelled", "not_answered"})
        assert len(lab.codes()) < 40
        assert all(line["message"] and line["job_id"] for line in lab.lines(Log.FAILURES))


@pytest.mark.parametrize("attempts", [1, 3])
async def test_files_that_are_never_answered_fail(attempts: int) -> None:
    """`attempts` jobs at most for each of them, and then it says so."""
    limits = {"attempts": attempts}
    with laboratory(40, faults={"null_result": 1.0}, limits=limits) as lab:
        ending = await lab.run()
        assert ending.exit_status == ExitStatus.FAILURES
        assert await lab.judge() == {}
        assert set(lab.codes().values()) == {"not_answered"}
        asked = Counter(file_id for job in lab.app.job_table for file_id in job.file_ids)
        assert asked == Counter(dict.fromkeys(lab.file_ids, attempts))


async def test_a_poisonous_file_is_found_and_its_neighbours_are_paid_once() -> None:
    """Bisected down to the file at fault, with the job's own message; 2 * ceil(log2 n) + 2 jobs more at most."""
    with laboratory(128, files_per_job=128, faults={"poison": {"file-77"}}) as lab:
        await ends_well(lab)
        assert lab.codes() == {"file-77": "job_error"}
        assert lab.lines(Log.FAILURES)[0]["message"] == "PDF_IS_BROKEN"
        assert lab.accepted() - 1 <= 2 * 7 + 2
        assert lab.billed() == Counter(set(lab.file_ids) - {"file-77"})


async def test_a_run_whose_files_all_fail_is_complete() -> None:
    """Then each fails, and the run is complete all the same."""
    with laboratory(30, files_per_job=15, faults={"poison_share": 1.0}) as lab:
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
        assert await lab.judge() == {}
        assert set(lab.codes().values()) == {"job_error"}


async def test_overdue_jobs_fail_with_their_job_id() -> None:
    """v1 can't cancel: after `job_timeout_s` the files fail, and the job is named for a later retry."""
    with laboratory(20, job_duration_s=1e7, limits={"job_timeout_s": 600.0}) as lab:
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
        assert 600 < anyio.current_time() < 700
        assert set(lab.codes().values()) == {"overdue"}
        jobs = {job.job_id: set(job.file_ids) for job in lab.app.job_table}
        assert all(line["file_id"] in jobs[line["job_id"]] for line in lab.lines(Log.FAILURES))


async def test_an_unknown_status_means_not_finished() -> None:
    """A word that the API never said before is no end."""
    with laboratory(30) as lab:

        async def say_it_otherwise(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            return response if anyio.current_time() > 50 else _with_text(response, '"SUCCESS"', '"ARCHIVING"')

        lab.wire.after = say_it_otherwise
        await ends_well(lab)
        assert 50 < anyio.current_time() < 80


def _with_text(response: httpx.Response, old: str, new: str) -> httpx.Response:
    return httpx.Response(response.status_code, text=response.text.replace(old, new))


# --- Refusals --------------------------------------------------------------------------------------------------------


async def refuse_the_bad(request: httpx.Request, status: int, detail: object) -> httpx.Response | None:
    if is_create(request) and any(file_id == "file-13" for file_id in json.loads(request.content)["file_ids"]):
        return answer(status, {"detail": detail})
    return None


@pytest.mark.parametrize(
    ("status", "detail", "posts"),
    [
        (400, "File ID file-13 is not in Project ID p", 1),
        (422, [{"loc": ["body", "file_ids", 3], "msg": "not a file", "type": "value_error"}], 1),
        (400, "bad request", 8),
        (413, "Payload Too Large", 8),
        (422, "no", 8),
    ],
)
async def test_a_refused_file_fails_and_the_rest_goes_out(status: int, detail: object, posts: int) -> None:
    """Named, it fails at once; not named, it is found by halves. Nobody pays for a refusal."""
    with laboratory(20, files_per_job=10) as lab:

        async def before(request: httpx.Request) -> httpx.Response | None:
            return await refuse_the_bad(request, status, detail)

        lab.wire.before = before
        ending = await lab.run()
        assert ending.state == "complete"
        assert await lab.judge() == {}
        assert lab.codes() == {"file-13": "rejected"}
        assert f"HTTP {status}" in lab.lines(Log.FAILURES)[0]["message"]
        assert lab.wire.count("POST") - lab.accepted() <= posts


async def test_a_429_silences_everybody_for_as_long_as_it_says() -> None:
    """`Retry-After` is obeyed by creates, polls and results alike."""
    with laboratory(100, faults={"rate_429": 0.05, "retry_after_s": 7.0}, job_duration_s=1.0) as lab:
        silences: list[float] = []

        async def note(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if response.status_code == 429:
                silences.append(anyio.current_time())
            return response

        lab.wire.after = note
        await ends_well(lab)
        assert len(silences) > 1
        times = [at_s for at_s, _, _ in lab.wire.requests]
        assert not any(silence < at_s < silence + 6.99 for silence in silences for at_s in times)


async def test_a_server_with_a_rate_limit_is_served_at_its_rate() -> None:
    """Half of the rate that we were given: nothing is lost, and the shared cool-down keeps the refusals few."""
    options: dict[str, Any] = {"requests_per_s": 10.0, "job_duration_s": 1.0}
    with laboratory(300, files_per_job=5, limits={"requests_per_s": 20.0}, **options) as lab:
        await ends_well(lab)
        refused = sum(by_status.get("429", 0) for by_status in lab.app.meter.responses_by_call().values())
        assert refused < 0.2 * len(lab.wire.requests)


@pytest.mark.parametrize("jobs_at_once", [1, 5])
async def test_a_plan_that_allows_fewer_jobs_at_once(jobs_at_once: int) -> None:
    """Found out and kept to, however many hundreds we were given: no stop, and nothing paid twice."""
    limits = {"jobs_in_flight": 200, "requests_in_flight": 200}
    with laboratory(300, files_per_job=5, jobs_at_once=jobs_at_once, job_duration_s=2.0, limits=limits) as lab:
        await ends_well(lab)


# --- Stops -----------------------------------------------------------------------------------------------------------


async def test_a_stop_is_obeyed_within_four_seconds_and_can_be_gone_on_from() -> None:
    """A signal in the middle of everything: what is on the wire is finished, and the next run takes up the rest."""
    for after_s in (0.0, 0.05, 0.3, 1.0, 3.0, 7.0):
        with laboratory(60, files_per_job=5, job_duration_s=2.0, latency_s=0.4, limits={"jobs_in_flight": 3}) as lab:
            left_s = 0.0

            async def interrupt(lab: Lab, after_s: float) -> None:
                nonlocal left_s
                await anyio.sleep(after_s)
                lab.stopping.request_stop(Stop("interrupted"))
                left_s = anyio.current_time()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(interrupt, lab, after_s)
                ending = await lab.run()
                assert anyio.current_time() - left_s < 4
                tasks.cancel_scope.cancel()
            assert (ending.state, ending.exit_status, ending.reason) == ("incomplete", 75, "interrupted")
            manifest = json.loads(lab.store.files["manifest.json"])
            assert (manifest["state"], manifest["reason"], manifest["exit_status"]) == ("incomplete", "interrupted", 75)
            verified = await lab.verify()
            assert verified.errors == []
            assert not any("ambiguous" in note for note in verified.notes), "a create on the wire was not waited for"
            await ends_well(lab)
            assert lab.accepted() == 12


async def stops_for_a_person(lab: Lab, *words: str) -> None:
    ending = await lab.run()
    assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.PERSON)
    assert ending.reason is not None
    assert all(word in ending.reason for word in words), ending.reason
    assert ending.hint
    assert (await lab.verify()).errors == []


async def test_a_job_that_vanished_is_never_sent_again() -> None:
    """404 for longer than `settle_s` to a job that the API gave us: wrong key or project; a person must look."""
    with laboratory(20, job_duration_s=60.0) as lab:
        gone = True

        async def vanish(request: httpx.Request) -> httpx.Response | None:
            if not gone or is_create(request):
                return None
            if request.url.path.endswith("/jobs"):
                return answer(200, {"items": [], "next_page_token": None, "total_size": 0})
            return answer(404, {"detail": "Classify job not found"})

        lab.wire.before = vanish
        await stops_for_a_person(lab, "vanished", "404")
        assert lab.accepted() == 2
        gone = False
        await ends_well(lab)
        assert lab.accepted() == 2


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("after_s", [0.0, 1.0])
async def test_a_refused_key_stops_the_run(status: int, after_s: float) -> None:
    """At once, with nothing lost; with a key that is good the same run goes on."""
    with laboratory(100, job_duration_s=1.0, limits={"jobs_in_flight": 3}) as lab:
        refusing = True

        async def refuse(request: httpx.Request) -> httpx.Response | None:
            return (
                answer(status, {"detail": "Invalid API key."}) if refusing and anyio.current_time() >= after_s else None
            )

        lab.wire.before = refuse
        await stops_for_a_person(lab, str(status), "Invalid API key.")
        assert anyio.current_time() < after_s + 5
        refusing = False
        await ends_well(lab)
        assert lab.accepted() == 10


async def test_without_credits_what_is_out_is_still_collected() -> None:
    """402 ends the creates; what was paid comes home, and the rest waits for new credits."""
    with laboratory(100, job_duration_s=5.0, limits={"jobs_in_flight": 4}) as lab:
        broke = True

        async def no_credit(request: httpx.Request) -> httpx.Response | None:
            if broke and is_create(request) and lab.accepted() >= 4:
                return answer(402, {"detail": "You are out of credits."})
            return None

        lab.wire.before = no_credit
        await stops_for_a_person(lab, "402", "out of credits")
        assert len(lab.outcomes()) == 40
        assert lab.store.files[Log.FAILURES] == b""
        broke = False
        await ends_well(lab)
        assert lab.accepted() == 10


async def test_an_api_that_is_down_is_waited_for_and_then_left() -> None:
    """For as long as our patience says; then 75, and the same command goes on."""
    with laboratory(100, job_duration_s=5.0, limits={"jobs_in_flight": 4, "patience_s": 300.0}) as lab:
        down_s = 8.0

        async def refuse_connections(request: httpx.Request) -> httpx.Response | None:
            if anyio.current_time() > down_s:
                raise httpx.ConnectError("Connection refused", request=request)
            return None

        lab.wire.before = refuse_connections
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.INCOMPLETE)
        assert 300 < anyio.current_time() < 500
        late = [at_s for at_s, _, _ in lab.wire.requests if at_s > down_s + 60]
        assert len(late) < 60
        down_s = 1e9
        await ends_well(lab)
        assert lab.accepted() == 10


async def test_a_short_outage_is_lived_through() -> None:
    """Two minutes without an answer to anything are no reason to stop."""
    with laboratory(200, job_duration_s=2.0, limits={"jobs_in_flight": 4}) as lab:

        async def outage(request: httpx.Request) -> httpx.Response | None:
            if 5 < anyio.current_time() < 125:
                raise httpx.ConnectError("Connection refused", request=request)
            return None

        lab.wire.before = outage
        await ends_well(lab)
        assert lab.accepted() == 20


async def test_another_project_is_noticed() -> None:
    """The first job's project is the run's: a key that leads elsewhere stops it."""
    with laboratory(40, job_duration_s=1.0, limits={"jobs_in_flight": 1}) as lab:

        async def elsewhere(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            project_id = lab.app.options.project_id
            return response if lab.accepted() < 2 else _with_text(response, project_id, "elsewhere")

        lab.wire.after = elsewhere
        await stops_for_a_person(lab, "elsewhere", "project")


async def test_a_warning_reaches_the_log_though_the_disk_refuses(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever ends a run: what was to be said of it is said."""
    with laboratory(4) as lab:
        await lab.plan()
        lab.store = MemoryStore({**lab.store.files, Log.JOURNAL: b'{"seq":1,"torn'})
        lab.store.fail_after(bytes_written=0)
        refused = False
        try:
            await lab.run()
        except* StoreError:
            refused = True
        assert refused
        assert "14 torn bytes" in caplog.text


async def test_a_full_disk_damages_nothing() -> None:
    """Full after any number of bytes: stopped at once, sound, and gone on from when there is room."""
    random = Random(5)
    for _ in range(6):
        with laboratory(40, files_per_job=4, faults={"partial": 0.3}, commit_s=0.01) as lab:
            await lab.plan()
            for _ in range(3):
                lab.store.fail_after(bytes_written=random.randrange(20_000))
                try:
                    ending = await lab.run()
                except* StoreError:
                    assert (await lab.verify()).errors == []
                else:
                    assert ending.state == "complete"
                    break
            else:
                await ends_well(lab)
            assert await lab.judge() == {}


async def test_creates_end_at_the_deadline_and_jobs_in_flight_are_collected() -> None:
    """Creates end at the given time, and what is out is collected for as long as it may."""
    with laboratory(100, job_duration_s=20.0, job_duration_sigma=0, limits={"jobs_in_flight": 2}) as lab:
        ending = await lab.run(until_s=lab.clock.wall_s() + 30)
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.INCOMPLETE)
        assert 40 <= anyio.current_time() < 46
        assert len(lab.outcomes()) == 40
        await ends_well(lab)
        assert lab.accepted() == 10


# --- Failed files again ----------------------------------------------------------------------------------------------


async def test_failed_files_get_a_new_chance() -> None:
    """What was null in the first run and isn't in the retry: one outcome each, the earlier failures kept."""
    with laboratory(60, limits={"attempts": 1}) as lab:
        hide = True

        async def nothing_known(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if not hide or not request.url.path.endswith("/results"):
                return response
            body = response.json()
            body["items"] = [item for item in body["items"] if not item["file_id"].endswith("3")]
            return httpx.Response(200, json=body)

        lab.wire.after = nothing_known
        assert (await lab.run()).exit_status == ExitStatus.FAILURES
        failed = set(lab.codes())
        assert failed == {file_id for file_id in lab.file_ids if file_id.endswith("3")}
        hide = False
        ending = await lab.run(retry_failed=True)
        assert (ending.state, ending.exit_status) == ("complete", ExitStatus.COMPLETE)
        verified = await lab.verify()
        assert (verified.errors, verified.complete) == ([], True)
        assert lab.outcomes().keys() == set(lab.file_ids)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_page_in_the_apis_place_fails_no_file(version: str) -> None:
    """A gateway refuses creates with a 400 and a page of HTML: a person looks at it, and then the same command goes on
    without a file lost or paid twice."""
    with laboratory(20, version=version, latency_s=0.01) as lab:

        async def refuse(request: httpx.Request) -> httpx.Response | None:
            return (
                httpx.Response(400, text="<html><title>400 Bad Request</title></html>") if is_create(request) else None
            )

        lab.wire.before = refuse
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.PERSON)
        assert lab.outcomes() == {}
        lab.wire.before = nothing
        await ends_well(lab)


# --- Power cuts ------------------------------------------------------------------------------------------------------

NIGHTS: dict[str, dict[str, Any]] = {
    "kind": {},
    "faults": {
        "faults": {
            "lost_create_answer": 0.1,
            "create_503_after": 0.05,
            "create_503_before": 0.05,
            "rate_429": 0.05,
            "read_503": 0.05,
            "error": 0.05,
            "cancelled": 0.05,
            "partial": 0.1,
            "null_result": 0.05,
            "list_lag_s": 2.0,
            "get_lag_s": 1.0,
        }
    },
    "single files": {"files_per_job": 1, "count": 20, "faults": {"null_result": 0.4, "lost_create_answer": 0.3}},
    "long jobs": {"job_duration_s": 30.0, "mean_s": 30.0, "faults": {"lost_create_answer": 0.2}},
    "other lists": {"list_order": "shuffled", "list_page_size_max": 10, "faults": {"lost_create_answer": 0.2}},
    "poison": {"faults": {"poison_share": 0.05}, "limits": {"attempts": 2}},
    "many slots": {"count": 150, "limits": {"jobs_in_flight": 30, "requests_in_flight": 30}, "mean_s": 4.0},
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("night", NIGHTS.values(), ids=NIGHTS.keys())
async def test_power_cuts_at_any_moment(night: dict[str, Any], seed: int) -> None:
    """Six, with any share of the last group on the disk and any call on the wire: nothing is lost, nothing is twice."""
    random = Random(seed)
    given = dict(night)
    count, mean_s = given.pop("count", 50), given.pop("mean_s", 8.0)
    limits = {"jobs_in_flight": 4, "requests_in_flight": 4, **given.pop("limits", {})}
    options = {"files_per_job": 5, "commit_s": 0.01, **given}
    with laboratory(count, limits=limits, seed=seed, latency_s=lambda: 0.2 * random.random(), **options) as lab:
        ending = await lab.run_through_power_cuts(random, mean_s, 6)
        assert ending.state == "complete"
        assert await lab.judge() == {}
