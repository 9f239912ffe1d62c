"""`stream` and `follow` of runs with shards. A real sandbox, real directories, real processes and kills."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from classify_batch import ExitStatus, Outcome, Settings, open_run, run, stream
from classify_batch.operations.stream import OutcomeStream
from tests.support.command_line import KEY, asked, sandbox
from tests.support.sandbox_settings import small_jobs
from tests.support.start_command import SCRIPT, CommandProcess

MANY = [f"file-{number}" for number in range(200)]
SHARDS = 4


async def read_all(outcomes: OutcomeStream, most: int = -1) -> list[Outcome]:
    found: list[Outcome] = []
    async with outcomes:
        async for outcome in outcomes:
            found.append(outcome)
            if len(found) == most:
                break
    return found


def ids(outcomes: list[Outcome]) -> Counter[str]:
    return Counter(each.file_id for each in outcomes)


def shard_dir(run_dir: Path, index: int) -> Path:
    return run_dir / "shards" / f"{index:05d}"


def test_the_outcomes_of_all_shards_are_yielded_while_they_run(tmp_path: Path, server: str) -> None:
    """Each once, the first ones long before the last shard begins; the result is the whole run's."""
    begun: list[int] = []

    async def main() -> tuple[list[Outcome], OutcomeStream]:
        found = []
        async with stream(small_jobs(server), MANY, tmp_path / "run", shards=SHARDS) as outcomes:
            async for outcome in outcomes:
                found.append(outcome)
                begun.append(sum(shard_dir(tmp_path / "run", index).exists() for index in range(SHARDS)))
        return found, outcomes

    found, outcomes = asyncio.run(main())
    assert ids(found) == Counter(MANY)
    assert (begun[0], begun[-1]) == (1, SHARDS)
    assert (outcomes.result.state, outcomes.result.exit_status) == ("complete", ExitStatus.COMPLETE)
    assert found == list(outcomes.result.outcomes())
    again = stream(small_jobs(server), None, tmp_path / "run")  # it is found to have shards
    assert ids(asyncio.run(read_all(again))) == Counter(MANY)
    assert not again.result.called
    assert asked(server)["creates_accepted"] == len(MANY)


def test_a_stream_of_shards_is_left_and_goes_on(tmp_path: Path, server: str) -> None:
    """After 70 of 200 outcomes it is left, in the second shard: 75, nobody holds the run, and the same call goes on
    from the beginning. Each file is paid once."""
    settings, run_dir = small_jobs(server), tmp_path / "run"
    left = stream(settings, MANY, run_dir, shards=SHARDS, ahead=5)
    first = asyncio.run(read_all(left, 70))
    assert left.result.exit_status is ExitStatus.INCOMPLETE
    assert open_run(run_dir).state == "incomplete"
    assert not shard_dir(run_dir, SHARDS - 1).exists()
    second = asyncio.run(read_all(stream(settings, MANY, run_dir, shards=SHARDS)))
    assert ids(second) == Counter(MANY)
    assert set(ids(first)) <= set(ids(second))
    assert asked(server)["creates_accepted"] == len(MANY)
    assert open_run(run_dir).state == "complete"


def test_a_slow_reader_slows_the_shards(tmp_path: Path, server: str) -> None:
    """What one shard has committed and nobody has read slows the next shard's creates, too."""

    async def main() -> int:
        async with stream(small_jobs(server), MANY, tmp_path / "run", ahead=60, shards=SHARDS) as outcomes:
            await anext(outcomes)
            while open_run(tmp_path / "run").status["jobs"] < 60:
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.5)  # real time: without the reader's pace it would go on
            jobs = int(open_run(tmp_path / "run").status["jobs"])
            assert sum([1 async for _ in outcomes]) == len(MANY) - 1
            return jobs

    assert 60 <= asyncio.run(main()) <= 100  # 50 of the first shard, and few more than 10 of the second


def test_one_shard_is_streamed_alone(tmp_path: Path, server: str) -> None:
    """`shard` yields its outcomes only, also where another shard is complete already."""
    settings, run_dir = small_jobs(server), tmp_path / "run"
    run(settings, MANY, run_dir, shards=SHARDS, shard=0)
    found = asyncio.run(read_all(stream(settings, MANY, run_dir, shards=SHARDS, shard=1)))
    assert ids(found) == ids(list(open_run(shard_dir(run_dir, 1)).outcomes()))
    assert len(found) == len(MANY) / SHARDS


def test_failed_files_of_shards_come_with_their_new_outcome_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `retry_failed` the outcomes that are put aside are not yielded: each file comes once."""
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", KEY)
    with sandbox("--fault", "foreign_share=0.1") as server:
        settings, run_dir = small_jobs(server), tmp_path / "run"
        run(settings, MANY, run_dir, shards=SHARDS)
        failed = open_run(run_dir).counts["failed"]
        assert failed > SHARDS
        found = asyncio.run(read_all(stream(settings, MANY, run_dir, retry_failed=True)))
    assert ids(found) == Counter(MANY)
    assert sum(each.failed for each in found) == failed
    assert len(list(run_dir.rglob("failures.1.jsonl"))) == SHARDS, "each shard's failures were retried"


def test_tables_of_a_run_with_shards(tmp_path: Path, server: str) -> None:
    """The rows of all tables together are the files, each once."""

    async def main() -> Counter[str]:
        found = Counter[str]()
        async with stream(small_jobs(server), MANY, tmp_path / "run", shards=2) as outcomes:
            async for table in outcomes.tables(rows=30):
                found.update(str(each) for each in table.column("file_id").to_pylist())
        return found

    assert asyncio.run(main()) == Counter(MANY)


# --- Following from another process -----------------------------------------------------------------------------------

RUN = """
import sys
from classify_batch import Settings, run
settings = Settings.load(sys.argv[1])
shard = sys.argv[3] if len(sys.argv) > 3 else None
run(settings, [f"file-{n}" for n in range(200)], sys.argv[2], shards=4, shard=shard)
"""

CONFIG = """
[api]
base_url = "{base_url}"
timeout_s = 5
[job]
rules = [{{ type = "invoice", description = "has an invoice number and a total" }}]
[plan]
files_per_job = 1
[limits]
jobs_in_flight = 4
requests_per_s = 60.0
settle_s = 1
accept_s = 0
"""


def start(tmp_path: Path, base_url: str, *shard: int) -> subprocess.Popen[bytes]:
    """A process that carries out a shard, or all of them."""
    config = tmp_path / "job.toml"
    if not config.exists():  # another process may be reading it
        config.write_text(CONFIG.format(base_url=base_url))
    words = [*SCRIPT, RUN, str(config), str(tmp_path / "run"), *map(str, shard)]
    return CommandProcess(words)


async def until_held(run_dir: Path, *shards: int) -> None:
    """Waits until processes are at work on these shards."""
    while not all((shard_dir(run_dir, index) / "manifest.json").exists() for index in shards):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["for", "async for"])
def test_shards_in_several_processes_are_followed_to_their_end(tmp_path: Path, server: str, kind: str) -> None:
    """Four processes, a shard each. The first stands still in its middle while the others run, and the last begins
    while somebody follows: each outcome once, as it is found, and the loop ends with the last process."""
    run_dir = tmp_path / "run"

    async def follow() -> list[Outcome]:
        following = open_run(run_dir).follow(poll_every_s=0.02)
        if kind == "for":
            return await asyncio.to_thread(lambda: list(following))
        return [each async for each in following]

    async def main() -> list[Outcome]:
        processes = [start(tmp_path, server, 0)]
        await until_held(run_dir, 0)
        journal = shard_dir(run_dir, 0) / "journal.jsonl"
        while not journal.exists() or b'"collected"' not in journal.read_bytes():
            await asyncio.sleep(0.01)
        processes[0].send_signal(signal.SIGSTOP)
        task = asyncio.create_task(follow())
        try:
            processes += [start(tmp_path, server, index) for index in range(1, 4)]
            for process in processes[1:]:
                assert await asyncio.to_thread(process.wait) == 0
            assert not task.done(), "the first one still holds its shard"
        finally:  # else who follows would wait for ever
            processes[0].send_signal(signal.SIGCONT)
        found = await task
        assert processes[0].wait() == 0
        return found

    found = asyncio.run(main())
    assert ids(found) == Counter(MANY)
    shards = [(outcome.chunk or 0) // 50 for outcome in found]
    changes = sum(before != after for before, after in pairwise(shards))
    assert changes >= SHARDS, "they come as they are found, not shard by shard"


def test_one_process_for_all_shards_is_followed_between_two_of_them(tmp_path: Path, server: str) -> None:
    """It holds the whole run: who follows doesn't stop where one shard has ended and the next hasn't begun."""

    async def main() -> list[Outcome]:
        process = start(tmp_path, server)
        await until_held(tmp_path / "run", 0)
        found = [each async for each in open_run(tmp_path / "run").follow(poll_every_s=0.001)]
        assert process.wait() == 0
        return found

    assert ids(asyncio.run(main())) == Counter(MANY)


def test_a_killed_shard_is_followed_again(tmp_path: Path, server: str) -> None:
    """After SIGKILL of both processes it ends with what was committed; a later call finds all of it, and the rest."""
    run_dir = tmp_path / "run"

    async def main() -> tuple[list[Outcome], list[Outcome]]:
        processes = [start(tmp_path, server, index) for index in (0, 2)]
        await until_held(run_dir, 0, 2)
        first: list[Outcome] = []
        async for outcome in open_run(run_dir).follow(poll_every_s=0.02):
            first.append(outcome)
            if len(first) == 10:
                for process in processes:
                    process.kill()
                    process.wait()
        run_again = start(tmp_path, server)
        until = tmp_path / "run" / "shards" / "00001" / "manifest.json"
        while not until.exists():
            await asyncio.sleep(0.01)
        second = [each async for each in open_run(run_dir).follow(poll_every_s=0.02)]
        assert run_again.wait() == 0
        return first, second

    first, second = asyncio.run(main())
    assert 10 <= len(first) < len(MANY)
    assert ids(second) == Counter(MANY)
    assert set(ids(first)) <= set(ids(second))


def test_a_damaged_shard_ends_the_following_with_its_name(tmp_path: Path, server: str) -> None:
    """The file that is damaged is named, and the outcomes of the shards before it were given."""
    run_dir = tmp_path / "run"
    run(small_jobs(server), MANY, run_dir, shards=SHARDS)
    path = shard_dir(run_dir, 2) / "results.jsonl"
    path.write_bytes(path.read_bytes().replace(b"classified", b"classifyed", 1))
    found: list[Outcome] = []
    with pytest.raises(Exception, match=f"results.jsonl in {path.parent}"):
        found.extend(open_run(run_dir).follow())
    assert json.loads(path.read_bytes().splitlines()[0])["outcome"] == "classifyed"


def test_what_another_process_commits_meanwhile_is_yielded(tmp_path: Path, server: str) -> None:
    """A shard that another process holds is passed over, and its outcomes are yielded as far as it has come: each once.
    The stream ends with 75, and a later one has all of them."""
    run_dir = tmp_path / "run"

    async def main() -> tuple[list[Outcome], OutcomeStream]:
        other = start(tmp_path, server, 3)
        await until_held(run_dir, 3)
        settings = Settings.load(tmp_path / "job.toml")
        outcomes = stream(settings, None, run_dir)
        found = await read_all(outcomes)
        assert await asyncio.to_thread(other.wait) == 0
        return found, outcomes

    found, outcomes = asyncio.run(main())
    assert max(ids(found).values()) == 1
    of_others = [each for each in found if (each.chunk or 0) >= 150]
    assert len(found) - len(of_others) == 150
    assert of_others, "it committed some while the first three shards were carried out"
    if len(of_others) < 50:
        assert outcomes.result.exit_status is ExitStatus.INCOMPLETE
    again = stream(Settings.load(tmp_path / "job.toml"), None, run_dir)
    assert ids(asyncio.run(read_all(again))) == Counter(MANY)
    assert asked(server)["creates_accepted"] == len(MANY)
