"""Writes the directory of a big run of which 90 % is done, as the run itself would have; a process of its own.

The plan, run.json and the journal are written by the package's own encoders. results.jsonl has the right length and
holds nothing: a resume looks at how long it is, and reads the journal for the rest. With `--whole` all is done, and
the results and the manifest are there; run.json tells the first format, so that older versions read it, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from zlib import crc32

from bench_suite.clients import file_id
from classify_batch import Settings
from classify_batch.clock import SystemClock
from classify_batch.lifecycle import Ended, Fact, Finished, Submitted, Submitting, Tally
from classify_batch.model import AttemptKey, Part, Segment
from classify_batch.rundir.journal.entry import encode_about_run, encode_facts
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.journal.totals import TOTALS_EVERY_BYTES
from classify_batch.rundir.manifest_json import manifest_of, write_manifest
from classify_batch.rundir.plan import write_plan
from classify_batch.rundir.run_json import write_run_file
from classify_batch.store.disk import DiskStore
from classify_batch.vocabulary import Kind, RunState

DONE = 0.9
RESULT_BYTES = 320
"""Of a line of results.jsonl."""

RESULT = (
    '{"file_id":"%s","outcome":"classified","type":"invoice","confidence":0.%04d,'
    '"reasoning":"It has an invoice number, two line items and a total amount.","mode":"FAST",'
    '"job_id":"0000abcd-0000-4000-8000-%012x","chunk":%d,"attempt":1,"classified_at":"2026-11-22T02:04:16.123Z"}\n'
)


async def build(run_dir: Path, config: Path, files: int, files_per_job: int, whole: bool) -> None:
    settings = Settings.load(config, plan={"files_per_job": files_per_job})
    async with DiskStore(run_dir) as store:
        await store.prepare()
        plan = await write_plan(store, chunks_of(files, files_per_job))
        run, run_sha256 = await write_run_file(store, settings, plan, 0, SystemClock())
    if whole:
        run_sha256 = _tell_first_format(run_dir / "run.json")
    if whole:
        segments = list(_results(run_dir / "results.jsonl", files, files_per_job))
    else:
        ends = [files_per_job * RESULT_BYTES * chunk for chunk in range(int(plan.chunks * DONE) + 1)]
        segments = [Segment(start, end, 0) for start, end in pairwise(ends)]
        (run_dir / "results.jsonl").touch()
        os.truncate(run_dir / "results.jsonl", ends[-1])
    with (run_dir / "journal.jsonl").open("wb") as journal:
        limits = settings.limits.model_dump(mode="json")
        said = {"run_sha256": run_sha256, "limits": limits}
        journal.write(encode_about_run(1, time.time(), 0, Kind.OPENED, said))
        sums, bytes_since = RunSnapshot(plan.chunks), 0
        for seq, fact in enumerate(_facts(segments, files_per_job), 2):
            told = bytes_since >= TOTALS_EVERY_BYTES
            requests = seq // 2 if told or isinstance(fact, Ended) else None
            totals = sums.sums_for_line(requests) if told and requests is not None else None
            line = encode_facts(seq, time.time(), seq - 1, (fact,), requests, totals)
            bytes_since = len(line) + (0 if told else bytes_since)
            sums.apply_fact(fact, journal.tell())
            sums.seq = seq
            journal.write(line)
    if whole:
        (run_dir / "failures.jsonl").touch()
        now_s = time.time()
        manifest = manifest_of(run, sums, state=RunState.COMPLETE, requests=0, started_at_s=now_s, stopped_at_s=now_s)
        async with DiskStore(run_dir) as store:
            await write_manifest(store, run, sums, manifest)


def _tell_first_format(path: Path) -> str:
    """Makes run.json one that older versions read as well: this run has nothing that they don't know. Returns its
    SHA-256."""
    data = json.dumps(json.loads(path.read_bytes()) | {"format": 1}, indent=2).encode()
    path.write_bytes(data)
    return sha256(data).hexdigest()


async def chunks_of(files: int, files_per_job: int) -> AsyncIterator[list[str]]:
    for start in range(0, files, files_per_job):
        yield [file_id(number) for number in range(start, min(files, start + files_per_job))]


def _results(path: Path, files: int, files_per_job: int) -> Iterator[Segment]:
    with path.open("wb") as results:
        for chunk, start in enumerate(range(0, files, files_per_job)):
            numbers = range(start, min(files, start + files_per_job))
            data = "".join([RESULT % (file_id(number), number % 10_000, chunk, chunk) for number in numbers]).encode()
            began = results.tell()
            results.write(data)
            yield Segment(began, began + len(data), crc32(data))


def _facts(segments: Sequence[Segment], files_per_job: int) -> Iterator[Fact]:
    """Each chunk's life from its intent to its end."""
    tally = Tally({"classified": files_per_job}, {"invoice": files_per_job})
    for chunk, segment in enumerate(segments):
        key = AttemptKey(chunk, 1)
        yield Submitting(key, Part(chunk), time.time())
        yield Submitted(key, f"0000abcd-0000-4000-8000-{chunk:012x}", time.time())
        yield Finished(key, "SUCCESS", 2.0)
        yield Ended(key, Kind.COLLECTED, segment, tally=tally)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="holds config.toml; gets run/")
    parser.add_argument("--files", type=int, required=True)
    parser.add_argument("--files-per-job", type=int, required=True)
    parser.add_argument("--whole", action="store_true")
    told = parser.parse_args()
    asyncio.run(build(told.folder / "run", told.folder / "config.toml", told.files, told.files_per_job, told.whole))


if __name__ == "__main__":
    main()
