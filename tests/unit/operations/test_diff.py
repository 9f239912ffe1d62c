"""What changed between two runs: as a plain comparison of two dicts would tell it, and never more than is committed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID
from zlib import crc32

import anyio
import pytest
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st
from trio.testing import MockClock

from classify_batch.errors import DamagedError, StoreError, WorldError
from classify_batch.lifecycle import Ended, Fact, Finished, Submitted, Submitting, Tally
from classify_batch.model import Answer, AnsweredFile, Attempt, AttemptKey, Failure, Part, Segment, to_ranges
from classify_batch.operations.diff.changes import CHANGES, Change, Diff, compare_runs
from classify_batch.operations.diff.summary import DiffSummary, format_diff, summarize_diff
from classify_batch.operations.open_run import OpenedRun
from classify_batch.rundir.identity import differing_parts
from classify_batch.rundir.journal.entry import encode_about_run, encode_facts
from classify_batch.rundir.journal.line import seal_line
from classify_batch.rundir.opened_run import RunOnDisk, read_run
from classify_batch.rundir.outcome_lines import encode_line, encode_results, failure_lines, result_lines
from classify_batch.rundir.plan import plan_line
from classify_batch.rundir.run_json import identity_of_run, parse_run_file
from classify_batch.store.memory import MemoryStore
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import Limits
from classify_batch.vocabulary import FailureCode, Kind, Log
from tests.support.simulated_run import laboratory

FILES_PER_CHUNK = 3
IDENTITY: Mapping[str, object] = {
    "api_version": "v1",
    "base_url": "https://api.test",
    "project_id": None,
    "mode": "FAST",
    "rules": [{"type": "invoice", "description": "has a total"}, {"type": "memo", "description": "is short"}],
    "parsing_configuration": None,
}
TINY = Limits(buckets=3, held_ids=2, file_bytes=64)
RUN_DIRS = ("runs/monday", "runs/tuesday")


class Said(NamedTuple):
    """What a run says of a file: an outcome, or that it waits for one. Confidences in ten-thousandths."""

    outcome: str
    type: str | None = None
    confidence: int | None = None
    code: str | None = None
    reasoning: str | None = None


WAITS = Said("waiting")
Night = Mapping[str, Said]


def invoice(confidence: int | None = 9000) -> Said:
    return Said("classified", "invoice", confidence)


def failed(code: FailureCode = FailureCode.JOB_ERROR) -> Said:
    return Said("failed", code=code.value)


# --- Nights as runs leave them ------------------------------------------------------------------------------------


class Stream(MemoryStore):
    """A store that gives its files in blocks of a few bytes."""

    def __init__(self, files: Mapping[str, bytes], block_bytes: int) -> None:
        super().__init__(files)
        self._block_bytes = block_bytes

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        data = await self.read(name, start, end)
        for place in range(0, len(data), self._block_bytes):
            yield data[place : place + self._block_bytes]


def files_of(night: Night, identity: Mapping[str, object] = IDENTITY) -> dict[str, bytes]:
    """The files of a run in which each chunk went out once, and what waits is to go out again."""
    file_ids = list(night)
    chunks = [file_ids[start : start + FILES_PER_CHUNK] for start in range(0, len(file_ids), FILES_PER_CHUNK)]
    plan = "".join(plan_line(number, chunk) for number, chunk in enumerate(chunks)).encode()
    run = {"format": 1, "run_id": "r", "created_at": "2026-11-22T01:00:00Z", "settings": {}, "identity": identity}
    run |= {
        "files": len(night),
        "duplicates": 0,
        "chunks": len(chunks),
        "plan_sha256": hashlib.sha256(plan).hexdigest(),
    }
    data = json.dumps(run).encode()
    journal = [encode_about_run(1, 1.0, 0, Kind.OPENED, {"run_sha256": hashlib.sha256(data).hexdigest()})]
    results = failures = b""
    for number, chunk in enumerate(chunks):
        facts, result, failure = lived(number, chunk, night, len(results), len(failures))
        journal += [encode_facts(len(journal) + at, 1.0, 0, [fact]) for at, fact in enumerate(facts, 1)]
        results, failures = results + result, failures + failure
    files = {Log.RESULTS: results, Log.FAILURES: failures, Log.JOURNAL: b"".join(journal)}
    return {"run.json": data, "plan.jsonl": plan, **{log.value: lines for log, lines in files.items()}}


def lived(
    number: int, chunk: list[str], night: Night, results_end: int, failures_end: int
) -> tuple[list[Fact], bytes, bytes]:
    """A chunk's only attempt, and its lines."""
    key = AttemptKey(number, 1)
    said = [night[file_id] for file_id in chunk]
    attempt = Attempt(key=key, part=Part(number), positions=tuple(range(len(chunk))), file_ids=tuple(chunk))
    answers = [
        AnsweredFile(file_id, Answer(file_id, True, each.type, none_or(each.confidence), each.reasoning), "job", "FAST")
        for file_id, each in zip(chunk, said, strict=True)
        if each.outcome in ("classified", "unmatched")
    ]
    bad = [Failure(at, FailureCode(each.code), "why") for at, each in enumerate(said) if each.code is not None]
    waiting = [at for at, each in enumerate(said) if each == WAITS]
    lines = result_lines(attempt, answers, "1970-01-01T00:00:01Z")
    result, failure = encode_results(lines), failure_lines(attempt, "job", bad, 1.0)
    outcomes = Counter([line.outcome for line in lines] + ["failed"] * len(bad))
    types = Counter(line.type for line in lines if line.type is not None)
    ended = Ended(
        key,
        Kind.COLLECTED,
        Segment(results_end, results_end + len(result), crc32(result)) if answers else None,
        Segment(failures_end, failures_end + len(failure), crc32(failure)) if bad else None,
        tally=Tally(dict(outcomes), dict(types), dict(Counter(failure.code.value for failure in bad))),
        requeued=(Part(number, to_ranges(waiting)),) if waiting else (),
    )
    begun: list[Fact] = [Submitting(key, Part(number), 1.0), Submitted(key, "job", 1.0), Finished(key, "SUCCESS", 1.0)]
    return [*begun, ended], result, failure


def none_or(confidence: int | None) -> float | None:
    return None if confidence is None else confidence / 10_000


def opened(run: RunOnDisk | None) -> OpenedRun:
    """A run without shards, to be compared."""
    assert run is not None
    return OpenedRun(run.store.where, run.run, [run])


async def compared(
    before: MemoryStore, after: MemoryStore, only: Change | None = None, least: float = 0.1, limits: Limits = TINY
) -> tuple[Diff, list[dict[str, Any]]]:
    """The comparison, and the lines of the files that were asked for."""
    runs = [await read_run(before), await read_run(after)]
    blocks: list[bytes] = []
    found = await compare_runs(
        *map(opened, runs), min_confidence_change=least, only=only, sink=blocks.append, limits=limits
    )
    return found, [json.loads(line) for line in b"".join(blocks).decode().splitlines()]


def summary_of(before: Mapping[str, bytes], after: Mapping[str, bytes], **options: Any) -> DiffSummary:
    """The summary."""

    async def main() -> DiffSummary:
        found, _ = await compared(MemoryStore(before), MemoryStore(after), **options)
        return summarize_diff(found, RUN_DIRS)

    return anyio.run(main)


# --- Against a plain comparison -----------------------------------------------------------------------------------

ODD_IDS = ("file-1", "file-2", 'quoted"', "back\\slash", "größe", "文書", "🗎", "{}", "a,b", "x" * 200)
file_ids = st.one_of(
    st.sampled_from(ODD_IDS), st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=4)
)
confidences = st.one_of(st.none(), st.integers(0, 10_000), st.sampled_from([7000, 8000, 9000]))
reasonings = st.sampled_from([None, "", "line\u2028break", "next\u0085line", "lone \ud800", 'a "quote"\n', "\x00"])
types = st.sampled_from(["invoice", "memo", "failed", "unmatched", "waiting", "\ud800", "line\u2028break", ""])
verdicts = st.one_of(
    st.builds(Said, st.just("classified"), types, confidences, st.none(), reasonings),
    st.builds(Said, st.just("unmatched"), st.none(), confidences, st.none(), reasonings),
    st.builds(failed, st.sampled_from(FailureCode)),
    st.just(WAITS),
)
nights = st.dictionaries(file_ids, verdicts, min_size=1, max_size=12)


def plainly(was: Said | None, now: Said | None, least: int) -> Change:
    """What became of a file, as the manual says it."""
    if WAITS in (was, now):
        return Change.WAITING
    if was is None:
        return Change.NEW
    if now is None:
        return Change.GONE
    if was.outcome != now.outcome:
        return Change.OUTCOME
    if was.type != now.type:
        return Change.TYPE
    if was.confidence is None or now.confidence is None:
        moved = was.confidence != now.confidence
    else:
        moved = was.confidence != now.confidence and abs(was.confidence - now.confidence) >= least
    return Change.CONFIDENCE if moved else Change.UNCHANGED


def named(said: Said) -> str:
    return said.outcome if said.type is None else said.type


def as_said(said: Said | None) -> dict[str, object] | None:
    if said is None:
        return None
    confidence = none_or(said.confidence)
    return {"outcome": said.outcome, "type": said.type, "confidence": confidence, "code": said.code}


@pytest.mark.slow
@given(nights, nights, st.sampled_from([0, 1, 1000, 10_000]), st.sampled_from(CHANGES), st.integers(1, 200))
@tried(max_examples=300, deadline=None)
def test_a_diff_equals_a_plain_comparison_of_two_dicts(
    before: Night, after: Night, least: int, only: Change, block_bytes: int
) -> None:
    """Counts, pairs of types, means and lines are those of a comparison of two dicts, whatever the blocks."""
    expected = {
        file_id: plainly(before.get(file_id), after.get(file_id), least) for file_id in before.keys() | after.keys()
    }

    async def main() -> tuple[Diff, list[dict[str, Any]]]:
        first, second = (Stream(files_of(night), block_bytes) for night in (before, after))
        return await compared(first, second, only, least / 10_000)

    found, lines = anyio.run(main)
    assert dict(found.counts) == {change: list(expected.values()).count(change) for change in Change}
    pairs = Counter(
        (change, named(before[file_id]), named(after[file_id]))
        for file_id, change in expected.items()
        if change in (Change.OUTCOME, Change.TYPE)
    )
    assert Counter({tuple(pair): files for pair, files in found.pairs.items()}) == pairs
    moves = [
        (was, now)
        for file_id, change in expected.items()
        if change in (Change.CONFIDENCE, Change.UNCHANGED)
        and (was := before[file_id].confidence) is not None
        and (now := after[file_id].confidence) is not None
    ]
    assert found.confidence.files == len(moves)
    assert found.confidence.before == pytest.approx(sum(was for was, _ in moves) / 10_000)
    assert found.confidence.after == pytest.approx(sum(now for _, now in moves) / 10_000)
    assert found.confidence.moved == pytest.approx(sum(abs(now - was) for was, now in moves) / 10_000)
    assert sorted(lines, key=lambda line: str(line["file_id"])) == [
        {
            "file_id": file_id,
            "change": only.value,
            "before": as_said(before.get(file_id)),
            "after": as_said(after.get(file_id)),
        }
        for file_id in sorted(expected)
        if expected[file_id] is only
    ]


def test_a_change_of_exactly_the_minimum_counts() -> None:
    """From 0.8 to 0.9 it is 0.1 for whoever asks, though the floats are a little less apart; not so from 0.8001."""
    assert 0.9 - 0.8 < 0.1
    before, after = {"a": invoice(8000), "b": invoice(8001)}, {"a": invoice(9000), "b": invoice(9000)}
    assert summary_of(files_of(before), files_of(after))["changes"]["confidence"] == 1


def test_thousands_of_files_are_compared_through_the_temporary_file() -> None:
    """Thousands of files a side, through the buckets of a big run and its temporary file."""
    before = {f"file-{number}": invoice(number) for number in range(5000)}
    after = {f"file-{number}": invoice(number + 2000 * (number % 2)) for number in range(1000, 6000)}
    summed = summary_of(files_of(before), files_of(after), limits=Limits(held_ids=700, file_bytes=1 << 10))
    assert summed["changes"] == {"new": 1000, "gone": 1000, "outcome": 0, "type": 0, "confidence": 2000}
    assert (summed["unchanged"], summed["files"]) == (2000, 6000)
    assert summed["confidence"]["change"] == pytest.approx(0.1)


def test_a_run_does_not_differ_from_itself() -> None:
    """A run doesn't differ from itself, and nothing is said of what would."""
    files = files_of({"a": invoice(), "b": failed(), "c": Said("unmatched"), "d": WAITS})
    summed = summary_of(files, files)
    assert summed["changes"] == dict.fromkeys(summed["changes"], 0)
    assert (summed["unchanged"], summed["waiting"], summed["types"], summed["differs"]) == (3, 1, [], {})


def spelled(night: Night, spelling: Callable[[str], str]) -> Night:
    return {spelling(file_id): said for file_id, said in night.items()}


@given(st.dictionaries(st.uuids().map(str), verdicts, min_size=1), st.sampled_from(CHANGES), st.data())
@tried(max_examples=100, deadline=None)
def test_uuids_are_compared_by_value(before: Night, only: Change, data: st.DataObject) -> None:
    """Another spelling makes no other file: counts are as if both runs spelled alike, and lines name the second's."""
    after = {file_id: data.draw(verdicts) for file_id in before if data.draw(st.booleans())} | {str(UUID(int=7)): WAITS}
    upper = spelled(after, str.upper)
    same, same_lines = anyio.run(compared, MemoryStore(files_of(before)), MemoryStore(files_of(after)), only)
    found, lines = anyio.run(compared, MemoryStore(files_of(before)), MemoryStore(files_of(upper)), only)
    assert (found.counts, found.pairs, found.confidence) == (same.counts, same.pairs, same.confidence)
    expected = [
        {**line, "file_id": line["file_id"].upper() if line["file_id"] in after else line["file_id"]}
        for line in same_lines
    ]
    assert lines == expected


def test_of_two_spellings_in_an_older_run_the_answer_counts() -> None:
    """It took them for two files and sent both, and one was never answered: the answer counts, nothing is damaged."""
    file_id = str(UUID(int=0xABC << 96))
    both = {file_id: invoice(), file_id.upper(): failed(FailureCode.NOT_ANSWERED), "b": invoice()}
    waiting = {file_id.upper(): WAITS, file_id: invoice(), "b": invoice()}
    for night in (both, dict(reversed(both.items())), waiting):
        summed = summary_of(files_of(night), files_of({file_id: invoice(), "b": invoice()}))
        assert (summed["unchanged"], summed["waiting"], sum(summed["changes"].values())) == (2, 0, 0)


# --- What is read ---------------------------------------------------------------------------------------------------


def test_uncommitted_lines_are_not_read() -> None:
    """A line, or half a one, behind the last committed byte is nobody's outcome: its file waits."""
    files = files_of({"a": invoice(), "b": WAITS})
    summed = []
    for tail in (b"", b'{"file_id":"b","outc', b'{"file_id":"b","outcome":"classified","type":"memo"}\n', b"\x00" * 9):
        torn = files | {Log.RESULTS.value: files[Log.RESULTS] + tail, Log.FAILURES.value: tail}
        summed.append(summary_of(files_of({"a": invoice(), "b": invoice()}), torn))
    assert summed == summed[:1] * 4
    assert (summed[0]["waiting"], summed[0]["after"]["state"]) == (1, "incomplete")


def test_files_of_a_run_that_has_not_begun_are_waiting() -> None:
    """A run of which only the plan is there waits for everything, and nothing of the other is gone."""
    night = {f"file-{number}": invoice() for number in range(7)}
    planned = files_of(night)
    for name in (Log.JOURNAL, Log.RESULTS, Log.FAILURES):
        del planned[name]
    summed = summary_of(files_of(night), planned)
    assert (summed["waiting"], sum(summed["changes"].values())) == (7, 0)


SOUND = {"a": invoice(), "b": failed(), "c": invoice(), "d": invoice(), "e": failed()}


def replaced(log: Log, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    def damage(files: dict[str, bytes]) -> None:
        assert old in files[log]
        files[log] = files[log].replace(old, new, 1)

    return damage


def cut_off(files: dict[str, bytes]) -> None:
    files[Log.RESULTS] = files[Log.RESULTS][:-1]


def endless(files: dict[str, bytes]) -> None:
    files[Log.RESULTS] = files[Log.RESULTS][:-1] + b" "


def lost(files: dict[str, bytes]) -> None:
    del files[Log.FAILURES]


def rewritten(old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    """Another answer, and the journal of somebody who wrote it: no checksum tells."""

    def damage(files: dict[str, bytes]) -> None:
        replaced(Log.RESULTS, old, new)(files)
        reseal(files)

    return damage


def reseal(files: dict[str, bytes]) -> None:
    """Gives the segments in the journal the checksums of what the results hold now."""
    bodies = [json.loads(line) for line in files[Log.JOURNAL].splitlines()]
    for body in bodies:
        del body["crc"]
        for item in body.get("items", ()):
            if "results" in item:
                start, end, _ = item["results"]
                item["results"] = [start, end, crc32(files[Log.RESULTS][start:end])]
    files[Log.JOURNAL] = b"".join(seal_line(json.dumps(body, separators=(",", ":")).encode()) for body in bodies)


def torn_plan(files: dict[str, bytes]) -> None:
    files["plan.jsonl"] = files["plan.jsonl"][:-1]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_off, r"results\.jsonl in memory has \d+ bytes, but \d+ were committed"),
        (lost, r"failures\.jsonl in memory has 0 bytes, but \d+ were committed"),
        (replaced(Log.RESULTS, b'{"file_id":"c"', b'["file_id","c" '), r"results\.jsonl in memory, line 2: not an"),
        (replaced(Log.RESULTS, b'"c","outcome"', b'\n\n\n,"outcome"'), r"results\.jsonl in memory, line 2: not an"),
        (replaced(Log.RESULTS, b'"confidence":0.9', b'"confidence":NaN'), r"results\.jsonl in memory, line 1: not an"),
        (replaced(Log.RESULTS, b'"file_id":"d"', b'"file_id": 17'), r"results\.jsonl in memory, line 3: not an"),
        (replaced(Log.RESULTS, b'"file_id":"a"', b'"file_id":"\\ud800"'), r"results\.jsonl in memory, line 1: not an"),
        (endless, r"results\.jsonl in memory, bytes \d+ to \d+: not as they were written"),
        (
            replaced(Log.RESULTS, b'"confidence":0.9', b'"confidence":0.1'),
            r"results\.jsonl in memory, bytes 0 to \d+: not",
        ),
        (
            replaced(Log.FAILURES, b'"message":"why"', b'"message":"who"'),
            r"failures\.jsonl in memory, bytes 0 to \d+: not",
        ),
        (replaced(Log.RESULTS, b'}\n{"file_id"', b'}\n\n "file_id"'), r"results\.jsonl in memory, line 2: not an"),
        (replaced(Log.RESULTS, b'}\n{"file_id"', b', \n{"file_id"'), r"results\.jsonl in memory, line 1: not an"),
        (replaced(Log.FAILURES, b"}\n", b"} "), r"failures\.jsonl in memory, line 1: not an"),
        (rewritten(b'"file_id":"d"', b'"file_id":"c"'), r"memory: file ID c has two outcomes"),
        (rewritten(b'"file_id":"d"', b'"file_id":"e"'), r"memory: file ID e has two outcomes"),
        (replaced(Log.JOURNAL, b'"classified":2', b'"classified":3'), r"journal\.jsonl in memory, line 5"),
    ],
)
def test_damaged_outcomes_are_named_by_file_and_line(damage: Callable[[dict[str, bytes]], None], words: str) -> None:
    """Committed outcomes that are not there, or are no outcomes, end the comparison: file and line are named."""
    sound = files_of(SOUND)
    sound |= {Log.JOURNAL: sound[Log.JOURNAL] + encode_about_run(10, 1.0, 9, Kind.CLOSED, {"requests": 1})}
    damaged = dict(sound)
    damage(damaged)
    for sides in ((sound, damaged), (damaged, sound)):
        with pytest.raises(DamagedError, match=words) as refused:
            summary_of(*sides)
        assert refused.value.hint


def test_a_damaged_plan_of_an_incomplete_run_is_an_error() -> None:
    """The plan is read where it is needed, and must be the one that was written."""
    sound, waiting = files_of(SOUND), files_of({**SOUND, "f": WAITS})
    torn_plan(waiting)
    with pytest.raises(DamagedError, match=r"plan\.jsonl in memory"):
        summary_of(sound, waiting)


def test_fewer_lines_than_the_journal_counts_are_an_error() -> None:
    """Two lines that became one, and are valid JSON, are not taken for one outcome."""
    files = files_of({"a": invoice(), "b": invoice()})
    lines = files[Log.RESULTS].splitlines(keepends=True)
    one = encode_line({"file_id": "a", "outcome": "classified", "type": "invoice", "pad": ""})
    files[Log.RESULTS] = one[:-3] + b"x" * (sum(map(len, lines)) - len(one)) + one[-3:]
    reseal(files)
    with pytest.raises(DamagedError, match=r"results\.jsonl in memory has 1 outcomes, and the journal says 2"):
        summary_of(files, files)


def test_a_full_temporary_directory_has_a_fitting_hint() -> None:
    """The refusal says what needs the room."""

    async def main() -> None:
        store, limits = MemoryStore(files_of(SOUND)), Limits(buckets=3, held_ids=1, file_bytes=1)
        run = opened(await read_run(store))
        await compare_runs(run, run, min_confidence_change=0.1, directory=Path("/absent/folder"), limits=limits)

    with pytest.raises(StoreError, match="/absent/folder") as refused:
        anyio.run(main)
    assert "comparing takes" in refused.value.hint


# --- Runs as they are lived -----------------------------------------------------------------------------------------


def in_virtual_time(main: Callable[[], Any]) -> None:
    anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


class Reopening(MemoryStore):
    """A store in which a retry begins while its failures are read."""

    def __init__(self, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
        super().__init__(before)
        self._after = after

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if name == Log.FAILURES:
            self._files = {name: bytearray(data) for name, data in self._after.items()}
        async with closing(super().stream(name, start, end)) as blocks:
            async for block in blocks:
                yield block


def test_retried_failures_count_as_they_ended() -> None:
    """Failures that were retried are as they ended, in the same directory; a retry beneath the reader is said."""

    async def main() -> None:
        with laboratory(20, files_per_job=5, faults={"poison": {"file-3", "file-7"}}, limits={"attempts": 1}) as lab:
            await lab.run()
            first = lab.store.files
            await lab.run(retry_failed=True)
            second = lab.store.files
            assert "failures.1.jsonl" in second
            lines = lab.lines(Log.FAILURES)
            assert {line["file_id"] for line in lines} == {"file-3", "file-7"}
        found, _ = await compared(MemoryStore(first), MemoryStore(second))
        assert (found.counts[Change.UNCHANGED], found.counts.total()) == (20, 20)
        for now in (second, second | {Log.FAILURES.value: b""}):
            with pytest.raises(WorldError, match="took its failed files up again") as refused:
                await compared(MemoryStore(first), Reopening(first, now))
            assert refused.value.hint == "the same command again"
        stale = first | {"failures.1.jsonl": first[Log.FAILURES]}  # a retry that was killed before it began
        assert (await compared(MemoryStore(first), MemoryStore(stale)))[0].counts == found.counts

    in_virtual_time(main)


def test_after_a_power_cut_what_is_committed_is_compared() -> None:
    """What was committed by then is compared; the other files wait, and are neither new nor gone."""

    async def main() -> None:
        with laboratory(60, files_per_job=5, limits={"jobs_in_flight": 2}, commit_s=0.01, seed=3) as lab:
            assert await lab.run_until_power_cut(1.0) is None
            halfway = MemoryStore(lab.store.files)
            run = await read_run(halfway)
            assert run is not None
            done = run.snapshot.outcomes.total()
            assert 0 < done < 60
            await lab.run()
            for sides in ((halfway, lab.store), (lab.store, halfway)):
                found, _ = await compared(*sides)
                assert (found.counts[Change.UNCHANGED], found.counts[Change.WAITING]) == (done, 60 - done)
                assert found.counts.total() == 60

    in_virtual_time(main)


# --- What is said ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("api_version", "v2", "API version: v1 -> v2"),
        ("mode", "MULTIMODAL", "mode: FAST -> MULTIMODAL"),
        ("project_id", "p-1", "project: none -> p-1"),
        ("parsing_configuration", {"lang": "de"}, 'parsing configuration: none -> {"lang": "de"}'),
        ("base_url", "https://" + "x" * 90, "base URL: https://api.test -> https://xxxxx"),
        ("rules", [{"type": "invoice", "description": "has a sum"}], "rules: - memo, new description of invoice"),
        ("rules", [*IDENTITY["rules"], {"type": "plan", "description": "is one"}], "rules: + plan"),  # type: ignore[misc]
        ("rules", IDENTITY["rules"][::-1], "rules: another order"),  # type: ignore[index]
        ("organization_id", "o-1", "organization: none -> o-1"),
        ("escalation", {"unmatched": True}, 'second look: none -> {"unmatched": true}'),
        ("triage", {"accept_above": 0.9, "by_type": {}}, 'triage: none -> {"accept_above": 0.9, "by_type": {}}'),
        ("carry", ["name", "path"], 'carried columns: none -> ["name", "path"]'),
    ],
)
def test_differing_settings_are_named_in_one_line(name: str, value: object, words: str) -> None:
    """Another rule, mode or version doesn't stop the comparison, and is named in one line."""
    summed = summary_of(files_of(SOUND), files_of(SOUND, {**IDENTITY, name: value}))
    assert summed["differs"] == {name: {"before": IDENTITY.get(name), "after": value}}
    assert summed["unchanged"] == 5
    said = [line for line in format_diff(summed) if line.startswith("differs ")]
    assert len(said) == 1
    assert words in said[0]


def test_of_settings_in_tables_the_changed_values_are_shown() -> None:
    """Of a second look that has other values than before, these are shown, and nothing is cut off."""
    weak = {"below_confidence": 0.8, "unmatched": False, "mode": "MULTIMODAL"}
    sides = [{**IDENTITY, "escalation": weak}, {**IDENTITY, "escalation": {**weak, "below_confidence": 0.7}}]
    lines = format_diff(summary_of(*(files_of(SOUND, identity) for identity in sides)))
    assert [line for line in lines if "second look" in line] == ["differs     second look: below_confidence 0.8 -> 0.7"]


def test_a_long_difference_takes_several_lines() -> None:
    """What a setting is now is shown also where it was long before."""
    before = {**IDENTITY, "carry": [f"column_{number}" for number in range(9)]}
    lines = format_diff(summary_of(files_of(SOUND, before), files_of(SOUND, {**IDENTITY, "carry": ["only_this"]})))
    start = next(number for number, line in enumerate(lines) if line.startswith("differs "))
    assert '-> ["only_this"]' in " ".join(" ".join(lines[start : start + 3]).split())
    assert [line for line in lines if len(line) > 80] == []


def test_an_organization_that_an_older_version_kept_elsewhere_is_no_difference() -> None:
    """Version 0.2 kept the organization among the settings only: it is the same one."""
    now, then = (json.loads(files_of(SOUND)["run.json"]) for _ in range(2))
    now["identity"]["organization_id"] = "o-1"
    then["settings"] = {"api": {"organization_id": "o-1"}}
    runs = [parse_run_file(json.dumps(each).encode(), "run.json") for each in (now, then)]
    assert differing_parts(*map(identity_of_run, runs)) == []


def test_another_set_of_files_is_not_a_difference_of_settings() -> None:
    """The hash of the file IDs in run.json differs from run to run, and is not named."""
    sides = [files_of({"a": invoice()}, {**IDENTITY, "ids_sha256": value}) for value in "ab"]
    summed = summary_of(*sides)
    assert summed["differs"] == {}
    assert "waiting" not in "".join(format_diff(summed))


def test_the_table_fits_a_terminal() -> None:
    """80 characters and no line break or escape in a line, whatever the server calls its types; the rest is counted."""
    odd = ("\x1b[31mred", "two\nlines", "line\u2028break", "lone \ud800", "x" * 300)
    kinds = [f"{words} {number}" for number in range(6) for words in odd]
    before = {f"file-{number}": invoice() for number in range(len(kinds))}
    after = {f"file-{number}": Said("classified", kind, 5000) for number, kind in enumerate(kinds)}
    lines = format_diff(summary_of(files_of(before), files_of(after)))
    assert [line for line in lines if len(line) > 80 or not line.isprintable()] == []
    assert lines[-1] == "  … and 10 more pairs"
    assert sum(" -> " in line for line in lines) == 20


def test_the_table_has_these_lines() -> None:
    """The whole of it, once."""
    before = {"a": invoice(8000), "b": invoice(), "c": invoice(), "d": failed(), "e": invoice(), "f": invoice()}
    after = {
        "a": invoice(9000),
        "b": Said("classified", "memo", 9000),
        "c": Said("unmatched"),
        "d": invoice(),
        "f": invoice(),
        "g": invoice(),
        "h": WAITS,
    }
    summed = summary_of(files_of(before), files_of(after))
    assert format_diff(summed) == [
        "before      runs/monday",
        "            complete: 6 of 6 files have their outcome",
        "after       runs/tuesday",
        "            incomplete: 6 of 7 files have their outcome",
        "files       8 in either run, or both",
        "  unchanged                                      1   12.5 %",
        "  new                                            1   12.5 %",
        "  gone                                           1   12.5 %",
        "  other outcome                                  2   25.0 %",
        "  other type                                     1   12.5 %",
        "  confidence moved by 0.1 or more                1   12.5 %",
        "  waiting for its outcome                        1   12.5 %",
        "types",
        "  failed                        -> invoice                                 1",
        "  invoice                       -> unmatched                               1",
        "  invoice                       -> memo                                    1",
        "confidence  of 2 files with the same answer in both runs",
        "            0.8500 -> 0.9000 on average (+0.0500); up or down by 0.0500",
    ]
    assert summed["types"][0] == {"change": "outcome", "before": "failed", "after": "invoice", "files": 1}
    assert summed["after"] == {
        "run_dir": "runs/tuesday",
        "run_id": "r",
        "created_at": "2026-11-22T01:00:00Z",
        "state": "incomplete",
        "files": 7,
        "counts": {"classified": 5, "unmatched": 1, "failed": 0},
    }
    means = {"before": 0.85, "after": 0.9, "change": 0.05, "absolute_change": 0.05}
    assert summed["confidence"] == {"min_change": 0.1, "files": 2, **means}
