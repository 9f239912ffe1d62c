"""The directory of a complete run of any size, written straight to the disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import anyio

from classify_batch.lifecycle import Ended, Fact, Finished, Submitted, Submitting, Tally
from classify_batch.model import AttemptKey, Part, Segment
from classify_batch.rundir.journal.entry import encode_about_run, encode_facts
from classify_batch.rundir.outcome_lines import encode_line
from classify_batch.rundir.plan import PlanSummary, plan_line
from classify_batch.rundir.run_json import create_run_file, read_run_file
from classify_batch.rundir.shards import ShardSlice, cut_plan_into_shards
from classify_batch.store import open_store
from classify_batch.vocabulary import Kind

RESULT = (
    '{"file_id":"%s","outcome":"classified","type":%s,"confidence":%s,"reasoning":"line items and a total",'
    '"mode":"FAST","job_id":"j","chunk":%d,"attempt":1,"classified_at":"2026-11-22T01:00:00Z"}\n'
)


def write_complete_run(
    run: Path, files: int, files_per_job: int, confidence: float = 0.9, kind: str = "invoice"
) -> None:
    """So many files in jobs of so many, each classified as the same kind with the same confidence."""
    run.mkdir()
    digest = hashlib.sha256()
    with (run / "plan.jsonl").open("wb") as plan:
        for number, file_ids in enumerate(chunks_of(files, files_per_job)):
            line = plan_line(number, file_ids).encode()
            digest.update(line)
            plan.write(line)
    chunks = -(-files // files_per_job)
    told = {"format": 1, "run_id": "r", "created_at": "2026-11-22T01:00:00Z", "settings": {}, "identity": {}}
    told |= {"files": files, "duplicates": 0, "chunks": chunks, "plan_sha256": digest.hexdigest()}
    data = json.dumps(told).encode()
    (run / "run.json").write_bytes(data)
    write_outcomes(run, list(chunks_of(files, files_per_job)), confidence, kind)


def write_complete_shards(run: Path, files: int, files_per_job: int, shards: int) -> None:
    """The same, divided into shards: each with a directory of its own, as a process would leave it."""
    write_complete_run(run, files, files_per_job)
    for name in ("journal.jsonl", "results.jsonl", "failures.jsonl"):
        (run / name).unlink()
    chunks = list(chunks_of(files, files_per_job))

    async def divide() -> None:
        store = open_store(run)
        found = await read_run_file(store)
        assert found is not None
        plan = PlanSummary(files, len(chunks), found[0].plan_sha256, 0, "")
        ranges = await cut_plan_into_shards(store, plan, None, files_per_job, shards)
        (run / "run.json").unlink()
        whole = replace(found[0], format=6, shards=ranges)
        whole_sha256 = await create_run_file(store, whole)
        for index, each in enumerate(ranges):
            place = run / "shards" / f"{index:05d}"
            place.mkdir(parents=True)
            async with open_store(place) as shard:
                await ShardSlice(store, whole, whole_sha256, index).write_shard(shard)
            first = each["first_chunk"]
            write_outcomes(place, chunks[first : first + each["chunks"]], first_chunk=first)

    anyio.run(divide)


def write_outcomes(
    run: Path,
    chunks: Sequence[Sequence[str]],
    confidence: float = 0.9,
    kind: str = "invoice",
    *,
    first_chunk: int = 0,
) -> None:
    """The journal and the outcomes of a run with a plan of these chunks."""
    (run / "failures.jsonl").touch()
    run_sha256 = hashlib.sha256((run / "run.json").read_bytes()).hexdigest()
    written_kind = encode_line(kind).decode().strip()
    with (run / "journal.jsonl").open("wb") as journal, (run / "results.jsonl").open("wb") as results:
        journal.write(encode_about_run(1, 1.0, 0, Kind.OPENED, {"run_sha256": run_sha256}))
        seq = 1
        for number, file_ids in enumerate(chunks, first_chunk):
            start = results.tell()
            lines = "".join(RESULT % (file_id, written_kind, confidence, number) for file_id in file_ids).encode()
            results.write(lines)
            for fact in facts_of(number, Segment(start, results.tell(), crc32(lines)), len(file_ids), kind):
                seq += 1
                journal.write(encode_facts(seq, 1.0, seq - 1, [fact]))


def chunks_of(files: int, files_per_job: int) -> Iterator[list[str]]:
    for start in range(0, files, files_per_job):
        yield [f"f11e0000-0000-4000-8000-{n:012d}" for n in range(start, min(files, start + files_per_job))]


def facts_of(chunk: int, results: Segment, files: int, kind: str) -> list[Fact]:
    key, tally = AttemptKey(chunk, 1), Tally({"classified": files}, {kind: files})
    ended = Ended(key, Kind.COLLECTED, results, tally=tally)
    return [Submitting(key, Part(chunk), 1.0), Submitted(key, "j", 1.0), Finished(key, "SUCCESS", 1.0), ended]
