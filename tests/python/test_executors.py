"""Executors: whoever carries out a run's shards is given all of them, and what came of them is one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from classify_batch import UsageError, run, verify
from classify_batch.engine.shutdown import Shutdown
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.shards.ending import ShardEnding
from classify_batch.operations.shards.run_shards import run_shard
from classify_batch.operations.shards.whole import ShardedRun
from tests.support.sandbox_settings import sandbox_settings

IDS = [f"file-{number}" for number in range(20)]


class LastFirst:
    """An executor that begins with the last shard."""

    def __init__(self) -> None:
        self.carried_out: list[int] = []

    async def run(self, whole: ShardedRun, request: RunRequest, shutdown: Shutdown) -> Sequence[ShardEnding]:
        endings = []
        for index in reversed(range(len(whole.ranges))):
            result = await run_shard(whole, request, index, shutdown)
            self.carried_out.append(index)
            endings.append(ShardEnding(index, result.exit_status, result.reason, result.hint, result.called))
        return endings


def test_an_executor_carries_the_shards_out(tmp_path: Path) -> None:
    """The shards are run by the executor that the call gives, in its own order, and the result is the whole run's."""
    executor = LastFirst()
    settings = sandbox_settings(plan={"files_per_job": 2})
    result = run(settings, IDS, tmp_path / "run", shards=3, executor=executor)
    assert (result.state, sum(result.counts.values())) == ("complete", len(IDS))
    assert executor.carried_out == [2, 1, 0]
    assert verify(tmp_path / "run").complete


@pytest.mark.parametrize(("options", "words"), [({}, "has none"), ({"shard": "0/3"}, "one shard is named")])
def test_an_executor_without_shards_is_refused(tmp_path: Path, options: dict[str, str], words: str) -> None:
    """An executor that would have nothing to carry out is an error before anything is written."""
    with pytest.raises(UsageError, match=words):
        run(sandbox_settings(), IDS, tmp_path / "run", executor=LastFirst(), **options)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
