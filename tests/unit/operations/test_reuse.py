"""What a run takes over from earlier ones: as a plain model of dicts would tell it, whatever is in the lines."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5
from zlib import crc32

import anyio
import pytest
from hypothesis import example, given
from hypothesis import settings as tried
from hypothesis import strategies as st

from classify_batch.errors import DamagedError
from classify_batch.file_keys import file_key
from classify_batch.lifecycle import Ended, Finished, Submitted, Submitting, Tally
from classify_batch.model import AttemptKey, Part, Segment, to_ranges
from classify_batch.operations.reuse.copied_lines import (
    add_carried,
    copy_lines,
    rename_file_in_line,
    strip_carried,
)
from classify_batch.operations.reuse.earlier_outcomes import EarlierRun
from classify_batch.operations.reuse.earlier_runs import Reuse, find_earlier_runs
from classify_batch.operations.reuse.outcome_answers import (
    AnswerCounts,
    parse_outcome_answer,
    parse_outcome_answers,
)
from classify_batch.operations.reuse.plan_reusing import plan_reusing
from classify_batch.operations.verify import Verification, verify_store
from classify_batch.rundir.journal.totals import Totals, read_totals
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.rundir.opened_run import RunOnDisk, cut_off_tails, read_run
from classify_batch.rundir.outcome_lines import encode_line
from classify_batch.rundir.plan import PlanReader, write_plan
from classify_batch.rundir.run_json import write_run_file
from classify_batch.settings import Settings
from classify_batch.store.memory import MemoryStore
from classify_batch.streams.spill import Limits
from classify_batch.vocabulary import Kind, Log

FILES_PER_JOB = 3
TINY = Limits(buckets=3, held_ids=2, file_bytes=64)
SETTINGS = Settings(
    job={"rules": [{"type": "invoice", "description": "has a total"}]}, plan={"files_per_job": FILES_PER_JOB}
)


class Said(NamedTuple):
    """What the API says of a file when it is asked: `type` is None for no match; nothing for a failure."""

    answered: bool
    type: str | None = None
    reasoning: str | None = None
    more: Mapping[str, object] = {}
    failed: bool = False


WAITS = Said(answered=False)
FAILS = Said(answered=False, failed=True)
INVOICE = Said(answered=True, type="invoice")


@dataclass
class Night:
    """The input of a run, what the API says of it, and which of the earlier runs are reused."""

    file_ids: Sequence[str]
    said: Mapping[str, Said] = field(default_factory=dict)
    reuses: Sequence[int] = ()

    def of(self, file_id: str) -> Said:
        return self.said.get(file_id, INVOICE)


class Stream(MemoryStore):
    """A store that gives its files in blocks of a few bytes."""

    block_bytes = 100

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        data = await self.read(name, start, end)
        for place in range(0, len(data), self.block_bytes):
            yield data[place : place + self.block_bytes]


class At:
    """A wall clock that stands still."""

    def __init__(self, at_s: float) -> None:
        self._at_s = at_s

    def wall_s(self) -> float:
        return self._at_s


async def batches(file_ids: Sequence[str]) -> AsyncIterator[list[str]]:
    for start in range(0, len(file_ids), 2):
        yield list(file_ids[start : start + 2])


async def run_of(store: MemoryStore) -> RunOnDisk:
    run = await read_run(store)
    assert run is not None
    return run


async def planned_night(night: Night, number: int, before: Sequence[MemoryStore]) -> Stream:
    """A new run, planned."""
    store = Stream()
    earlier = [EarlierRun(before[each], await run_of(before[each])) for each in sorted(night.reuses, reverse=True)]
    planned = await plan_reusing(store, batches(night.file_ids), earlier, FILES_PER_JOB, limits=TINY)
    await write_run_file(store, SETTINGS, planned.plan, planned.duplicates, At(1000.0 * number), planned.reused)
    return store


async def spent(night: Night, number: int, before: Sequence[MemoryStore]) -> Stream:
    """A run from its planning to its end; files that wait are to go out again."""
    return await carried_out(night, number, await planned_night(night, number, before))


async def planned_telling_spellings_apart(night: Night) -> Stream:
    """A new run as versions planned it that compared IDs by their spelling."""
    store = Stream()
    await write_run_file(store, SETTINGS, await write_plan(store, batches(night.file_ids)), 0, At(0.0))
    return store


async def carried_out(night: Night, number: int, store: MemoryStore) -> Stream:
    run = await run_of(store)
    plan = PlanReader(store)
    await plan.scan_whole_file(run.run.plan_sha256)
    await cut_off_tails(store, run)
    writer = JournalWriter(store, run.snapshot, At(1000.0 * number), totals_every_bytes=600)
    writer.record_about_run(Kind.OPENED, {"run_sha256": run.run_sha256})
    async for chunk, file_ids in plan.stream(wanted=run.snapshot.is_planned):
        live(store, writer, chunk, {file_id: night.of(file_id) for file_id in file_ids})
        await writer.wait_durable()
    await writer.wait_durable()
    return Stream(store.files)


def live(store: MemoryStore, writer: JournalWriter, chunk: int, said: Mapping[str, Said]) -> None:
    """A chunk's only attempt."""
    key = AttemptKey(chunk, 1)
    waiting = [place for place, each in enumerate(said.values()) if not each.answered and not each.failed]
    results = b"".join(encode_line(line_of(file_id, each, chunk)) for file_id, each in said.items() if each.answered)
    failures = b"".join(
        encode_line({"file_id": file_id, "outcome": "failed", "code": "job_error", "chunk": chunk, "attempt": 1})
        for file_id, each in said.items()
        if each.failed
    )
    counts = Counter("failed" if each.failed else outcome_of(each) for each in said.values() if each != WAITS)
    types = Counter(each.type for each in said.values() if each.type is not None)
    writer.record(Submitting(key, Part(chunk), 1.0))
    writer.record(Submitted(key, "job", 1.0))
    writer.record(Finished(key, "SUCCESS", 1.0))
    ended = Ended(
        key,
        Kind.COLLECTED,
        segment_of(store, Log.RESULTS, results),
        segment_of(store, Log.FAILURES, failures),
        tally=Tally(dict(counts), dict(types)),
        requeued=(Part(chunk, to_ranges(waiting)),) if waiting else (),
    )
    writer.record(ended)


def segment_of(store: MemoryStore, log: Log, data: bytes) -> Segment | None:
    start = store.append(log, data)
    return Segment(start, start + len(data), crc32(data)) if data else None


def outcome_of(said: Said) -> str:
    return "unmatched" if said.type is None else "classified"


def line_of(file_id: str, said: Said, chunk: int) -> dict[str, object]:
    told = {"file_id": file_id, "outcome": outcome_of(said), "type": said.type, "confidence": 0.9}
    told |= {"reasoning": said.reasoning, "mode": "FAST", "job_id": "job", "chunk": chunk, "attempt": 1}
    return {**told, "classified_at": "2026-11-22T01:00:00.000Z", **said.more}


def lines_in(files: Mapping[str, bytes], name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in files.get(name, b"").split(b"\n")[:-1]]


async def verified(store: MemoryStore) -> Verification:
    found = await verify_store(store)
    assert found is not None
    return found


# --- Against a plain model ----------------------------------------------------------------------------------------

ODD_IDS = ("file-1", "file-2", 'quoted"', "back\\slash", "größe", "文書", "🗎", "{}", "a,b", "x" * 200)
ODD_WORDS = (
    *(None, "", 'said ,"chunk":7,"attempt":1}', "line\u2028break", "lone \ud800", 'a "quote"\n', "\x00"),
    '{"file_id":"file-9","outcome":"unmatched","type":null,"chunk":3}',
)
UUIDS = tuple(str(uuid5(NAMESPACE_URL, str(number))) for number in range(6))


def spelled(uuid: str) -> tuple[str, ...]:
    return uuid, uuid.upper(), uuid.title(), uuid.replace("-", ""), f"{{{uuid.upper()}}}", f"urn:uuid:{uuid}"


file_ids = st.one_of(
    st.sampled_from(ODD_IDS),
    st.integers(0, 20).map("f{}".format),
    st.sampled_from([spelling for uuid in UUIDS for spelling in spelled(uuid)]),
)
more = st.sampled_from(
    [
        {},
        {"carried": {"a": "1", "chunk": "7"}},
        {"carried": {"chunk": 3}, "last": True},
        {"other": {"mode": "FAST", "attempt": 1, "type": None}, "carried": {"reused_from": "nobody"}},
    ]
)
answers = st.builds(
    Said,
    answered=st.just(True),
    type=st.sampled_from(["invoice", "memo", None, "\ud800", 'q"', ""]),
    reasoning=st.sampled_from(ODD_WORDS),
    more=more,
    failed=st.just(False),
)
sayings = st.one_of(answers, st.just(WAITS), st.just(FAILS))


@st.composite
def several_nights(draw: st.DrawFn) -> list[Night]:
    nights: list[Night] = []
    for number in range(draw(st.integers(1, 4))):
        asked = draw(st.lists(file_ids, min_size=1, max_size=14))
        said = draw(st.dictionaries(file_ids, sayings, max_size=14))
        reuses = draw(st.sets(st.integers(0, number - 1))) if number else set()
        nights.append(Night(asked, said, sorted(reuses)))
    return nights


ALL_KNOWN = [Night(["a", "b"]), Night(["b", "a", "b"], {}, [0]), Night(["a", "b", "c"], {}, [0, 1])]


@pytest.mark.slow
@given(several_nights())
@example(ALL_KNOWN)
@tried(deadline=None)
def test_each_file_of_a_chain_of_runs_has_its_newest_answer(nights: list[Night]) -> None:
    """Each file has the newest answer of the runs that were reused, as it was but for `chunk` and `reused_from`, or its
    own; failures are never reused; each ID once, in the first spelling of the input; and all that reads a run agrees
    with it."""

    async def main() -> None:
        stores: list[MemoryStore] = []
        for number, night in enumerate(nights):
            stores.append(await spent(night, number, stores))
            await check(night, stores)

    anyio.run(main)


async def check(night: Night, stores: Sequence[MemoryStore]) -> None:
    store = stores[-1]
    files, run = store.files, await run_of(store)
    expected = await taken_over(night, stores)
    chunk_of = {file_id: line["chunk"] for line in lines_in(files, "plan.jsonl") for file_id in line["file_ids"]}
    assert len(chunk_of) == run.run.files == len(set(map(file_key, night.file_ids)))
    assert set(chunk_of) == set(first_spellings(night).values())

    results = lines_in(files, Log.RESULTS)
    assert [line["file_id"] for line in results[: len(expected)]] == list(chunk_of)[: len(expected)]
    for line in results[: len(expected)]:
        assert line == {**expected[line["file_id"]], "chunk": chunk_of[line["file_id"]]}
    asked = {file_id: night.of(file_id) for file_id in chunk_of if file_id not in expected}
    assert {line["file_id"] for line in results[len(expected) :]} == {
        key for key, each in asked.items() if each.answered
    }
    failed = {line["file_id"] for line in lines_in(files, Log.FAILURES)}
    assert failed == {key for key, each in asked.items() if each.failed}

    found = await verified(store)
    assert (found.errors, found.complete) == ([], WAITS not in asked.values())
    assert found.counts["failed"] == len(failed)
    assert sum(found.counts.values()) == len(results) + len(failed)
    assert run.run.reused_files == len(expected)
    assert run.snapshot.types == Counter(line["type"] for line in results if line["type"] is not None)
    assert summed(files, run).outcomes == run.snapshot.outcomes
    assert summed(files, run).types == run.snapshot.types


async def taken_over(night: Night, stores: Sequence[MemoryStore]) -> dict[str, dict[str, Any]]:
    """By file ID the line that a run must begin with."""
    expected: dict[str, dict[str, Any]] = {}
    asked = first_spellings(night)
    for each in sorted(night.reuses, reverse=True):
        run_id = (await run_of(stores[each])).run.run_id
        for line in lines_in(stores[each].files, Log.RESULTS):
            if (file_id := asked.get(file_key(line["file_id"]))) is not None:
                expected.setdefault(file_id, {"reused_from": run_id, **line, "file_id": file_id})
    return expected


def first_spellings(night: Night) -> dict[str, str]:
    """How a run's input spells each file first, by the files' keys."""
    return {file_key(file_id): file_id for file_id in reversed(night.file_ids)}


def summed(files: Mapping[str, bytes], run: RunOnDisk) -> Totals:
    """The sums as `status` reads them: from the journal's last lines."""
    journal, totals = files[Log.JOURNAL], Totals()
    if run.run.reused is not None:
        totals.begin_with(run.run.reused.counts, run.run.reused.types, run.run.reused.accepted)
    return read_totals(lambda start, end: journal[start:end], len(journal), "journal.jsonl", 0, totals)


def test_totals_in_the_journal_include_reused_outcomes() -> None:
    """A journal that is long enough to tell its sums: they are taken as they stand, and nothing is counted twice."""

    async def main() -> None:
        first = await spent(Night([f"f{n}" for n in range(9)]), 0, [])
        store = await spent(Night([f"f{n}" for n in range(40)], {}, [0]), 1, [first])
        assert store.files[Log.JOURNAL].count(b'"totals"') > 1
        assert summed(store.files, await run_of(store)).outcomes == {"classified": 40}

    anyio.run(main)


@pytest.mark.parametrize(("then", "now"), [(0, 1), (1, 0), (1, 3), (1, 1), (4, 5)])
def test_an_outcome_is_reused_under_another_spelling(then: int, now: int) -> None:
    """Nothing is sent again because a UUID is spelled otherwise, and plan and results name it as the new input does."""

    async def main() -> None:
        uuids = [str(uuid5(NAMESPACE_URL, str(number))) for number in range(300)]
        earlier, later = ([spelled(uuid)[at] for uuid in uuids] for at in (then, now))
        first = await spent(Night([*earlier, "x", "y"]), 0, [])
        asked = ["x", *later[::-1], "z", earlier[0]]
        store = await planned_night(Night(asked, {}, [0]), 1, [first])
        run = await run_of(store)
        assert (run.run.reused_files, run.run.files, run.run.duplicates) == (301, 302, 1)
        results = lines_in(store.files, Log.RESULTS)
        assert [line["file_id"] for line in results] == [*later, "x"]
        assert {line["reused_from"] for line in results} == {(await run_of(first)).run.run_id}
        assert (await verified(store)).errors == []

    anyio.run(main)


@pytest.mark.parametrize("earlier_has", [[], ["x"]], ids=["UUIDs then", "others then"])
@pytest.mark.parametrize("later_has", [[], ["x", "y"]], ids=["UUIDs now", "others now"])
def test_uuids_meet_alone_and_among_other_ids(earlier_has: list[str], later_has: list[str]) -> None:
    """Whether both inputs hold nothing but UUIDs, which are compared as 16 bytes each, or one holds other IDs, too."""

    async def main() -> None:
        uuids = [str(uuid5(NAMESPACE_URL, str(number))) for number in range(300)]
        first = await spent(Night([*uuids[:200], *earlier_has]), 0, [])
        store = await planned_night(Night([*uuids[100:], uuids[150], *later_has], {}, [0]), 1, [first])
        run = await run_of(store)
        known = {*uuids[100:200], *earlier_has} & {*uuids[100:], *later_has}
        assert {line["file_id"] for line in lines_in(store.files, Log.RESULTS)} == known
        assert (run.run.reused_files, run.run.files) == (len(known), 200 + len(later_has))
        assert run.run.duplicates == 1

    anyio.run(main)


def test_an_earlier_run_may_hold_a_file_under_two_spellings() -> None:
    """A run of a version that took them for two files has two outcomes for such a file; the first of them is reused."""

    async def main() -> None:
        file_id, upper = UUIDS[0], UUIDS[0].upper()
        night = Night([upper, file_id, "x"], {file_id: Said(answered=True)})
        first = await carried_out(night, 0, await planned_telling_spellings_apart(night))
        store = await planned_night(Night(["x", file_id], {}, [0]), 1, [first])
        told = [(line["file_id"], line["type"]) for line in lines_in(store.files, Log.RESULTS)]
        assert told == [(file_id, "invoice"), ("x", "invoice")]
        assert (await verified(first)).errors == (await verified(store)).errors == []

    anyio.run(main)


# --- Lines --------------------------------------------------------------------------------------------------------


@given(st.lists(answers, min_size=1, max_size=6), st.sampled_from([{}, {"reused_from": "first"}]))
def test_a_copied_line_differs_in_chunk_and_reused_from_only(said: list[Said], reused: dict[str, str]) -> None:
    """Only `chunk` and `reused_from` differ; a line that says already who paid keeps it; and its answer is counted."""
    given_lines = [line_of(f"f{n}", each, n // 2) | reused for n, each in enumerate(said)]
    lines = [encode_line(line)[:-1] for line in given_lines]
    copied = copy_lines(lines, 71, 'a "run"')
    assert [json.loads(line) for line in copied.split(b"\n")[:-1]] == [
        {"reused_from": 'a "run"', **json.loads(line), "chunk": 71} for line in lines
    ]
    counted = AnswerCounts()
    counted.add_answers(map(parse_outcome_answer, lines))
    if (told := parse_outcome_answers(b"".join(line + b"\n" for line in lines))) is not None:
        at_once = AnswerCounts()
        at_once.add_answers(told[1])
        assert at_once.totals == counted.totals
    assert counted.totals == (
        Counter(outcome_of(each) for each in said),
        Counter(each.type for each in said if each.type is not None),
    )


def test_a_line_with_another_order_of_keys_is_copied() -> None:
    """A line that another program wrote, with `chunk` first or last, is copied all the same."""
    lines = [b'{"chunk": 1, "file_id": "a", "outcome": "unmatched", "type": null}', b'{"file_id":"b","chunk":2}']
    copied = [json.loads(line) for line in copy_lines(lines, 9, "r").splitlines()]
    assert copied == [
        {"chunk": 9, "file_id": "a", "outcome": "unmatched", "type": None, "reused_from": "r"},
        {"file_id": "b", "chunk": 9, "reused_from": "r"},
    ]


def test_rename_changes_the_file_id_of_a_line_only() -> None:
    """Only the ID differs, wherever it stands in the line and whatever else does."""
    lines = [b'{"file_id":"a","reasoning":"\\"file_id\\":\\"a\\"","chunk":1}', b'{"chunk": 1, "file_id": "a"}']
    for line in lines:
        assert json.loads(rename_file_in_line(line, 'B "c"')) == {**json.loads(line), "file_id": 'B "c"'}


# --- Which runs are found ------------------------------------------------------------------------------------------


def test_earlier_runs_are_found_once_each_newest_first(tmp_path: Path) -> None:
    """Runs and folders of runs, the newest first whatever they are called; each once, but the new one."""

    async def main() -> list[list[str]]:
        first = await spent(Night(["a"]), 0, [])
        for name, number in (("z-old", 1), ("a-new", 3), ("m-mid", 2)):
            planned = await planned_night(Night(["a"]), number, [first])
            (tmp_path / "runs" / name).mkdir(parents=True)
            for file, data in planned.files.items():
                (tmp_path / "runs" / name / file).write_bytes(data)
        (tmp_path / "runs" / "no-run").mkdir()
        (tmp_path / "latest").symlink_to(tmp_path / "runs" / "a-new")
        runs, asked = tmp_path / "runs", SETTINGS.identity()
        given: list[Reuse] = [runs, str(runs / "m-mid"), [runs / "m-mid", runs, tmp_path / "latest"], ()]
        found = [await find_earlier_runs(reuse, runs / "new", asked) for reuse in given]
        found.append(await find_earlier_runs([runs], runs / "a-new", asked))
        return [[Path(earlier.store.where).name for earlier in each] for each in found]

    every = ["a-new", "m-mid", "z-old"]
    assert anyio.run(main) == [every, ["m-mid"], every, [], every[1:]]


# --- Damage -------------------------------------------------------------------------------------------------------


async def source_and_reuser() -> tuple[dict[str, bytes], dict[str, bytes]]:
    first = await spent(Night(["a", "b", "c", "d", "e"], {"c": Said(answered=True)}), 0, [])
    second = await spent(Night(["e", "d", "c", "b", "z"], {"z": FAILS}, [0]), 1, [first])
    return first.files, second.files


def test_a_flipped_bit_in_an_earlier_run_is_refused() -> None:
    """Each bit of the results of an earlier run is proven, and all of them must be there; nothing is written then."""

    async def main() -> None:
        source, _ = await source_and_reuser()
        results = source[Log.RESULTS]
        spoiled = [bytes([*results[:at], results[at] ^ 1, *results[at + 1 :]]) for at in range(len(results))]
        for data in (*spoiled, results[:-1], b""):
            damaged = Stream(source | {Log.RESULTS.value: data})
            store = Stream()
            run = EarlierRun(damaged, await run_of(damaged))
            with pytest.raises(DamagedError, match=r"results\.jsonl in memory"):
                await plan_reusing(store, batches(["a"]), [run], FILES_PER_JOB, limits=TINY)
            assert store.files == {}

    anyio.run(main)


@pytest.mark.usefixtures("few_buckets")
def test_verify_finds_each_flipped_bit() -> None:
    """Of the reused lines no bit can turn, and none can be cut off, without being found."""

    async def main() -> None:
        _, files = await source_and_reuser()
        assert (await verified(MemoryStore(files))).errors == []
        results, reused = files[Log.RESULTS], (await run_of(MemoryStore(files))).run.reused
        assert reused is not None
        for at in range(reused.bytes):
            spoiled = bytes([*results[:at], results[at] ^ 1, *results[at + 1 :]])
            assert (await verified(MemoryStore(files | {Log.RESULTS.value: spoiled}))).errors, at
        for end in (0, 1, reused.bytes - 1):
            faults = (await verified(MemoryStore(files | {Log.RESULTS.value: results[:end]}))).errors
            assert any("results.jsonl" in fault for fault in faults)

    anyio.run(main)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("counts", {"classified": 4}, "not those that run.json counts"),
        ("types", {"memo": 3}, "not those that run.json counts"),
        ("crc", 1, "lines 1 to 4: reused outcomes are not as they were written"),
        ("chunks", 1, "line 4: file ID e is not the one that the plan has there"),
    ],
)
def test_verify_compares_run_json_with_the_reused_lines(key: str, value: object, words: str) -> None:
    """Counts, CRC and chunks that are not those of the lines are found, also before the journal begins."""

    async def main() -> list[str]:
        first = await spent(Night(["a", "b", "c", "d", "e"], {"c": Said(answered=True)}), 0, [])
        store = await planned_night(Night(["e", "d", "c", "b", "z"], {}, [0]), 1, [first])
        run = json.loads(store.files["run.json"])
        run["reused"][key] = value
        return (await verified(MemoryStore(store.files | {"run.json": json.dumps(run).encode()}))).errors

    assert any(words in fault for fault in anyio.run(main))


def test_verify_compares_the_plan_with_the_reused_lines() -> None:
    """A plan whose reused chunks are of other files is found, though every file has its outcome."""

    async def main() -> list[str]:
        first = await spent(Night(["a", "b"]), 0, [])
        store = await planned_night(Night(["a", "b"], {}, [0]), 1, [first])
        plan = store.files["plan.jsonl"].replace(b'"a", "b"', b'"b", "a"')
        run = json.loads(store.files["run.json"]) | {"plan_sha256": hashlib.sha256(plan).hexdigest()}
        return (
            await verified(MemoryStore(store.files | {"plan.jsonl": plan, "run.json": json.dumps(run).encode()}))
        ).errors

    assert anyio.run(main) == ["results.jsonl, line 1: file ID a is not the one that the plan has there"]


# --- Writing ------------------------------------------------------------------------------------------------------


def test_the_same_input_plans_the_same_bytes() -> None:
    """Plan and results depend on what is planned and reused, and not on how it is read."""

    async def main() -> None:
        first = await spent(Night([f"f{n}" for n in range(30)], {"f3": FAILS}), 0, [])
        seen = set()
        for block_bytes, limits in ((7, TINY), (1000, Limits()), (1 << 18, Limits(buckets=5))):
            source = Stream(first.files)
            source.block_bytes = block_bytes
            store = Stream()
            earlier = [EarlierRun(source, await run_of(source))]
            planned = await plan_reusing(
                store, batches(["x", *(f"f{n}" for n in range(20))]), earlier, 4, limits=limits
            )
            seen.add((store.files["plan.jsonl"], store.files[Log.RESULTS], planned.plan.sha256))
        assert len(seen) == 1

    anyio.run(main)


def test_reused_files_stand_in_large_chunks_on_v2() -> None:
    """On v2, where a job takes one file, the reused files stand in large chunks: they go out in no job."""

    async def main() -> None:
        first = await spent(Night([f"f{n}" for n in range(30)]), 0, [])
        store = Stream()
        asked = batches([f"f{n}" for n in range(33)])
        planned = await plan_reusing(store, asked, [EarlierRun(first, await run_of(first))], 1, limits=TINY)
        assert planned.reused is not None
        assert [len(line["file_ids"]) for line in lines_in(store.files, "plan.jsonl")] == [30, 1, 1, 1]

    anyio.run(main)


def test_a_plan_without_known_files_is_a_plain_plan() -> None:
    """Runs that know no file of the input change nothing; what a killed planning left of results is removed."""

    async def main() -> None:
        first = await spent(Night(["a", "b"], {"b": FAILS}), 0, [])
        plain = await planned_night(Night(["b", "c", "b"]), 1, [])
        store = Stream({Log.RESULTS.value: b'{"reused_from":"r"}\n'})
        earlier = [EarlierRun(first, await run_of(first))]
        planned = await plan_reusing(store, batches(["b", "c", "b"]), earlier, FILES_PER_JOB, limits=TINY)
        assert (planned.reused, planned.duplicates) == (None, 1)
        assert store.files == {"plan.jsonl": plain.files["plan.jsonl"]}
        assert "reused" not in json.loads(plain.files["run.json"])

    anyio.run(main)


@given(
    carried=st.recursive(
        st.none()
        | st.integers()
        | st.text(max_size=5)
        | st.sampled_from(['"carried":', ',"reused_from":"x"}', "\ud800"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["a", "carried", "reused_from", "chunk"]), inner, max_size=3)
        ),
        max_leaves=6,
    ).filter(lambda value: isinstance(value, dict | list)),
    reused_from=st.sampled_from([None, "run-1"]),
)
def test_what_is_carried_is_exchanged_and_nothing_else(carried: Any, reused_from: str | None) -> None:
    """Whatever stands in it, and whether the line was copied before; as a version wrote it or as this one does."""
    answered = {"file_id": "a", "outcome": "classified", "reasoning": ',"carried":{"x":1}', "chunk": 1}
    last = {} if reused_from is None else {"reused_from": reused_from}
    for values in (answered | {"carried": carried} | last, answered | last | {"carried": carried}, answered | last):
        stripped = strip_carried(encode_line(values)[:-1])
        assert json.loads(stripped) == answered | last
        again = add_carried(stripped + b"\n" + stripped + b"\n", [json.dumps(carried), '{"b":1}'])
        lines = again.split(b"\n")
        assert [json.loads(line) for line in lines[:2]] == [
            answered | last | {"carried": json.loads(json.dumps(carried))},
            answered | last | {"carried": {"b": 1}},
        ]
        assert lines[2:] == [b""]
