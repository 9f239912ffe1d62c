"""Whole runs on v2 of the API, in virtual time: one file a job, an idempotency key, answers in the list."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import httpx
import pytest

from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ExitStatus
from classify_batch.llamacloud.v2.batch_api import ApiV2
from classify_batch.model import Attempt, AttemptKey, Part
from classify_batch.operations.api_version import make_api
from classify_batch.settings.job_spec import ParsingConfiguration
from classify_batch.vocabulary import Log
from tests.support.simulated_run import Lab, answer, as_it_is, ends_well, is_create, laboratory

pytestmark = pytest.mark.anyio

KEY_OF_VERSION_02 = "224c1d58f0077afe5607104f4326a73489a23cce59eda13ffe64d15baf76aee0"
"""Of a file whose `target_pages` are the first seven: with another one, a run of that version would pay it again."""


async def test_a_run_without_faults_creates_each_job_once_and_asks_for_no_results() -> None:
    """One create a file; the answers come with the polls, and no results are asked for."""
    with laboratory(200, version="v2", latency_s=0.01, limits={"jobs_in_flight": 100}) as lab:
        await ends_well(lab)
        assert lab.wire.count("POST") == 200
        assert not [path for _, _, path in lab.wire.requests if path.endswith("/results")]
        assert len(lab.wire.requests) <= 200 * 1.3


async def test_answers_that_are_lost_cost_nothing() -> None:
    """A create whose answer is lost is made again under the same key, and gives the same job: nothing to reconcile, no
    wait."""
    random = Random(1)
    with laboratory(100, version="v2", latency_s=0.01) as lab:

        async def lose_some(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_create(request) and random.random() < 0.3:
                raise httpx.ReadError("lost")
            return answer(502) if is_create(request) and random.random() < 0.2 else response

        lab.wire.after = lose_some
        await ends_well(lab)
        assert lab.wire.count("POST") > 130
        assert sum(1 for _ in lab.app.job_table) == 100


async def test_a_lost_create_is_never_given_back() -> None:
    """The API went silent after it had accepted: a later process makes the same call, and no second job."""
    with laboratory(3, version="v2", job_duration_s=2.0, limits={"patience_s": 30.0}) as lab:

        async def lose(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            raise httpx.ReadError("lost")

        hear, lab.wire.after = lab.wire.after, lose
        assert (await lab.run()).state == "incomplete"
        lab.wire.after = hear
        await ends_well(lab)
        assert sum(1 for _ in lab.app.job_table) == 3


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_an_intent_is_written_when_its_own_turn_comes(version: str) -> None:
    """None is written for a create that waits: a later process searches for its job, or repeats it, whatever bound of
    credits it was given."""
    limits = {"jobs_in_flight": 20, "requests_per_s": 5.0}
    size: dict[str, Any] = {"files_per_job": 1} if version == "v1" else {}
    with laboratory(30, version=version, latency_s=0.02, job_duration_s=60.0, limits=limits, **size) as lab:

        async def count_intents(request: httpx.Request) -> httpx.Response | None:
            if is_create(request):
                assert sum(len(line["items"]) for line in intents(lab)) == lab.wire.count("POST")
            return None

        lab.wire.before = count_intents
        await ends_well(lab)


def intents(lab: Lab) -> list[dict[str, Any]]:
    return [line for line in lab.lines(Log.JOURNAL) if line["kind"] == "submitting"]


@pytest.mark.parametrize("kind", ["402", "deadline"])
async def test_a_lost_create_outlives_a_stop(kind: str) -> None:
    """Out of credits, or a deadline: what may have been accepted stays open, with its credits set aside."""
    with laboratory(6, version="v2", job_duration_s=2.0, limits={"max_credits": 30}) as lab:
        lost: list[httpx.Request] = []

        async def broke(request: httpx.Request) -> httpx.Response | None:
            last = kind == "402" and is_create(request) and b'"file-5"' in request.content
            return answer(402, {"detail": "no credits"}) if last else None

        async def lose(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_create(request) and b'"file-0"' in request.content and not lost:
                lost.append(request)
                if kind == "deadline":
                    lab.stopping.request_stop(Stop("a deadline", collects=True))
                raise httpx.ReadError("lost")
            return response

        hear, lab.wire.before, lab.wire.after = lab.wire.before, broke, lose
        assert (await lab.run()).state == "incomplete"
        assert lost
        credits = json.loads(lab.store.files["manifest.json"])["credits"]
        assert credits["reserved"] >= sum(1 for _ in lab.app.job_table)
        lab.wire.before = hear
        await ends_well(lab)
        assert sum(1 for _ in lab.app.job_table) == 6


@pytest.mark.parametrize("seed", range(5))
async def test_power_cuts_at_any_moment(seed: int) -> None:
    """However often the plug is pulled, each file has one outcome and was paid once."""
    with laboratory(60, version="v2", latency_s=0.05, commit_s=0.01, job_duration_s=1.0, seed=seed) as lab:
        await lab.run_through_power_cuts(Random(seed), 0.7, 12)
        assert await lab.judge() == {}


async def test_jobs_that_fail_are_tried_again_as_new_jobs() -> None:
    """A second attempt is a new job: its key is another."""
    with laboratory(60, version="v2", faults={"error": 0.3}) as lab:
        ending = await lab.run()
        assert ending.state == "complete"
        assert await lab.judge() == {}
        assert sum(1 for _ in lab.app.job_table) > 70
        assert set(lab.codes().values()) <= {"job_error"}


@pytest.mark.parametrize(
    "faults",
    [{"list_lag_s": 3.0}, {"rate_429": 0.1}, {"read_503": 0.1}, {"cancelled": 0.2}, {"unknown_status": 0.5}],
    ids=str,
)
async def test_v2_survives_the_faults_of_v1(faults: dict[str, object]) -> None:
    """Every fault that a run on v1 survives it survives on v2."""
    with laboratory(60, version="v2", latency_s=0.01, faults=faults) as lab:
        ending = await lab.run()
        assert ending.state == "complete"
        assert await lab.judge() == {}


async def test_creates_keep_to_their_rate() -> None:
    """Forty a second is documented: none beyond it, and nearly all of it used."""
    with laboratory(
        1200, version="v2", latency_s=0.02, job_duration_s=2.0, limits={"jobs_in_flight": 500, "requests_per_s": 60.0}
    ) as lab:
        await ends_well(lab)
        moments = [at for at, method, _ in lab.wire.requests if method == "POST"]
        assert max(sum(start <= at < start + 1 for at in moments) for start in moments) <= 40
        assert len(moments) / (moments[-1] - moments[0]) >= 0.95 * 40
        assert len(lab.wire.requests) <= 1.2 * 1200


async def test_the_key_is_the_attempts_own() -> None:
    """They differ by run, file, rules, mode, parsing configuration and attempt, and by nothing else."""
    with laboratory(3, version="v2") as lab:

        def key(run_id: str = "run", file_id: str = "f", chunk: int = 0, attempt: int = 1, **job: object) -> str:
            settings = lab.settings.model_copy(update={"job": lab.settings.job.model_copy(update=job)})
            api = make_api(settings, None, run_id)  # type: ignore[arg-type]
            assert isinstance(api, ApiV2)
            return api.transaction_id(Attempt(AttemptKey(chunk, attempt), Part(chunk), (file_id,), (0,)))

        same = key()
        assert key() == key(chunk=7) == same
        named = ParsingConfiguration(target_pages=tuple(range(7)))
        assert key(parsing_configuration=named) == KEY_OF_VERSION_02
        rules = lab.settings.job.rules
        assert key(rules=tuple(reversed(rules))) == same
        others = [key(run_id="other"), key(file_id="g"), key(attempt=2), key(rules=rules[:1]), key(mode="MULTIMODAL")]
        assert len({same, *others}) == 6


@pytest.mark.parametrize("was_empty", [False, True], ids=["none, then empty", "empty, then none"])
async def test_an_empty_parsing_configuration_pays_nothing_twice(was_empty: bool) -> None:
    """It makes the same run as none at all: so whoever adds or removes one goes on with the same transactions."""
    planned, given = (None, ParsingConfiguration()) if not was_empty else (ParsingConfiguration(), None)
    with laboratory(4, version="v2") as lab:

        def set_parsing(parsing: ParsingConfiguration | None) -> None:
            job = lab.settings.job.model_copy(update={"parsing_configuration": parsing})
            lab.settings = lab.settings.model_copy(update={"job": job})

        set_parsing(planned)
        lab.wire.lose_create_answers(Random(1), 1.0)
        assert await lab.run_until_power_cut(0.2) is None
        assert lab.accepted() == 4
        lab.wire.after = as_it_is
        set_parsing(given)
        await ends_well(lab)
        assert lab.accepted() == 4


async def test_a_refused_file_fails_alone() -> None:
    """400 and 422 name the one file there is; a fault in what every create says alike is for a person."""
    with laboratory(10, version="v2") as lab:

        async def refuse(request: httpx.Request) -> httpx.Response | None:
            if is_create(request) and b'"file-3"' in request.content:
                return answer(400, {"detail": "File ID file-3 is not in Project ID p"})
            return None

        lab.wire.before = refuse
        ending = await lab.run()
        assert ending.state == "complete"
        assert lab.codes() == {"file-3": "rejected"}
    with laboratory(10, version="v2") as lab:

        async def refuse_the_rules(request: httpx.Request) -> httpx.Response | None:
            fault = {"loc": ["body", "configuration", "rules", 0], "msg": "no such rule", "type": "value_error"}
            return answer(422, {"detail": [fault]}) if is_create(request) else None

        lab.wire.before = refuse_the_rules
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.PERSON)


@pytest.mark.parametrize("name", ["null", "missing", "number"])
async def test_a_job_that_does_not_name_its_file_is_paid_once(name: str) -> None:
    """A job of one's own has one file, so its answer is about that one, whether the server says so or not."""
    with laboratory(5, version="v2", latency_s=0.01) as lab:

        async def hide_file(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            body = json.loads(response.content)
            for job in body.get("items", [body]):
                if "file_input" in job:
                    job["file_input"] = 7 if name == "number" else None
                if name == "missing":
                    job.pop("file_input", None)
            return answer(response.status_code, body)

        lab.wire.after = hide_file
        await ends_well(lab)
        assert lab.wire.count("POST") == 5


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"])
async def test_jobs_without_a_time_are_found_in_the_whole_list(time: str) -> None:
    """Each create's answer is lost twice, and jobs have a time that none can have: nothing is filtered by it."""
    lost: Counter[str] = Counter()
    with laboratory(6, version="v2", latency_s=0.01) as lab:

        async def lose_twice(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            body = json.loads(response.content)
            for job in body.get("items", [body]):
                job["created_at"] = time
            if is_create(request) and (key := body["transaction_id"]) and lab.wire.count("POST") > 1 and lost[key] < 2:
                lost[key] += 1
                raise httpx.ReadError("lost")
            return answer(response.status_code, body)

        lab.wire.after = lose_twice
        await ends_well(lab)
        assert len(lost) >= 3
        assert sum(1 for _ in lab.app.job_table) == 6
