"""Plain lines of a journal, which are read in bulk: they mean what they mean one by one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from classify_batch.errors import InternalError
from classify_batch.lifecycle import Ended, Fact, Finished, Submitted, Submitting, Tally
from classify_batch.model import AttemptKey, Part, Segment
from classify_batch.rundir.journal.entry import encode_facts
from classify_batch.rundir.journal.reader import Reader, ReplayReader
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.vocabulary import Kind
from tests.support.journal_reading import as_if_read_singly, stands

CHUNKS = 12


def plain_lives(draw: random.Random) -> list[list[Fact]]:
    """Lines of chunks that go the fast path together, and now and then a line that isn't plain, or can't follow."""
    lines, end = list[list[Fact]](), 0
    while len(lines) < 12:
        keys = [AttemptKey(chunk, 1) for chunk in sorted(draw.sample(range(CHUNKS), draw.randint(1, 5)))]
        ends = list[Fact]()
        for key in keys:
            ends.append(Ended(key, Kind.COLLECTED, failures=Segment(end, end + 9, 5), tally=Tally({"failed": 1})))
            end += 9
        if draw.random() < 0.2:
            ends[-1] = Ended(keys[-1], Kind.COLLECTED, requeued=(Part(keys[-1].chunk, bad_jobs=1),))
        life: list[list[Fact]] = [
            [Submitting(key, Part(key.chunk), 1.0, 0.5, 7.0, draw.choice(["project", None])) for key in keys],
            [Submitted(key, f"job {key.chunk}", 2.0, draw.choice(["project", None])) for key in keys],
            [Finished(key, "ERROR", draw.choice([1.5, None])) for key in keys],
            ends,
        ]
        if draw.random() < 0.3:
            life.insert(draw.randrange(len(life)), draw.choice(life)[: draw.randint(1, 5)])  # is said again
        if draw.random() < 0.2:
            del life[draw.randrange(len(life))]
        lines += life[: draw.randint(1, 5)]
    return lines


def replayed_until_refused(lines: list[bytes], *, in_bulk: bool) -> tuple[int, str, dict[str, Any]]:
    """How many lines could follow each other, why the next one can't, and where the run stands without it."""
    snapshot = RunSnapshot(CHUNKS)
    reader = ReplayReader("journal.jsonl") if in_bulk else Reader("journal.jsonl")
    for number, sealed in enumerate(lines):
        before = as_if_read_singly(snapshot)
        try:
            for entry, offset in reader.read_block(sealed):
                snapshot.replay_line(entry, offset)
        except (InternalError, LookupError, ValueError) as error:
            return number, str(error), stands(before)
    return len(lines), "", stands(as_if_read_singly(snapshot))


@pytest.mark.parametrize("seed", range(40))
def test_lines_read_in_bulk_mean_the_same(seed: int) -> None:
    """Whatever they say together, and whatever comes between them: what can't follow is refused in the same words."""
    lines = [
        encode_facts(seq, 10.0 + seq, 0, facts, 3 * seq, server_s=7.0 + seq)
        for seq, facts in enumerate(plain_lives(random.Random(seed)), 1)
    ]
    assert replayed_until_refused(lines, in_bulk=True) == replayed_until_refused(lines, in_bulk=False)


def test_plain_lines_take_few_objects() -> None:
    """A start of a big run makes nothing of its own for each attempt that has ended."""
    keys = [AttemptKey(chunk, 1) for chunk in range(CHUNKS)]
    snapshot, reader = RunSnapshot(CHUNKS), ReplayReader("journal.jsonl")
    data = encode_facts(1, 1.0, 0, [Submitting(key, Part(key.chunk), 1.0) for key in keys]) + encode_facts(
        2, 2.0, 0, [Submitted(key, f"job {key.chunk}", 2.0) for key in keys]
    )
    for entry, offset in reader.read_block(data):
        snapshot.replay_line(entry, offset)
    assert not snapshot.open_attempts
    snapshot.end_reading()
    assert list(snapshot.open_attempts) == keys


KEYS = [AttemptKey(0, 1), AttemptKey(1, 1)]
INTENTS = [Submitting(key, Part(key.chunk), 1.0) for key in KEYS]
JOBS = [Submitted(key, f"job {key.chunk}", 2.0) for key in KEYS]
JOBS_ENDED = [Finished(key, "SUCCESS", 1.0) for key in KEYS]
ENDS = [Ended(key, Kind.COLLECTED) for key in KEYS]


@pytest.mark.parametrize(
    "lines",
    [
        [[*INTENTS, INTENTS[0]]],
        [INTENTS, INTENTS, JOBS],
        [JOBS],
        [INTENTS[:1], JOBS],
        [INTENTS, [*JOBS, JOBS[0]]],
        [INTENTS, JOBS, JOBS[:1]],
        [INTENTS, JOBS, JOBS_ENDED, JOBS],
        [INTENTS, JOBS_ENDED],
        [INTENTS, JOBS[:1], JOBS_ENDED],
        [INTENTS, JOBS, [*JOBS_ENDED, JOBS_ENDED[0]], JOBS_ENDED],
        [INTENTS, JOBS, ENDS],
        [INTENTS, ENDS],
        [INTENTS, JOBS, JOBS_ENDED, [*ENDS, ENDS[0]]],
        [INTENTS, JOBS, JOBS_ENDED, ENDS, ENDS],
        [INTENTS, JOBS, ENDS, INTENTS],
        [INTENTS, JOBS, [Finished(KEYS[0], "ERROR", 0.0)], ENDS],
        [INTENTS, JOBS, [Ended(KEYS[0], Kind.COLLECTED, failures=Segment(1, 2, 3))]],
        [[Submitting(AttemptKey(CHUNKS, 1), Part(CHUNKS), 1.0)]],
    ],
)
def test_what_cannot_follow_is_refused_in_bulk_too(lines: list[list[Fact]]) -> None:
    """Each way in which a line's facts may not follow, in the line or after those before it."""
    sealed = [encode_facts(seq, 1.0, 0, facts) for seq, facts in enumerate(lines, 1)]
    assert replayed_until_refused(sealed, in_bulk=True) == replayed_until_refused(sealed, in_bulk=False)
