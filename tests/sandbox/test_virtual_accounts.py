"""One run directory and the keys of several accounts, in virtual time: what one has sent is left to it, whatever was
killed or lost, and nothing is paid twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import anyio
import httpx
import pytest

from classify_batch.engine.progress import Ending
from classify_batch.errors import ExitStatus
from classify_batch.rundir.opened_run import read_run
from classify_batch.vocabulary import Log
from tests.support.simulated_run import Lab, answer, change_faults, is_create, laboratory

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("small_batches")]

NAMES = ("east", "west")
BOTH = pytest.mark.parametrize("version", ["v1", "v2"])
WORLDS = pytest.mark.parametrize("world", ["two servers", "two projects", "one project"])


@dataclass
class Team:
    """A run, and a laboratory for each account: of one server, with a key each, or with a server each."""

    labs: dict[str, Lab]

    def as_account(self, name: str | None, last: Lab | None = None) -> Lab:
        """The laboratory in which the next process has this account's key; `last`: where the run is now. None: it has
        no account, and the first one's key."""
        lab = self.labs[name or "east"]
        lab.account = name
        lab.store = (last or lab).store
        return lab

    def billed(self) -> Counter[str]:
        """How often each file was paid, by all accounts together."""
        apps = {id(lab.app): lab for lab in self.labs.values()}
        return sum((lab.billed() for lab in apps.values()), Counter[str]())

    async def judge(self, lab: Lab) -> None:
        """Asserts what is promised of a complete run."""
        faults = await lab.judge()
        faults.pop("paid twice", None)
        assert faults == {}
        billed = self.billed()
        assert [file_id for file_id, count in billed.items() if count > 1] == []
        answered = {line["file_id"] for line in lab.lines(Log.RESULTS)}
        assert answered <= billed.keys()


@contextmanager
def team(world: str, count: int = 60, **values: Any) -> Iterator[Team]:
    """Two accounts, and a run that is not planned yet."""
    values = {"files_per_job": 5, **values}
    with ExitStack() as stack:
        further = {"other": "project-2"} if world == "two projects" else {}
        labs = {"east": stack.enter_context(laboratory(count, further_keys=further, **values))}
        if world == "two servers":
            labs["west"] = stack.enter_context(laboratory(count, **{**values, "seed": 2}))
        else:
            west = labs["west"] = Lab(**vars(labs["east"]))
            west.api_key = "other" if further else None
        for name, lab in labs.items():
            lab.account = name
        yield Team(labs)


def job_paths(lab: Lab) -> list[str]:
    """What was asked of single jobs."""
    return [path for _, _, path in lab.wire.requests]


async def killed_while_sending(team: Team, name: str, after_s: float = 0.5) -> Lab:
    """A process with this account's key is killed while it has jobs in flight, and creates without an answer."""
    lab = team.as_account(name)
    lab.wire.lose_create_answers(Random(1), 0.4)
    assert await lab.run_until_power_cut(after_s) is None
    lab.wire.lose_create_answers(Random(1), 0.0)
    return lab


def is_left_to(ending: Ending, name: str) -> bool:
    return ending.exit_status is ExitStatus.PERSON and f"account {name}'s" in (ending.reason or "")


@BOTH
@WORLDS
async def test_another_account_leaves_alone_what_one_has_sent(world: str, version: str) -> None:
    """A process is killed with jobs in flight and ambiguous creates. Another account's process does all the rest, asks
    for none of these jobs and ends with 77; the first account's next process finishes them, and all was paid once."""
    with team(world, version=version, job_duration_s=30.0, limits={"jobs_in_flight": 6}) as pair:
        east = await killed_while_sending(pair, "east")
        found = await read_run(east.store)
        assert found is not None
        theirs = dict(found.snapshot.open_attempts)
        assert any(each.job_id is None for each in theirs.values())
        assert any(each.job_id is not None for each in theirs.values())
        west = pair.as_account("west", east)
        seen = len(job_paths(west))
        ending = await west.run()
        assert is_left_to(ending, "east"), ending.reason
        asked = " ".join(job_paths(west)[seen:])
        assert not any(each.job_id and each.job_id in asked for each in theirs.values())
        found = await read_run(west.store)
        assert found is not None
        assert found.snapshot.open_attempts.keys() == theirs.keys()
        assert found.snapshot.accounts["west"]["counts"].keys() <= {"classified", "unmatched"}
        ending = await pair.as_account("east", west).run()
        assert (ending.state, ending.reason) == ("complete", None)
        await pair.judge(pair.labs["east"])


@pytest.mark.parametrize("refused", [403, 404])
async def test_a_lost_create_is_looked_for_without_the_other_accounts_jobs(refused: int) -> None:
    """The other account's jobs are no witnesses of this one's list, and its key may not ask for them."""
    limits = {"jobs_in_flight": 6, "job_timeout_s": 900.0}
    with team("two projects", version="v1", job_duration_s=30.0, job_duration_sigma=0.0, limits=limits) as pair:
        east = pair.as_account("east")
        assert await east.run_until_power_cut(0.5) is None
        theirs = {job.job_id for job in east.app.job_table}
        assert len(theirs) == 6
        west, creates = pair.as_account("west", east), 0
        west.settings = west.settings.model_copy(
            update={"limits": west.settings.limits.model_copy(update={"jobs_in_flight": 1})}
        )

        async def refuse(request: httpx.Request) -> httpx.Response | None:
            nonlocal creates
            creates += request.method == "POST"
            if request.method == "POST" and creates == 1:
                return answer(504, {"detail": "gateway"})
            return answer(refused, {"detail": "no"}) if request.url.path.rsplit("/", 1)[-1] in theirs else None

        west.wire.before = refuse
        seen = len(job_paths(west))
        ending = await west.run()
        assert is_left_to(ending, "east"), ending.reason
        assert not any(path.rsplit("/", 1)[-1] in theirs for path in job_paths(west)[seen:])
        assert (west.accepted(), west.codes()) == (12, {})


@BOTH
async def test_nothing_is_called_where_nothing_is_left_but_others_jobs(version: str) -> None:
    """An account's process that finds only another one's jobs ends with 77, without a single request."""
    with team("two servers", 20, version=version, job_duration_s=100.0, limits={"jobs_in_flight": 0}) as pair:
        east = pair.as_account("east")
        assert await east.run_until_power_cut(5.0) is None
        west = pair.as_account("west", east)
        for _ in range(2):
            ending = await west.run()
            assert is_left_to(ending, "east"), ending.reason
        assert west.wire.requests == []


@BOTH
@WORLDS
@pytest.mark.parametrize("seed", range(6))
async def test_kills_lost_answers_and_changing_accounts_pay_nothing_twice(world: str, version: str, seed: int) -> None:
    """Processes with either account's key, or without an account, follow each other at random, each is killed at a
    random moment, answers to creates get lost, and jobs end badly: in the end each file has one outcome, and none was
    paid twice."""
    rng = Random(f"{world} {version} {seed}")
    faults = {"error": 0.1, "partial": 0.1, "list_lag_s": 2.0, "get_lag_s": 1.0}
    with team(world, version=version, faults=faults, job_duration_s=4.0, limits={"jobs_in_flight": 5}) as pair:
        lab = pair.labs["east"]
        for each in pair.labs.values():
            each.wire.lose_create_answers(rng, 0.2)
        for _ in range(12):
            lab = pair.as_account(rng.choice([*NAMES, None]), lab)
            await lab.run_until_power_cut(rng.expovariate(1 / 8), rng.randint)
        for each in pair.labs.values():
            each.wire.lose_create_answers(rng, 0.0)
        for name in ("east", None, "west", "east", None):
            lab = pair.as_account(name, lab)
            ending = await lab.run()
        assert (ending.state, ending.reason) == ("complete", None)
        await pair.judge(lab)


@BOTH
@pytest.mark.parametrize("seed", range(4))
async def test_retries_go_back_to_the_account_that_may_have_paid(version: str, seed: int) -> None:
    """Files that failed as overdue or unanswered were perhaps paid by one account: another one's retry sends only what
    was surely not paid, and leaves the rest to the first."""
    rng = Random(seed)
    faults = {"stuck": 0.3, "null_result": 0.2, "error": 0.2}
    limits = {"job_timeout_s": 60.0, "attempts": 1}
    with team("two servers", 40, version=version, faults=faults, limits=limits) as pair:
        east = pair.as_account("east")
        ending = await east.run()
        assert ending.state == "complete"
        paid_or_stuck = {file_id for file_id, code in east.codes().items() if code in ("overdue", "not_answered")}
        sure = east.codes().keys() - paid_or_stuck
        assert paid_or_stuck
        for lab in pair.labs.values():
            change_faults(lab)
        west = pair.as_account("west", east)
        await west.run_until_power_cut(rng.uniform(0.01, 3.0), rng.randint, retry_failed=True)
        ending = await west.run()
        assert is_left_to(ending, "east"), ending.reason
        assert west.billed().keys() <= sure
        lab = pair.as_account("east", west)
        ending = await lab.run()
        assert ending.state == "complete"
        assert [file_id for file_id, count in pair.billed().items() if count > 1] == []


@BOTH
async def test_an_accounts_budget_holds_beside_what_others_spent(version: str) -> None:
    """What an account may spend for a run is counted from what it spent there itself, also in earlier processes, and
    its jobs in flight count in full."""
    with team("two servers", 60, version=version, job_duration_s=1.0, limits={"jobs_in_flight": 2}) as pair:
        east, west = (pair.labs[name] for name in NAMES)
        await east.run_until_power_cut(3.0)
        west = pair.as_account("west", east)
        west.account_credits = 50.0
        for _ in range(2):
            ending = await west.run()
            assert ending.exit_status is ExitStatus.PERSON
            assert "max_credits of account west" in (ending.reason or ""), ending.reason
            found = await read_run(west.store)
            assert found is not None
            assert 0 < found.snapshot.accounts["west"]["credits"] <= 50.0
        ending = await pair.as_account("east", west).run()
        assert ending.state == "complete"
        await pair.judge(pair.labs["east"])


@BOTH
async def test_others_old_jobs_give_no_credits_back(version: str) -> None:
    """A retry leaves another account's overdue jobs alone, so nothing of what is set aside for them comes back: an
    account whose budget doesn't reach ends at once, and waits for no credits."""
    faults = {"stuck": 0.4, "error": 0.6}
    limits = {"job_timeout_s": 60.0, "attempts": 1}
    with team("two servers", 20, files_per_job=1, version=version, faults=faults, limits=limits) as pair:
        east = pair.as_account("east")
        await east.run()
        assert {"overdue", "job_error"} <= set(east.codes().values())
        west = pair.as_account("west", east)
        west.account_credits = 2.0
        began_s = anyio.current_time()
        ending = await west.run(retry_failed=True)
        assert "max_credits of account west" in (ending.reason or ""), ending.reason
        assert anyio.current_time() - began_s < 100.0


async def test_each_account_has_a_project_of_its_own() -> None:
    """Keys of two projects follow each other without an error; but for one account the project must stay the same."""
    with team("two projects", 40, job_duration_s=5.0, limits={"jobs_in_flight": 2}) as pair:
        east = pair.as_account("east")
        assert await east.run_until_power_cut(7.0) is None
        west = pair.as_account("west", east)
        assert await west.run_until_power_cut(7.0) is None
        found = await read_run(west.store)
        assert found is not None
        assert found.snapshot.project_id == "project-2"
        east = pair.as_account("east", west)
        east.api_key = "other"
        ending = await east.run()
        assert ending.exit_status is ExitStatus.PERSON
        assert "project-2" in (ending.reason or "") or "isn't there for this key" in (ending.reason or "")
        east.api_key = None
        assert is_left_to(await east.run(), "west")
        ending = await pair.as_account("west", east).run()
        assert ending.state == "complete"
        await pair.judge(pair.labs["west"])


@WORLDS
async def test_a_cancel_asks_for_own_jobs_only(world: str) -> None:
    """A cancel with one account's key leaves the other's jobs alone, even where it could see them, and says so; the
    other's own cancel reaches them."""
    with team(world, 40, version="v2", job_duration_s=200.0, limits={"jobs_in_flight": 3}) as pair:
        east = pair.as_account("east")
        assert await east.run_until_power_cut(3.0) is None
        west = pair.as_account("west", east)
        assert await west.run_until_power_cut(3.0) is None
        found = await read_run(west.store)
        assert found is not None
        theirs = {each.job_id for each in found.snapshot.open_attempts.values() if each.account == "east"}
        assert len(theirs) == 3
        seen = len(west.wire.requests)
        ending = await west.run(cancel=True)
        assert "3 jobs are other accounts', and were left alone" in (ending.reason or ""), ending.reason
        cancelled = [path for _, _, path in west.wire.requests[seen:] if path.endswith("/cancel")]
        assert len(cancelled) == 3
        assert not any(job_id in path for path in cancelled for job_id in theirs if job_id is not None)
        east = pair.as_account("east", west)
        ending = await east.run(cancel=True)
        assert "left alone" not in (ending.reason or "")
        paths = {path for _, _, path in east.wire.requests if path.endswith("/cancel")}
        assert all(any(job_id in path for path in paths) for job_id in theirs if job_id is not None)


@WORLDS
async def test_a_retried_attempt_says_whose_it_was(world: str) -> None:
    """What is looked at again by a retry is written down with its account, also after a retry of a retry."""
    with team(world, 20, limits={"job_timeout_s": 30.0}, faults={"stuck": 1.0}) as pair:
        lab = pair.as_account("east")
        await lab.run()
        for name in ("west", "west", "east", "west"):
            lab = pair.as_account(name, lab)
            await lab.run(retry_failed=True)
            found = await read_run(lab.store)
            assert found is not None
            left = found.snapshot.open_by_account()
            assert set(left) <= {"east"}
            assert bool(left) is (name == "west")
        assert not pair.as_account("east", lab).billed()
        creates = [path for _, method, path in pair.labs["east"].wire.requests if method == "POST"]
        assert len(creates) == 4


def test_creates_are_recognised_by_their_method() -> None:
    """What the wire loses are creates."""
    assert is_create(httpx.Request("POST", "https://sandbox.test/api/v1/classifier/jobs"))
