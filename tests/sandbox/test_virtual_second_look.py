"""Whole runs with a second look at weak answers, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, repeat
from random import Random
from typing import Any

import httpx
import pytest

from classify_batch.errors import DamagedError, the_cause
from classify_batch.rundir.opened_run import read_run
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Log
from tests.support.simulated_run import Lab, is_create, laboratory

pytestmark = pytest.mark.anyio

WEAK = {"escalation": {"below_confidence": 0.6, "unmatched": True}}


def looks(lab: Lab) -> dict[str, set[str]]:
    """The files that were answered, by mode."""
    found: dict[str, set[str]] = {"FAST": set(), "MULTIMODAL": set()}
    for job in lab.app.job_table:
        found[job.mode] |= {file_id for _, file_id, has_result in job.answered_files() if has_result}
    return found


def is_weak(answer: dict[str, Any]) -> bool:
    return answer["type"] is None or (answer["confidence"] is not None and answer["confidence"] < 0.6)


async def test_only_weak_answers_are_looked_at_again() -> None:
    """In the better mode; both answers are kept, and the second counts."""
    with laboratory(200, config=WEAK) as lab:
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}
        outcomes = lab.outcomes()
        twice = {file_id for file_id, line in outcomes.items() if "other" in line}
        assert 20 < len(twice) < 180
        assert looks(lab) == {"FAST": set(lab.file_ids), "MULTIMODAL": twice}
        for file_id, line in outcomes.items():
            if file_id in twice:
                assert (line["counts"], line["mode"], line["other"]["mode"]) == ("second", "MULTIMODAL", "FAST")
                assert is_weak(line["other"])
            else:
                assert line["mode"] == "FAST"
                assert not is_weak(line)
        manifest = json.loads(lab.store.files["manifest.json"])
        assert manifest["second_looks"] == len(twice) == manifest["outputs"]["provisional.jsonl"]["lines"]
        assert manifest["credits"]["reserved"] == 5 * 200 + 2 * 5 * len(twice)


async def test_a_second_look_that_comes_to_nothing_keeps_the_first_answer() -> None:
    """Bad jobs, and files that the API refuses now: no file fails that was answered once."""
    with laboratory(100, config=WEAK, limits={"attempts": 2}) as lab:
        lots = Random(3)

        async def break_second(request: httpx.Request) -> httpx.Response | None:
            second = is_create(request) and json.loads(request.content)["mode"] == "MULTIMODAL"
            return httpx.Response(400, json={"detail": "no"}) if second and lots.random() < 0.5 else None

        lab.wire.before = break_second
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}
        counted = {line["counts"] for line in lab.outcomes().values() if "counts" in line}
        assert counted == {"first", "second"}
        assert lab.codes() == {}
        kept = next(line for line in lab.outcomes().values() if line.get("counts") == "first")
        assert kept["mode"] == "FAST"
        assert (kept["other"]["mode"], kept["other"]["code"]) == ("MULTIMODAL", "rejected")


@pytest.mark.parametrize("seed", range(8))
async def test_power_cuts_at_any_moment(seed: int) -> None:
    """Also between the two answers: nothing is lost, and neither is paid twice."""
    random = Random(seed)
    with laboratory(
        60,
        config=WEAK,
        latency_s=0.05,
        commit_s=0.01,
        job_duration_s=1.0,
        seed=seed,
        limits={"settle_s": 2.0, "attempts": 6},
        faults={"error": 0.1, "partial": 0.1},
    ) as lab:
        lab.wire.lose_create_answers(random, 0.1)
        await lab.run_through_power_cuts(Random(seed), 1.5, 12)
        assert await lab.judge() == {}
        for line in lab.outcomes().values():
            assert ("other" in line) == is_weak(line["other"] if line.get("counts") == "second" else line)


async def test_first_answers_that_nobody_committed_are_cut_off() -> None:
    """The disk kept them, and not the journal's line that speaks of them: they are asked for again, and stand once."""
    with laboratory(200, config=WEAK, job_duration_s=1.0, commit_s=0.4) as lab:
        left_over = 0
        for _ in range(20):
            kept = chain([False], repeat(True))  # the journal first

            def choose(least: int, most: int, kept: Iterator[bool] = kept) -> int:
                return most if next(kept) else least

            if await lab.run_until_power_cut(2.5, choose) is not None:
                break
            found = await read_run(lab.store)
            assert found is not None
            left_over += len(lab.store.files.get(Log.PROVISIONAL, b"")) - found.snapshot.provisional_end
        assert left_over > 0
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}


async def test_the_first_looks_job_is_not_taken_for_the_seconds() -> None:
    """It answers the same files; also where the server tells neither when a job was made nor in which mode."""
    weak = {"escalation": {"below_confidence": 1.0, "unmatched": True}}
    with laboratory(10, config=weak, job_duration_s=200.0) as lab:

        async def veil(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_create(request) and json.loads(request.content)["mode"] == "MULTIMODAL":
                raise httpx.ReadError("lost")
            body = response.json()
            for job in body.get("items", []):
                job.pop("created_at", None)
                job.pop("mode", None)
            return httpx.Response(response.status_code, json=body)

        lab.wire.after = veil
        assert (await lab.run()).state == "complete"
        first, second = sorted(lab.app.job_table, key=lambda job: job.number)
        assert (first.mode, second.mode) == ("FAST", "MULTIMODAL")
        assert {line["job_id"] for line in lab.outcomes().values()} == {second.job_id}


async def test_first_answers_that_are_gone_are_damage() -> None:
    """A second look without the first answer beside it would lose what was paid."""
    with laboratory(40, config=WEAK, job_duration_s=5.0) as lab:
        assert await lab.run_until_power_cut(7.0, max) is None
        assert lab.lines(Log.PROVISIONAL)
        lab.store = MemoryStore({name: data for name, data in lab.store.files.items() if name != Log.PROVISIONAL})
        with pytest.raises(BaseExceptionGroup) as caught:
            await lab.run()
        cause = the_cause(caught.value)
        assert isinstance(cause, DamagedError)
        assert "provisional.jsonl" in str(cause)
