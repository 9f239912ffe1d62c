"""What was found to be paid twice: each a hole in the promise once, in virtual time."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import anyio
import httpx
import pytest

from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ExitStatus
from classify_batch.vocabulary import Log
from tests.support.loop_clock import LoopClock
from tests.support.simulated_run import Lab, answer, ends_well, is_create, laboratory, retried_well

pytestmark = pytest.mark.anyio


BOTH = pytest.mark.parametrize("version", ["v1", "v2"])


def set_wall_clock(lab: Lab, ahead_s: float) -> None:
    """The next process runs on a machine whose clock is so far ahead."""
    lab.clock = LoopClock(LoopClock().wall_s() - anyio.current_time() + ahead_s)


def lines_of(lab: Lab, kind: str) -> list[dict[str, Any]]:
    return [line for line in lab.lines(Log.JOURNAL) if line["kind"] == kind]


# --- A call that outlives its process ---------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("accept_after_s", [30.0, 59.0])
@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
async def test_a_create_on_the_wire_is_waited_for_when_its_process_is_gone(
    version: str, accept_after_s: float, kill: bool
) -> None:
    """The API takes its time to accept: the next process waits that out before it sends anything again."""
    faults = {"create_slow": 1.0, "accept_after_s": accept_after_s}
    with laboratory(60, files_per_job=5, version=version, faults=faults, limits={"settle_s": 20.0}) as lab:
        if kill:
            assert await lab.run_until_power_cut(2.2) is None
        else:
            async with anyio.create_task_group() as tasks:

                async def stop() -> None:
                    await anyio.sleep(2.2)
                    lab.stopping.request_stop(Stop("interrupted"))

                tasks.start_soon(stop)
                assert (await lab.run()).exit_status == ExitStatus.INCOMPLETE
        await ends_well(lab)
        assert lab.accepted() == (12 if version == "v1" else 60)


async def test_the_senders_patience_counts_where_the_next_process_has_less() -> None:
    """A process that gave its calls two minutes leaves calls that may be accepted for two minutes."""
    faults = {"create_slow": 1.0, "accept_after_s": 110.0}
    with laboratory(20, files_per_job=5, faults=faults, timeout_s=120.0) as lab:
        assert await lab.run_until_power_cut(2.0) is None
        api = lab.settings.api.model_copy(update={"timeout_s": 60.0})
        lab.settings = lab.settings.model_copy(update={"api": api})
        await ends_well(lab)
        assert lab.accepted() == 4


# --- Clocks -----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("ahead_s", [-3600.0, -60.0, -8.0, 8.0, 60.0, 3600.0])
async def test_the_next_process_may_have_another_clock(version: str, ahead_s: float) -> None:
    """It runs on another machine, or NTP corrected this one: no time of ours says which job is ours."""
    faults = {"lost_create_answer": 0.7}
    with laboratory(60, files_per_job=5, version=version, faults=faults, job_duration_s=5.0, date_ahead_s=0.0) as lab:
        set_wall_clock(lab, ahead_s)
        assert await lab.run_until_power_cut(2.0) is None
        set_wall_clock(lab, 0.0)
        await ends_well(lab)
        assert lab.accepted() == (12 if version == "v1" else 60)


@BOTH
@pytest.mark.parametrize("date_ahead_s", [-40.0, -8.0, 8.0, 40.0])
async def test_the_date_header_may_come_from_another_clock(version: str, date_ahead_s: float) -> None:
    """A proxy may write it: it is not the clock that stamps the jobs."""
    faults = {"lost_create_answer": 0.7}
    with laboratory(60, files_per_job=5, version=version, faults=faults, date_ahead_s=date_ahead_s) as lab:
        await ends_well(lab)
        assert lab.accepted() == (12 if version == "v1" else 60)


async def test_servers_whose_clocks_disagree_by_more_than_is_allowed_end_exclusion_by_time() -> None:
    """A job of ours that shows as older than one that was there before it: from then on no time excludes a job."""
    limits = {"clock_spread_s": 2.0, "jobs_in_flight": 3}
    with laboratory(120, files_per_job=5, job_duration_s=5.0, limits=limits) as lab:
        lost = 0

        async def lose(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            nonlocal lost
            if is_create(request) and _has_times_apart(lab):
                lost += 1
                raise httpx.ReadError("lost")
            return _back(response, 100.0)

        lab.wire.after = lose
        await ends_well(lab)
        assert lost > 5
        assert lab.accepted() == 24


@pytest.mark.parametrize("by_id", [True, False], ids=["list and single jobs", "list"])
async def test_a_job_list_with_another_clock_than_creates_ends_exclusion_by_time(by_id: bool) -> None:
    """Creates and the list show the same job at times that are hours apart: none of them excludes a job."""
    with laboratory(120, files_per_job=5, job_duration_s=3.0, limits={"jobs_in_flight": 3}) as lab:
        creates = 0

        async def lose_one(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            nonlocal creates
            if is_create(request):
                creates += 1
                if creates == 10:
                    raise httpx.ReadError("lost")
                return response
            return _all_back(response, 7200.0) if by_id or not request.url.path.count("/jobs/") else response

        lab.wire.after = lose_one
        await ends_well(lab)
        assert lab.accepted() == 24
        assert _has_times_apart(lab)


@pytest.mark.parametrize("lost_call", [2, 3, 4])
@pytest.mark.parametrize("is_resumed", [False, True], ids=["one process", "resumed"])
async def test_a_list_with_another_clock_is_noticed_before_a_job_is_polled(lost_call: int, is_resumed: bool) -> None:
    """The run's first jobs last long, so that only the search for a lost create shows what the list says of them."""
    with laboratory(20, files_per_job=5, job_duration_s=600.0, job_duration_sigma=0.0) as lab:
        creates = 0

        async def lose_one(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            nonlocal creates
            if is_create(request):
                creates += 1
                if creates == lost_call:
                    raise httpx.ReadError("lost")
                return response
            return response if request.url.path.count("/jobs/") else _all_back(response, 7200.0)

        lab.wire.after = lose_one
        if is_resumed:
            assert await lab.run_until_power_cut(2.0) is None
        await ends_well(lab)
        assert lab.accepted() == 4
        assert _has_times_apart(lab)


class CachedList:
    """One create's answer is lost, and until `until_s` the job list is answered from before that create."""

    def __init__(self, lab: Lab, lost_call: int, until_s: float = math.inf) -> None:
        self._creates, self._lost_call, self._until_s = 0, lost_call, until_s
        self._kept = dict[str, httpx.Response]()
        lab.wire.after = self.after

    async def after(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if is_create(request):
            self._creates += 1
            if self._creates == self._lost_call:
                raise httpx.ReadError("lost")
        elif request.url.path.endswith("/jobs") and anyio.current_time() < self._until_s:
            kept = self._kept.setdefault(str(request.url), response)
            return httpx.Response(kept.status_code, json=kept.json())
        return response


@pytest.mark.parametrize("lost_call", [1, 3, 4])
@pytest.mark.parametrize("is_resumed", [False, True], ids=["one process", "resumed"])
async def test_a_list_that_lacks_jobs_of_ours_proves_nothing(lost_call: int, is_resumed: bool) -> None:
    """A cache answers it as it was before the creates, for longer than any settling time."""
    with laboratory(20, files_per_job=5, job_duration_s=600.0, job_duration_sigma=0.0) as lab:
        CachedList(lab, lost_call, until_s=anyio.current_time() + 400.0)
        if is_resumed:
            assert await lab.run_until_power_cut(2.0) is None
        await ends_well(lab)
        assert lab.accepted() == 4


async def test_a_list_that_never_shows_our_jobs_leaves_a_lost_create_unresolved() -> None:
    """A file that may be paid for is not sent again, and the user is told what the list lacks."""
    with laboratory(20, files_per_job=5, limits={"job_timeout_s": 900.0}) as lab:
        CachedList(lab, lost_call=3)
        ending = await lab.run()
        assert ending.state == "complete"
        assert lab.accepted() == 4
        messages = {line["message"] for line in lab.lines(Log.FAILURES)}
        assert len(messages) == 1
        assert "the job list lacks job " in messages.pop()


@pytest.mark.parametrize("age", ["0", "600"])
async def test_a_list_that_a_cache_kept_proves_nothing(age: str) -> None:
    """The run's only create is lost, and a cache gives the list of before it for a while, and says how old it is. One
    that asked the server says 0."""
    with laboratory(5, files_per_job=5, job_duration_s=10.0) as lab:
        cached = CachedList(lab, lost_call=1, until_s=anyio.current_time() + 300.0 * bool(int(age)))

        async def tell_age(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            response = await cached.after(request, response)
            if anyio.current_time() < 300.0:
                response.headers["Age"] = age
            return response

        lab.wire.after = tell_age
        await ends_well(lab)
        assert lab.accepted() == 1
        assert (anyio.current_time() < 300.0) is (age == "0")


async def test_a_list_without_the_latest_jobs_of_a_fast_run_proves_nothing() -> None:
    """Hundreds of jobs are made within the settling time, and a cache shows those from before the lost create."""
    limits = {"jobs_in_flight": 10, "settle_s": 20.0}
    with laboratory(900, files_per_job=1, job_duration_s=1.0, limits=limits) as lab:
        creates, kept, until_s = 0, dict[str, httpx.Response](), math.inf

        async def keep(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            nonlocal creates, until_s
            if is_create(request):
                creates += 1
                if creates == 300:
                    until_s = anyio.current_time() + 120.0
                    raise httpx.ReadError("lost")
            elif request.url.path.endswith("/jobs"):
                if creates < 300:
                    kept["first page"] = response
                elif anyio.current_time() < until_s:
                    return answer(200, {"items": kept["first page"].json()["items"]})
            return response

        lab.wire.after = keep
        await ends_well(lab)
        assert lab.accepted() == 900


async def test_a_create_that_is_answered_slowly_is_no_sign_of_another_clock() -> None:
    """Its job is as old as the call, and other jobs were answered long before it."""
    with laboratory(200, files_per_job=5, job_duration_s=5.0, timeout_s=200.0, limits={"jobs_in_flight": 3}) as lab:
        creates = 0

        async def delay(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            nonlocal creates
            creates += is_create(request)
            if is_create(request) and creates == 5:
                await anyio.sleep(100.0)
            if is_create(request) and creates == 35:
                raise httpx.ReadError("lost")
            return response

        lab.wire.after = delay
        await ends_well(lab)
        assert not _has_times_apart(lab)


async def test_a_list_may_lack_jobs_of_ours_that_were_deleted() -> None:
    """They aren't there by their IDs, either: what the list shows counts as before."""
    with laboratory(20, files_per_job=5, limits={"jobs_in_flight": 1}) as lab:
        creates = 0

        async def refuse_third(request: httpx.Request) -> httpx.Response | None:
            nonlocal creates
            creates += is_create(request)
            if is_create(request):
                return answer(504, {"detail": "timeout"}) if creates == 3 else None
            is_of_one_job = request.url.path.count("/jobs/") > 0
            return answer(404, {"detail": "Not Found"}) if is_of_one_job and creates == 3 else None

        async def list_none(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            return answer(200, {"items": []}) if creates == 3 and request.url.path.endswith("/jobs") else response

        lab.wire.before, lab.wire.after = refuse_third, list_none
        await ends_well(lab)
        assert lab.accepted() == 4


def _all_back(response: httpx.Response, by_s: float) -> httpx.Response:
    """Every job that it shows is stamped by a clock that is behind."""
    body = response.json()
    for job in body.get("items", [body]):
        if job.get("created_at"):
            job["created_at"] = _earlier(job["created_at"].replace("Z", "+00:00"), by_s)
    return httpx.Response(response.status_code, json=body)


def _has_times_apart(lab: Lab) -> bool:
    return any(line.get("times_apart") for line in lab.lines(Log.JOURNAL))


def _back(response: httpx.Response, by_s: float) -> httpx.Response:
    """Every other job is stamped by a clock that is behind."""
    body = response.json()
    for job in body.get("items", [body]):
        if "created_at" in job and int(job["id"][-1], 16) % 2:
            created_at = job["created_at"].replace("Z", "+00:00")
            job["created_at"] = _earlier(created_at, by_s)
    return httpx.Response(response.status_code, json=body)


def _earlier(moment: str, by_s: float) -> str:
    return (datetime.fromisoformat(moment) - timedelta(seconds=by_s)).isoformat()


# --- Other people's jobs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@BOTH
async def test_all_jobs_that_answer_count(version: str, seed: int) -> None:
    """Somebody else classifies some of our files by the same rules; answers are lost, and jobs leave files out."""
    faults = {"lost_create_answer": 0.6, "overlap": 1.0, "partial": 0.5, "null_result": 0.1}
    limits = {"attempts": 6}
    with laboratory(60, files_per_job=10, version=version, faults=faults, limits=limits, seed=seed) as lab:
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}
        held = Counter(file_id for job in lab.app.job_table if not job.by_other for file_id in job.file_ids)
        failed = [line for line in lab.lines(Log.FAILURES) if line["code"] == "not_answered"]
        assert all(held[line["file_id"]] for line in failed), "a file failed that no job of ours ever held"


@pytest.mark.parametrize("seed", range(4))
async def test_no_outcome_tells_a_mode_that_its_job_may_not_have_had(seed: int) -> None:
    """Where the API doesn't tell the mode of a job that was found, another run's FAST job may be it: `mode` is null."""
    config = {"escalation": {"below_confidence": 0.8, "unmatched": True}}
    faults = {"lost_create_answer": 0.5, "overlap": 1.0, "overlap_mode": "FAST", "partial": 0.3}
    limits = {"attempts": 6}
    with laboratory(60, config=config, faults=faults, limits=limits, seed=seed, silent_mode=True) as lab:
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}
        modes = {job.job_id: job.mode for job in lab.app.job_table}
        lines = lab.lines(Log.RESULTS)
        assert any(line["mode"] is None for line in lines)
        for line in [*lines, *(line["other"] for line in lines if "other" in line)]:
            assert line.get("job_id") is None or line["mode"] in (None, modes[line["job_id"]])


# --- Lists ------------------------------------------------------------------------------------------------------------


async def test_a_candidate_that_the_list_leaves_out_stays_one() -> None:
    """A lagging replica shows a job and then not: it is asked for by itself, and is waited for."""
    faults = {"lost_create_answer": 1.0, "list_hides_after_s": 3.0, "list_hides_for_s": 300.0}
    with laboratory(20, files_per_job=5, faults=faults, job_duration_s=120.0, job_duration_sigma=0.0) as lab:
        await ends_well(lab)
        assert lab.accepted() == 4


@pytest.mark.parametrize("seed", range(6))
async def test_a_job_that_ends_between_two_page_readings_is_found(seed: int) -> None:
    """A list ordered by change shifts while it is read, and what one reading missed the next one shows."""
    faults = {"lost_create_answer": 0.5}
    with laboratory(
        120,
        files_per_job=2,
        faults=faults,
        seed=seed,
        list_order="changed",
        list_page_size_max=5,
        list_page_size_clamp=True,
        latency_s=0.2,
        job_duration_s=3.0,
        limits={"settle_s": 3.0, "accept_s": 3.0},
        timeout_s=3.0,
    ) as lab:
        await ends_well(lab)


# --- Refusals ---------------------------------------------------------------------------------------------------------


class FirstLost:
    """Each create is accepted and its answer lost; what is sent again is refused: the file expired meanwhile."""

    def __init__(self, lab: Lab) -> None:
        self.calls = Counter[str]()
        lab.wire.before, lab.wire.after = self.before, self.after

    async def before(self, request: httpx.Request) -> httpx.Response | None:
        if not is_create(request):
            return None
        body = json.loads(request.content)
        self.calls[body["transaction_id"]] += 1
        again = self.calls[body["transaction_id"]] > 1
        return answer(400, {"detail": f"File ID {body['file_input']} is not in Project ID p"}) if again else None

    async def after(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if is_create(request) and response.status_code == 200:
            raise httpx.ReadError("lost")
        return response


async def test_a_refusal_after_a_lost_create_proves_nothing() -> None:
    """The job is looked for by its transaction ID, and taken."""
    with laboratory(40, version="v2", limits={"max_credits": 1000}) as lab:
        FirstLost(lab)
        await ends_well(lab)
        assert len(lab.outcomes()) == 40
        assert lab.codes() == {}


async def test_what_can_not_be_found_after_a_refusal_is_unresolved_and_keeps_its_credits() -> None:
    """A server that tells neither transaction IDs nor files: perhaps paid, and never paid again."""
    with laboratory(10, version="v2", limits={"max_credits": 1000}) as lab:
        first = FirstLost(lab)

        async def tells_no_transaction(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            response = await first.after(request, response)
            body = response.json()
            for job in body.get("items", [body]):
                job.pop("transaction_id", None)
                job.pop("file_input", None)
            return httpx.Response(response.status_code, json=body)

        lab.wire.after = tells_no_transaction
        ending = await lab.run()
        assert ending.state == "complete"
        assert set(lab.codes().values()) == {"unresolved"}
        assert ending.manifest["credits"] == {"reserved": 50, "billed": None}
        await lab.run(retry_failed=True)
        assert lab.paid_twice() == []
        assert lab.accepted() == 10


class KnownTransactions:
    """Some creates are accepted and their answers lost; a create under a known transaction ID is answered with 409, and
    no job shows its transaction ID. `repeats`: how often the server answers 409 before it takes the call after all."""

    def __init__(self, lab: Lab, lost: int, repeats: float, hidden: Sequence[str] = ()) -> None:
        self.calls = Counter[str]()
        self._lost, self._repeats, self._hidden = lost, repeats, ("transaction_id", *hidden)
        lab.wire.before, lab.wire.after = self.before, self.after

    async def before(self, request: httpx.Request) -> httpx.Response | None:
        if not is_create(request):
            return None
        transaction_id = json.loads(request.content)["transaction_id"]
        self.calls[transaction_id] += 1
        known = 1 < self.calls[transaction_id] <= 1 + self._repeats
        return answer(409, {"detail": "transaction exists"}) if known else None

    async def after(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if is_create(request) and len(self.calls) <= self._lost and max(self.calls.values()) == 1:
            raise httpx.ReadError("lost")
        body = response.json()
        for job in body.get("items", [body]):
            for name in self._hidden:
                job.pop(name, None)
        return httpx.Response(response.status_code, json=body)


@pytest.mark.parametrize("killed_after_s", [None, 0.5, 2.0])
async def test_a_known_transaction_is_found_by_its_file(killed_after_s: float | None) -> None:
    """A server that answers a repeated create with 409, and whose list shows no transaction ID: it is repeated a few
    times, and then the one job that fits is taken; also by a later process."""
    with laboratory(20, version="v2", limits={"accept_s": 20.0, "settle_s": 5.0}) as lab:
        server = KnownTransactions(lab, lost=3, repeats=math.inf)
        if killed_after_s is not None:
            assert await lab.run_until_power_cut(killed_after_s) is None
        await ends_well(lab)
        assert (len(lab.outcomes()), lab.codes(), lab.accepted(), lab.paid_twice()) == (20, {}, 20, [])
        assert max(server.calls.values()) <= 60 * (1 if killed_after_s is None else 2)


async def test_a_known_transaction_that_can_not_be_found_is_unresolved() -> None:
    """The same server, whose list doesn't show the file, either."""
    with laboratory(20, version="v2", limits={"accept_s": 20.0, "settle_s": 5.0}) as lab:
        server = KnownTransactions(lab, lost=3, repeats=math.inf, hidden=["file_input"])
        assert (await lab.run()).state == "complete"
        assert list(lab.codes().values()) == ["unresolved"] * 3
        assert max(server.calls.values()) <= 60
        await lab.run(retry_failed=True)
        assert (lab.paid_twice(), lab.accepted()) == ([], 20)


async def test_a_transaction_that_is_locked_for_a_while_is_repeated() -> None:
    """A few 409s may mean that the first call is still at work: then the same call gives its job."""
    with laboratory(20, version="v2", limits={"accept_s": 20.0, "settle_s": 5.0}) as lab:
        KnownTransactions(lab, lost=3, repeats=4)
        await ends_well(lab)
        assert (lab.codes(), lab.accepted(), lab.paid_twice()) == ({}, 20, [])


@pytest.mark.parametrize("lock_s", [4.0, 30.0])
@pytest.mark.parametrize("is_made", [True, False])
async def test_a_transaction_may_be_locked_for_as_long_as_its_call_may_be_accepted(
    lock_s: float, is_made: bool
) -> None:
    """A gateway gave the first call up, and the key stays locked: its job is made, or the repeated call makes it."""
    with laboratory(5, version="v2", limits={"settle_s": 5.0}, timeout_s=20.0) as lab:
        first_s = dict[str, float]()

        async def lock(request: httpx.Request) -> httpx.Response | None:
            if not is_create(request):
                return None
            now_s, transaction_id = anyio.current_time(), json.loads(request.content)["transaction_id"]
            if transaction_id not in first_s:
                first_s[transaction_id] = now_s
                return None if is_made else answer(504, {"detail": "gateway timeout"})
            return answer(409, {"detail": "in progress"}) if now_s - first_s[transaction_id] < lock_s else None

        async def hide(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_create(request) and anyio.current_time() == first_s[json.loads(request.content)["transaction_id"]]:
                raise httpx.ReadError("lost")
            body = response.json()
            for job in body.get("items", [body]):
                job.pop("transaction_id", None)
            return httpx.Response(response.status_code, json=body)

        lab.wire.before, lab.wire.after = lock, hide
        await ends_well(lab)
        assert (lab.codes(), lab.accepted(), lab.paid_twice()) == ({}, 5, [])


@pytest.mark.parametrize("status", [302, 307, 404, 405])
async def test_a_create_that_something_else_answered_is_not_surely_refused(status: int) -> None:
    """A redirect or a 404 comes from what stands before the API: the run stops, and a later process finds the job."""
    with laboratory(20, files_per_job=5) as lab:
        first = True

        async def another(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            nonlocal first
            if is_create(request) and first:
                first = False
                return answer(status, {"detail": "moved"})
            return response

        lab.wire.after = another
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.PERSON)
        await ends_well(lab)
        assert lab.accepted() == 4


async def test_a_transaction_that_the_server_has_forgotten_is_looked_for_in_the_list() -> None:
    """Submitted now and resumed days later: how long the server keeps transaction IDs, nobody says."""
    faults = {"lost_create_answer": 0.8}
    with laboratory(30, version="v2", faults=faults, job_duration_s=5.0, forget_transactions_after_s=60.0) as lab:
        assert await lab.run_until_power_cut(2.0) is None
        assert lab.accepted() > 5
        await anyio.sleep(100_000)
        await ends_well(lab)
        assert lab.accepted() == 30


# --- Another project's key --------------------------------------------------------------------------------------------

OTHER = {"another-key-of-others": "another-project"}


@BOTH
@pytest.mark.parametrize("lost", [1.0, 0.5])
async def test_another_projects_key_sends_nothing_and_fails_nothing(version: str, lost: float) -> None:
    """Its empty list is no proof that our jobs aren't there, and its refusals are none of our files."""
    with laboratory(
        20,
        files_per_job=5,
        version=version,
        faults={"lost_create_answer": lost},
        job_duration_s=5.0,
        further_keys=OTHER,
        files_of_project="file-",
    ) as lab:
        assert await lab.run_until_power_cut(1.5) is None
        posts = lab.wire.count("POST")
        lab.api_key = next(iter(OTHER))
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.PERSON)
        assert lab.wire.count("POST") == posts
        assert lab.codes() == {}
        lab.api_key = lab.app.options.api_key
        await ends_well(lab)
        assert lab.accepted() == (4 if version == "v1" else 20)
        assert next(iter(OTHER)).encode() not in b"".join(lab.store.files.values())


@BOTH
async def test_a_job_of_another_project_is_named_on_one_line(version: str) -> None:
    """The server's words for it write no line of their own, such as a hint, and control no terminal."""
    with laboratory(20, files_per_job=5, version=version, limits={"jobs_in_flight": 1}) as lab:

        async def move_elsewhere(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if not is_create(request) or lab.wire.count("POST") < 2:
                return response
            return httpx.Response(response.status_code, json=response.json() | {"project_id": "p\x1b[2J\nhint: rm"})

        lab.wire.after = move_elsewhere
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.PERSON)
        reason = ending.reason or ""
        assert "was made in project p [2J hint: rm, and the run's jobs are in project " in reason
        assert reason.isprintable()


@BOTH
async def test_a_wrong_key_at_the_very_beginning_is_no_obstacle_later(version: str) -> None:
    """Nothing was accepted there: the right key goes on with the run."""
    with laboratory(20, files_per_job=5, version=version, further_keys=OTHER, files_of_project="file-") as lab:
        lab.api_key = next(iter(OTHER))
        await lab.run()
        assert set(lab.codes().values()) <= {"rejected"}
        lab.api_key = lab.app.options.api_key
        assert (await lab.run(retry_failed=True)).state == "complete"
        assert await lab.judge() == {}
        assert lab.codes() == {}


# --- Results ----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("shows", ["nothing", "null", "half"])
@pytest.mark.parametrize("lost", [0.0, 0.4])
async def test_results_that_lag_are_waited_for(version: str, shows: str, lost: float) -> None:
    """Before anything is paid again; in both statuses, and for jobs that were found."""
    faults = {"results_lag_s": 4.0, "results_lag_shows": shows, "partial": 0.3, "lost_create_answer": lost}
    with laboratory(60, files_per_job=10, version=version, faults=faults, limits={"attempts": 6}) as lab:
        await ends_well(lab)
        assert lab.codes() == {}


@BOTH
async def test_a_file_that_stays_without_an_answer_is_paid_again_only_after_the_settling_time(version: str) -> None:
    """And the others don't wait for it."""
    with laboratory(20, files_per_job=10, version=version, limits={"attempts": 2, "settle_s": 20.0}) as lab:

        async def never(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if response.status_code != 200 or is_create(request):
                return response
            body = response.json()
            for item in body.get("items", [body]):
                if "file-3" in (item.get("file_id"), item.get("file_input")):
                    item["result"] = None
            return httpx.Response(200, json=body)

        lab.wire.after = never
        assert (await lab.run()).state == "complete"
        times = [at for at, method, _ in lab.wire.requests if method == "POST"]
        assert times[-1] - times[0] >= 20.0
        assert lab.codes() == {"file-3": "not_answered"}


UUIDS = [str(uuid5(NAMESPACE_URL, str(number))) for number in range(30)]


@BOTH
@pytest.mark.parametrize(
    "file_ids", [UUIDS, [each.upper() for each in UUIDS], [each.replace("-", "") for each in UUIDS]]
)
@pytest.mark.parametrize("lost", [0.0, 0.4])
async def test_ids_that_the_server_spells_otherwise_are_the_same_files(
    version: str, file_ids: Sequence[str], lost: float
) -> None:
    """UUIDs are matched by value, and written as they were given."""
    faults = {"lost_create_answer": lost}
    with laboratory(30, files_per_job=5, version=version, upper_case_ids=True, faults=faults) as lab:
        lab.file_ids = file_ids
        await ends_well(lab)
        assert lab.codes() == {}
        assert lab.outcomes().keys() == set(file_ids)
        assert lab.accepted() == (6 if version == "v1" else 30)


@BOTH
async def test_a_job_that_answers_only_other_files_stops_the_run(version: str) -> None:
    """Before anything is sent again: a person has to see what the server does with these IDs."""
    with laboratory(20, files_per_job=5, version=version) as lab:

        async def odd(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if response.status_code != 200 or is_create(request):
                return response
            body = response.json()
            for item in body.get("items", [body]):
                for name in ("file_id", "file_input"):
                    if item.get(name):
                        item[name] = f"prefix/{item[name]}"
            return httpx.Response(200, json=body)

        lab.wire.after = odd
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.PERSON)
        assert "prefix/file-" in (ending.reason or "")
        assert lab.accepted() == (4 if version == "v1" else 20)
        lab.wire.after = lambda request, response: _as_it_is(response)
        await ends_well(lab)


async def _as_it_is(response: httpx.Response) -> httpx.Response:
    return response


# --- Money, and one job for two ---------------------------------------------------------------------------------------


async def test_a_bound_that_comes_later_knows_every_create_before_it() -> None:
    """Intents are durable before they leave, also where nobody asked for a bound."""
    limits: dict[str, object] = {"jobs_in_flight": 250, "creates_per_s": 1000.0, "requests_in_flight": 250}
    with laboratory(300, version="v2", limits=limits, latency_s=0.02, commit_s=0.005) as lab:
        assert await lab.run_until_power_cut(0.15) is None
        await anyio.sleep(1.0)  # what has left arrives
        spent = lab.accepted()
        assert spent > 20
        bounded = lab.settings.limits.model_copy(update={"max_credits": 10.0})
        lab.settings = lab.settings.model_copy(update={"limits": bounded})
        ending = await lab.run()
        assert ending.exit_status == ExitStatus.PERSON
        billed = sum(job.credits for job in lab.app.job_table)
        credits = ending.manifest["credits"]
        assert isinstance(credits, dict)
        assert credits["reserved"] >= billed
        assert lab.accepted() == spent


@BOTH
async def test_one_job_for_two_creates_stops_the_run(version: str) -> None:
    """It can't be both; the run says so instead of waiting for ever."""
    with laboratory(20, files_per_job=5, version=version, job_duration_s=30.0) as lab:
        job_ids: list[str] = []

        async def same(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_create(request) and response.status_code == 200:
                body = response.json()
                job_ids.append(body["id"])
                return httpx.Response(200, json=body | {"id": job_ids[0]})
            return response

        lab.wire.after = same
        with anyio.fail_after(1000):
            ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.PERSON)
        assert job_ids[0] in (ending.reason or "")
        lab.wire.after = lambda request, response: _as_it_is(response)
        await ends_well(lab)
        assert lab.accepted() == (4 if version == "v1" else 20)


# --- What comes and goes ----------------------------------------------------------------------------------------------


@BOTH
async def test_a_job_that_shows_an_error_and_then_its_answers_is_not_paid_again(version: str) -> None:
    """A failed job is asked once more before its files go out again."""
    with laboratory(20, files_per_job=5, version=version, job_duration_s=1.0) as lab:

        async def early(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if response.status_code != 200 or is_create(request) or anyio.current_time() > 4.0:
                return response
            body = response.json()
            for item in body.get("items", [body]):
                if item.get("status") in ("SUCCESS", "COMPLETED"):
                    item["status"] = "ERROR" if version == "v1" else "FAILED"
                    item.pop("result", None)
            return httpx.Response(200, json=body)

        lab.wire.after = early
        await ends_well(lab)
        assert lab.codes() == {}
        assert lab.accepted() == (4 if version == "v1" else 20)


async def test_a_poisoned_file_uses_up_no_attempt_of_its_neighbours() -> None:
    """While chunks are halved around it, one more bad job by chance fails no good file."""
    for seed in range(6):
        faults = {"poison": ["file-5"], "error": 0.15}
        with laboratory(16, files_per_job=16, faults=faults, seed=seed, limits={"settle_s": 1.0}) as lab:
            assert (await lab.run()).state == "complete"
            alone = Counter(
                job.file_ids[0] for job in lab.app.job_table if len(job.file_ids) == 1 and job.ending.status == "ERROR"
            )
            failed = set(lab.codes()) - {"file-5"}
            assert "file-5" in lab.codes()
            assert all(alone[file_id] >= 3 for file_id in failed)


# --- Results that are fewer than their total --------------------------------------------------------------------------


def _cut_results(lab: Lab, until_s: float) -> None:
    """Until then, the results of each job are its first page, without a token for the next one."""

    async def cut(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if not request.url.path.endswith("/results") or anyio.current_time() >= until_s:
            return response
        return httpx.Response(response.status_code, json=response.json() | {"next_page_token": None})

    lab.wire.after = cut


async def test_files_behind_a_token_that_is_missing_are_not_sent_again() -> None:
    """The total says that there are more results than came: they were perhaps paid, and a retry reads them."""
    with laboratory(20, files_per_job=5, results_page_size=2) as lab:
        _cut_results(lab, until_s=math.inf)
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}
        assert list(lab.codes().values()) == ["not_answered"] * 12
        assert all("more results" in line["message"] for line in lab.lines(Log.FAILURES))
        _cut_results(lab, until_s=0.0)
        await retried_well(lab)
        assert lab.accepted() == 4


async def test_results_that_are_to_come_by_their_total_are_waited_for() -> None:
    """Within `settle_s` after a job's end nothing is given up."""
    with laboratory(20, files_per_job=5, results_page_size=2, job_duration_s=1.0, job_duration_sigma=0.0) as lab:
        _cut_results(lab, until_s=5.0)
        await ends_well(lab)
        assert lab.codes() == {}
