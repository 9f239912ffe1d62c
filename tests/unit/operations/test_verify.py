"""What `verify` finds: every flipped bit, every line that is gone, doubled, moved or cut off, and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from classify_batch.errors import DamagedError
from classify_batch.operations import verify as verifying
from classify_batch.operations.output_hashes import OutputHashes
from classify_batch.operations.verify import Verification, verify_store
from classify_batch.rundir.journal.entry import decode_entry, encode_about_run
from classify_batch.rundir.journal.reader import Reader
from classify_batch.rundir.manifest_json import manifest_of, read_manifest, write_manifest
from classify_batch.rundir.opened_run import read_run
from classify_batch.rundir.outcome_ids import outcome_file_id, outcome_file_ids
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Kind, Log, RunState
from tests.support.simulated_run import Lab, laboratory

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("few_buckets")]

PLAN = "plan.jsonl"
COMMITTED = (Log.RESULTS, Log.FAILURES, Log.JOURNAL, PLAN)
Files = dict[str, bytes]


def made(script: Callable[[Lab], Awaitable[object]], count: int, **faults: object) -> Files:
    """The files of a run. Its results are never late, so that failures come close behind the first answers."""
    limits = {"attempts": 1, "settle_s": 0.05}

    async def main() -> Files:
        with laboratory(count, files_per_job=2, faults=faults, limits=limits, seed=3, commit_s=0.01) as lab:
            await script(lab)
            return lab.store.files

    return anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


@pytest.fixture(scope="module")
def complete() -> Files:
    """Two results and a failure, complete: small, because every bit of it is flipped."""
    return made(lambda lab: lab.run(), 3, poison={"file-2"})


@pytest.fixture(scope="module")
def killed() -> Files:
    """A run in the middle of which the power went: some of its results, and some failures, were committed."""
    for hundredths in range(35, 90):
        cut = partial(cut_after, hundredths / 100)
        files = made(cut, 8, poison={"file-0"}, null_result=0.2)
        journal = files[Log.JOURNAL]
        if b'"results":[' in journal and b'"failures":[' in journal:
            assert b'"closed"' not in journal
            return files
    raise AssertionError("there is no such moment")


async def cut_after(after_s: float, lab: Lab) -> object:
    return await lab.run_until_power_cut(after_s, max)


async def found_in(files: Files) -> Verification:
    found = await verify_store(MemoryStore(files))
    assert found is not None
    return found


async def faults_of(files: Files) -> list[str]:
    return (await found_in(files)).errors


ALL_BITS, ONE_BIT = range(8), (1,)
"""Which bits of each byte are flipped."""


def flips(data: bytes, bits: Sequence[int] = ALL_BITS) -> Iterator[tuple[int, bytes]]:
    """Each bit flipped once, with the byte that it is in."""
    for byte in range(len(data)):
        for bit in bits:
            flipped = bytearray(data)
            flipped[byte] ^= 1 << bit
            yield byte, bytes(flipped)


def line_at(data: bytes, byte: int) -> int:
    return data[:byte].count(b"\n") + 1


# --- Sound runs ------------------------------------------------------------------------------------------------------


async def test_a_sound_run_has_no_errors(complete: Files) -> None:
    """A complete run is called complete, with its counts, and there is nothing to remark."""
    found = await found_in(complete)
    assert (found.errors, found.notes, found.complete, found.files) == ([], [], True, 3)
    assert found.counts == {"classified": 2, "unmatched": 0, "failed": 1}


async def test_an_interrupted_run_is_sound_with_notes(killed: Files) -> None:
    """Open attempts are a note, and no error."""
    found = await found_in(killed)
    assert found.errors == []
    assert not found.complete
    assert any("not collected yet" in note or "ambiguous" in note for note in found.notes)
    assert 0 < sum(found.counts.values()) < 8
    assert found.counts["failed"] > 0


async def test_a_power_cut_at_any_moment_leaves_a_sound_run() -> None:
    """Whatever part of the last group had reached the disk, a run is never called damaged for it."""
    faults, limits = {"partial": 0.3, "error": 0.2}, {"settle_s": 0.05}
    with laboratory(30, files_per_job=3, faults=faults, limits=limits, commit_s=0.03) as lab:
        async with anyio.create_task_group() as tasks:

            async def look(choose: Callable[[int, int], int]) -> None:
                while True:
                    await anyio.sleep(0.007)
                    found = await verify_store(lab.store.crash(choose))
                    assert found is None or not found.errors

            for choose in (min, max, lambda least, most: (least + most) // 2):
                tasks.start_soon(look, choose)
            assert (await lab.run()).state == "complete"
            tasks.cancel_scope.cancel()


async def test_a_directory_without_a_run_has_no_verification() -> None:
    """Where there is no run.json there is nothing to prove."""
    assert await verify_store(MemoryStore({PLAN: b"{}\n"})) is None


# --- Bits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [ONE_BIT, pytest.param(ALL_BITS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [Log.RESULTS, Log.FAILURES, Log.JOURNAL])
async def test_every_flipped_bit_of_a_complete_run_is_found(complete: Files, name: str, bits: Sequence[int]) -> None:
    """Each single one, and the error names the file and the line (of a segment: its lines)."""
    for byte, flipped in flips(complete[name], bits):
        faults = await faults_of({**complete, name: flipped})
        named = [fault for fault in faults if name in fault and ", line" in fault]
        assert named, (byte, faults)
        assert any(names_line(fault, line_at(complete[name], byte)) for fault in named), (byte, faults)


def names_line(fault: str, line: int) -> bool:
    """Whether an error is about a line: `line 3`, or `lines 2 to 4`."""
    words = fault.replace(",", " ").replace(":", " ").split()
    if "lines" in words:
        at = words.index("lines")
        return int(words[at + 1]) <= line <= int(words[at + 3])
    return int(words[words.index("line") + 1]) == line


async def test_every_flipped_bit_of_the_plan_is_found(complete: Files) -> None:
    """Each single one; the file is named, and the line wherever it shows in which one it is."""
    for byte, flipped in flips(complete[PLAN]):
        faults = await faults_of({**complete, PLAN: flipped})
        assert any(fault.startswith(f"{PLAN} in memory: ") for fault in faults), (byte, faults)


@pytest.mark.slow
async def test_every_flipped_committed_bit_of_an_interrupted_run_is_found(killed: Files) -> None:
    """A flipped bit in what was committed is found, too.

    Behind that it may be a torn tail; so may the last durable line, if what is flipped is the newline between it and
    its only witness.
    """
    found = await read_run(MemoryStore(killed))
    assert found is not None
    ends = {Log.RESULTS: found.snapshot.results_end, Log.FAILURES: found.snapshot.failures_end}
    ends[Log.JOURNAL] = sum(map(len, killed[Log.JOURNAL].splitlines(keepends=True)[: durable_lines(killed)])) - 1
    assert all(ends.values())
    for log, end in ends.items():
        for byte in range(end):
            flipped = bytearray(killed[log])
            flipped[byte] ^= 1 << byte % 8
            faults = await faults_of({**killed, log: bytes(flipped)})
            assert any(log in fault and ", line" in fault for fault in faults), (log, byte, faults)


def durable_lines(files: Files) -> int:
    """How many lines of a journal are sworn to have been on the disk."""
    reader = Reader(Log.JOURNAL)
    return max(entry.durable for entry, _ in reader.read_block(files[Log.JOURNAL]))


# --- Lines -----------------------------------------------------------------------------------------------------------


def without(lines: list[bytes], at: int) -> list[bytes]:
    return lines[:at] + lines[at + 1 :]


def twice(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[: at + 1], *lines[at:]]


def swapped(lines: list[bytes], at: int) -> list[bytes]:
    other = at - 1
    moved = list(lines)
    moved[at], moved[other] = moved[other], moved[at]
    return moved


def cut_off(lines: list[bytes], at: int) -> list[bytes]:
    return lines[:at]


def cut_short(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], lines[at][: len(lines[at]) // 2]]


@pytest.mark.parametrize("tamper", [without, twice, swapped, cut_off, cut_short])
@pytest.mark.parametrize("name", COMMITTED)
async def test_every_line_that_was_tampered_with_is_found(
    complete: Files, name: str, tamper: Callable[[list[bytes], int], list[bytes]]
) -> None:
    """Removed, repeated, swapped or cut off: any line of any of the four files, named with its file."""
    lines = complete[name].splitlines(keepends=True)
    for at in range(len(lines)):
        tampered = b"".join(tamper(lines, at))
        if tampered != complete[name]:
            faults = await faults_of({**complete, name: tampered})
            assert any(fault.startswith(name) for fault in faults), (at, faults)


@pytest.mark.parametrize("name", [Log.RESULTS, Log.FAILURES, Log.JOURNAL, PLAN])
async def test_lines_behind_the_end_of_a_complete_run_are_found(complete: Files, name: str) -> None:
    """Nothing may stand where nothing was committed."""
    faults = await faults_of({**complete, name: complete[name] + b"{}\n"})
    assert any(fault.startswith(name) for fault in faults)


@pytest.mark.parametrize("name", COMMITTED)
async def test_a_missing_file_is_found(complete: Files, name: str) -> None:
    """A missing file is an error, and no crash."""
    faults = await faults_of({other: data for other, data in complete.items() if other != name})
    assert any(fault.startswith(name) for fault in faults)


async def test_a_missing_manifest_of_a_complete_run_is_found(complete: Files) -> None:
    """What a run hands on is part of it."""
    faults = await faults_of({name: data for name, data in complete.items() if name != "manifest.json"})
    assert any(fault.startswith("manifest.json") for fault in faults)


async def test_a_run_json_of_another_run_is_found(complete: Files) -> None:
    """A run.json that is not the one under which the journal was begun."""
    changed = complete["run.json"].replace(b'"duplicates": 0', b'"duplicates": 1')
    assert changed != complete["run.json"]
    assert any("run.json" in fault for fault in await faults_of({**complete, "run.json": changed}))


async def test_every_flipped_bit_of_run_json_is_found(complete: Files) -> None:
    """Its SHA-256 stands in the journal's first line."""
    for byte, flipped in flips(complete["run.json"]):
        if byte % 8 == 0 and b'"format": 1' in flipped:
            assert any("run.json" in fault for fault in await faults_of({**complete, "run.json": flipped})), byte


# --- One outcome for each ID -----------------------------------------------------------------------------------------


async def test_missing_and_unplanned_outcomes_are_found(complete: Files) -> None:
    """An ID without an outcome, and an outcome without an ID, are named, where every checksum has been made to fit."""
    plan = complete[PLAN].replace(b"file-1", b"file-7")
    head = complete["run.json"].replace(sha256(complete[PLAN]).hexdigest().encode(), sha256(plan).hexdigest().encode())
    journal = b"".join(resealed(line, sha256(head).hexdigest()) for line in complete[Log.JOURNAL].splitlines())
    faults = await faults_of({**complete, PLAN: plan, "run.json": head, Log.JOURNAL: journal})
    assert {"file ID file-7 has no outcome", "file ID file-1 has an outcome and is not in the plan"} <= set(faults)


def resealed(line: bytes, run_sha256: str) -> bytes:
    """A line of the journal under another run.json."""
    entry = decode_entry(line)
    if entry.kind is not Kind.OPENED:
        return line + b"\n"
    return encode_about_run(entry.seq, entry.at_s, entry.durable, entry.kind, {"run_sha256": run_sha256})


async def test_the_number_of_errors_is_limited() -> None:
    """More errors than anybody reads are left out."""
    with laboratory(80, files_per_job=2) as lab:
        await lab.run()
        files = lab.store.files
    files[Log.RESULTS] = files[Log.RESULTS].replace(b'{"file_id"', b'["file_id"')
    found = await faults_of(files)
    assert len(found) == verifying.ERRORS_MAX + 1
    assert found[-1] == "… and more"


# --- The IDs of outcomes ---------------------------------------------------------------------------------------------

ODD_LINES = st.sampled_from(
    [
        b'{"file_id":"a"}',
        b'{"file_id": "a"}',
        b'{"file_id":"a"',
        b'{"file_id":"\\u0041","x":1}',
        b"{}",
        b"",
        b'{"file_id":""}',
    ]
) | st.builds(
    lambda words: b'{"file_id":"%s","type":null}' % words, st.binary(max_size=6).filter(lambda b: b"\n" not in b)
)


@settings(deadline=None)
@given(st.lists(ODD_LINES, max_size=5), st.sampled_from([b"\n", b""]))
def test_parsing_ids_at_once_equals_parsing_them_one_by_one(lines: list[bytes], end: bytes) -> None:
    """Or there is no such pass: a line that has to be looked at is never passed over."""
    found = outcome_file_ids(b"\n".join(lines) + end)
    if found is not None:
        assert found == [outcome_file_id(line) for line in lines if line or end]
    plain = lines and end and all(line.startswith(b'{"file_id":"a"') and line.endswith(b"}") for line in lines)
    assert not plain or found == ["a"] * len(lines)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=5), st.lists(st.text("ab", min_size=1, max_size=3)))
def test_ids_of_long_and_many_lines_are_parsed_alike(lengths: list[int], names: list[str]) -> None:
    """Lines are taken apart in pieces: none is lost between two of them, and one may be longer than a piece."""
    file_ids = [f"{name}-{number}" for number, name in enumerate(names * 300)]
    padding = ["x" * lengths[number % len(lengths)] if number < 9 else "" for number in range(len(file_ids))]
    lines = [
        b'{"file_id":"%s","reasoning":"%s"}\n' % (file_id.encode(), words.encode())
        for file_id, words in zip(file_ids, padding, strict=True)
    ]
    assert outcome_file_ids(b"".join(lines)) == (file_ids or None)


async def test_a_sound_run_is_read_once(complete: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass that tells where an error is isn't taken where there is none."""

    async def refuse(*_: object) -> bool:
        raise AssertionError("looked at more closely")

    monkeypatch.setattr(verifying, "check_by_sums", refuse)
    assert not await faults_of(complete)


async def test_outputs_of_a_manifest_that_changed_are_hashed_again(complete: Files) -> None:
    """What was hashed for one manifest doesn't speak for the next."""
    store = MemoryStore(complete)
    hashes = OutputHashes(store)
    await hashes.hash_all_outputs()
    manifest = await read_manifest(store)
    assert manifest is not None
    changed = MemoryStore({**complete, Log.RESULTS: b"{}\n"})
    hashes._store = changed
    assert await hashes.sha256(Log.RESULTS, manifest) == sha256(complete[Log.RESULTS]).hexdigest()
    manifest["files"] += 1
    assert await hashes.sha256(Log.RESULTS, manifest) == sha256(b"{}\n").hexdigest()


async def test_a_lone_surrogate_in_a_type_is_escaped_in_the_manifest() -> None:
    """A lone surrogate becomes its JSON escape: a run doesn't break at its very end."""
    with laboratory(20) as lab:
        await lab.run()
        run = await read_run(lab.store)
        assert run is not None
        run.snapshot.types["\ud800"] = 1
        manifest = manifest_of(run.run, run.snapshot, state=RunState.COMPLETE, requests=0, started_at_s=0.0)
        await write_manifest(lab.store, run.run, run.snapshot, manifest)
        written = await read_manifest(lab.store)
        assert written is not None
        assert written["types"]["\ud800"] == 1


async def test_no_manifest_vouches_for_outcomes_that_are_gone() -> None:
    """Results that were removed at the very end are missed before the run is called complete: else nobody would."""
    with laboratory(20) as lab:
        await lab.run()
        run = await read_run(lab.store)
        assert run is not None
        manifest = manifest_of(run.run, run.snapshot, state=RunState.COMPLETE, requests=0, started_at_s=0.0)
        await lab.store.remove("manifest.json")
        await lab.store.remove(Log.RESULTS)
        with pytest.raises(DamagedError, match=r"results\.jsonl in .* has 0 bytes, but \d+ were committed"):
            await write_manifest(lab.store, run.run, run.snapshot, manifest)
        assert await read_manifest(lab.store) is None
