"""Writes the directory of a complete run all of whose files failed, as the run itself would have; a process of its own.

The plan, run.json and the journal are written by the package's own encoders, 64 facts of a kind to a line. On v1 each
chunk failed as a whole.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from bench_suite.build_run import chunks_of
from bench_suite.clients import file_id
from classify_batch import Settings
from classify_batch.clock import SystemClock
from classify_batch.lifecycle import Ended, Fact, Finished, Submitted, Submitting, Tally
from classify_batch.model import AttemptKey, Part, Segment
from classify_batch.rundir.journal.entry import encode_about_run, encode_facts
from classify_batch.rundir.plan import write_plan
from classify_batch.rundir.run_json import write_run_file
from classify_batch.store.disk import DiskStore
from classify_batch.vocabulary import Kind

TOGETHER = 64
FAILURE = (
    '{"file_id":"%s","outcome":"failed","code":"%s","message":"the job ended with ERROR: TIMEOUT while reading the '
    'document","job_id":"%s","chunk":%d,"attempt":1,"failed_at":"2026-11-22T02:04:16.123Z"}\n'
)


async def build(run_dir: Path, config: Path, files: int, files_per_job: int, code: str) -> None:
    settings = Settings.load(config, plan={"files_per_job": files_per_job})
    async with DiskStore(run_dir) as store:
        await store.prepare()
        plan = await write_plan(store, chunks_of(files, files_per_job))
        _, run_sha256 = await write_run_file(store, settings, plan, 0, SystemClock())
    (run_dir / "results.jsonl").touch()
    with (run_dir / "journal.jsonl").open("wb") as journal, (run_dir / "failures.jsonl").open("wb") as failures:
        limits = settings.limits.model_dump(mode="json")
        said = {"run_sha256": run_sha256, "limits": limits, "accept_s": 60.0}
        journal.write(encode_about_run(1, time.time(), 0, Kind.OPENED, said))
        seq, end = 1, 0
        for first in range(0, plan.chunks, TOGETHER):
            segments = []
            for chunk in range(first, min(plan.chunks, first + TOGETHER)):
                numbers = range(chunk * files_per_job, min(files, (chunk + 1) * files_per_job))
                data = "".join([FAILURE % (file_id(each), code, _job_id(chunk), chunk) for each in numbers]).encode()
                failures.write(data)
                segments.append((chunk, len(numbers), Segment(end, end + len(data), crc32(data))))
                end += len(data)
            for facts in zip(*[_life(*each, code) for each in segments], strict=True):
                seq += 1
                requests = 3 * first if isinstance(facts[0], Ended) else None
                journal.write(encode_facts(seq, time.time(), seq - 1, facts, requests, server_s=1.7e9 + first))
        closed = {"state": "complete", "reason": None, "exit_status": 1, "requests": 3 * plan.chunks}
        journal.write(encode_about_run(seq + 1, time.time(), seq, Kind.CLOSED, closed))


def _life(chunk: int, files: int, segment: Segment, code: str) -> Iterator[Fact]:
    key = AttemptKey(chunk, 1)
    yield Submitting(key, Part(chunk), time.time(), 5.0 * files, 1.7e9)
    yield Submitted(key, _job_id(chunk), time.time())
    yield Finished(key, "ERROR", 2.0)
    tally = Tally({"failed": files}, {}, {code: files})
    yield Ended(key, Kind.COLLECTED, failures=segment, tally=tally)


def _job_id(chunk: int) -> str:
    return f"0000abcd-0000-4000-8000-{chunk:012x}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="holds config.toml; gets run/")
    parser.add_argument("--files", type=int, required=True)
    parser.add_argument("--files-per-job", type=int, required=True)
    parser.add_argument("--code", default="job_error")
    told = parser.parse_args()
    asyncio.run(build(told.folder / "run", told.folder / "config.toml", told.files, told.files_per_job, told.code))


if __name__ == "__main__":
    main()
