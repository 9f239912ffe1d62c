"""Projects with more jobs than are held at once: memory stays flat, and no file is sent again that would not be if all
of them were held."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from random import Random
from typing import Any
from uuid import UUID

import pytest

from classify_batch.engine.reconciler import evidence as module
from classify_batch.engine.reconciler.ambiguous_attempt import AmbiguousAttempt
from classify_batch.engine.reconciler.decisions import Decision, GiveUp, SendAgain, Take
from classify_batch.engine.reconciler.match import digests_of
from classify_batch.engine.reconciler.set_aside import JobsSetAside, Standing
from classify_batch.model import JobView
from classify_batch.ports import NamedFor
from tests.support.evidence_stage import ACCEPT_UNTIL_S, GIVE_UP_S, EvidenceStage, ambiguous, job

MANY = 8_000
RULES = (("x", "anything at all"),)


def others(count: int, status: str) -> Iterator[JobView]:
    """Jobs that nothing excludes, each as it is parsed: no two share anything."""
    for number in range(count):
        yield JobView(
            str(UUID(int=number)),
            "".join(list(status)),
            project_id=str(UUID(int=1)),
            created_at_s=1.7e9 + number,
            error_message="no reason " * 100,
            rules=frozenset((name, "".join(list(words))) for name, words in RULES),
            mode="".join(list("FAST")),
            parsing_configuration={"lang": "en", "max_pages": 5},
        )


# --- Memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["SUCCESS", "ERROR", "PENDING"])
def test_a_crowded_list_is_held_in_little_memory(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than 60 bytes a job, where each has kilobytes; the candidates are counted."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 50)
    world = EvidenceStage(ambiguous("a"))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for now_s in (100.0, 120.0, 141.0):
        world.begin_list_reading(now_s)
        for view in others(MANY, status):
            world.show(view, now_s)
        world.end_list_reading(complete=True)
        assert len(world.candidates) == 50
        for candidate in list(world.candidates.values()):
            world.name(candidate.job_id, frozenset())
        for candidate in world.candidates_to_read(now_s):
            world.answer(candidate.job_id, now_s, [f"{candidate.job_id} {number}" for number in range(100)])
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 60 * MANY
    assert world.unsettled


def test_every_job_of_a_crowd_is_looked_at_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As there comes to be room; then nothing is left, and the file is sent again."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 20)
    world = EvidenceStage(asked := ambiguous("a"))
    views = [job(f"j{number}", "SUCCESS") for number in range(200)]
    now_s, read = ACCEPT_UNTIL_S, set[str]()
    while (decision := world.decide(asked, now_s)) is None:
        assert now_s < GIVE_UP_S
        now_s += 21.0
        world.read_list(now_s, *views)
        for job_id in world.due(now_s):
            read.add(job_id)
            world.answer(job_id, now_s, ["others'"])
    assert decision == SendAgain()
    assert read == {view.job_id for view in views}


def test_a_job_behind_a_crowd_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answers are taken, and nothing is sent again before that."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 20)
    world = EvidenceStage(asked := ambiguous("a"))
    views = [*(job(f"j{number}", "SUCCESS") for number in range(200)), ours := job("ours", "SUCCESS")]
    now_s = ACCEPT_UNTIL_S
    while (decision := world.decide(asked, now_s)) is None:
        now_s += 21.0
        world.read_list(now_s, *views)
        for job_id in world.due(now_s):
            world.answer(job_id, now_s, ["a"] if job_id == "ours" else ["others'"])
    assert decision == Take((ours,))


def test_a_crowd_that_is_never_decided_ends_unresolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time is up: nothing is paid on a guess."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 20)
    world = EvidenceStage(asked := ambiguous("a"))
    for now_s in (100.0, 3000.0, GIVE_UP_S - 1.0):
        world.read_list(now_s, *[job(f"j{number}") for number in range(200)])
        assert world.decide(asked, now_s) is None
    assert isinstance(world.decide(asked, GIVE_UP_S), GiveUp)


# --- The same as if all were held ------------------------------------------------------------------------------------


class Crowd:
    """What happens, told to evidence with room for all jobs and to evidence without it."""

    def __init__(self, seed: int, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.random = Random(seed)
        self.room, self.patch = room, monkeypatch
        self.views: dict[str, JobView] = {}
        self.files: dict[str, list[str]] = {}
        self.named: dict[str, NamedFor] = {}
        self.held, self.crowded = EvidenceStage(named=self.named), EvidenceStage(named=self.named)
        self.sides = ((self.held, 10**6), (self.crowded, room))
        self.chunks = 0
        self.now_s = 50.0

    def step(self) -> None:
        random = self.random
        self.now_s += random.choice([0.5, 5.0, 21.0, 30.0])
        if random.random() < 0.35:
            self.add()
        for _ in range(random.randrange(3)):
            self.make_job()
        for job_id in random.sample(sorted(self.views), min(4, len(self.views))):
            self.end_job(job_id)
        self.read()

    def add(self) -> None:
        file_ids = self.random.sample("abcdef", self.random.randint(1, 3))
        told: dict[str, Any] = {"intended_s": self.now_s - 5.0} if self.random.random() < 0.5 else {}
        until_s = self.now_s + self.random.choice([0.0, 20.0])
        self.chunks += 1
        for stage, _ in self.sides:
            stage.add(ambiguous(*file_ids, chunk=self.chunks, accept_until_s=until_s, **told))

    def make_job(self) -> None:
        job_id = f"j{len(self.views)}"
        self.views[job_id] = job(job_id)
        self.files[job_id] = self.random.sample("abcdefuvwxyz", self.random.randrange(4))
        if self.random.random() < 0.1:
            self.named[job_id] = None

    def end_job(self, job_id: str) -> None:
        self.views[job_id] = job(job_id, self.random.choice(["SUCCESS", "PARTIAL_SUCCESS", "ERROR", "PENDING"]))

    def read(self) -> None:
        """A list that leaves some out, and results that lag; both sides are told the same, in what each asks for."""
        shown = [view for view in self.views.values() if self.random.random() < 0.8]
        complete = self.random.random() < 0.8
        lagging = {job_id for job_id in self.views if self.random.random() < 0.2}
        for stage, room in self.sides:
            self.patch.setattr(module, "CANDIDATES_MAX", room)
            stage.read_list(self.now_s, *shown, complete=complete)
            for candidate in list(stage.candidates_to_poll()):
                stage.show(self.views[candidate.job_id], self.now_s)
            for candidate in stage.candidates_to_read(self.now_s):
                files = [] if candidate.job_id in lagging else self.files[candidate.job_id]
                stage.answer(candidate.job_id, self.now_s, files[:2], null=files[2:])

    def decisions(self) -> Iterator[tuple[AmbiguousAttempt, Decision | None, Decision | None]]:
        for key in sorted(self.held.unsettled):
            yield (
                self.held.unsettled[key],
                self.held.decide(self.held.unsettled[key], self.now_s),
                self.crowded.decide(self.crowded.unsettled[key], self.now_s),
            )

    def sent_again(self, asked: AmbiguousAttempt, decision: Decision | None) -> frozenset[int]:
        match decision:
            case SendAgain():
                return asked.digests
            case Take(jobs):
                return asked.digests - digests_of([each for view in jobs for each in self.files[view.job_id][:2]])
            case _:
                return frozenset()


@pytest.mark.parametrize("room", [1, 4, 12])
@pytest.mark.parametrize("seed", range(25))
def test_without_room_nothing_is_sent_again_that_would_not_be_with_room(
    seed: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order of events; what is sent again with room for all is sent in the end, or stays unresolved."""
    crowd, settled = Crowd(seed, room, monkeypatch), 0
    for _ in range(60):
        crowd.step()
        for asked, held, crowded in list(crowd.decisions()):
            assert crowd.sent_again(asked, crowded) <= crowd.sent_again(asked, held)
            if crowded is not None:
                settled += 1
                for stage, _ in crowd.sides:
                    stage.remove(stage.unsettled[asked.attempt.key])
    assert settled or room < 12


# --- What is set aside -----------------------------------------------------------------------------------------------


def test_what_is_set_aside_is_found_again() -> None:
    """Each with its standing and its time, whatever was put or removed in between."""
    random, aside, known = Random(1), JobsSetAside(), dict[str, tuple[Standing, float]]()
    for number in range(5000):
        job_id = str(UUID(int=number))
        known[job_id] = random.choice(list(Standing)), float(number)
        aside.put(job_id, *known[job_id])
        if number % 3 == 0:
            gone = random.choice(list(known))
            aside.remove(gone)
            del known[gone]
            assert aside.find(gone) is None
    assert {job_id: aside.find(job_id) for job_id in known} == known
    assert aside.waiting == sum(standing is Standing.WAITING for standing, _ in known.values())
    aside.look_again(2500.0)
    assert aside.waiting == sum(
        standing is Standing.WAITING or (standing is Standing.READ and first_s >= 2500.0)
        for standing, first_s in known.values()
    )
    aside.clear()
    assert (aside.waiting, aside.find(next(iter(known)))) == (0, None)


@pytest.mark.parametrize(
    ("standing", "quiet"),
    [
        (Standing.ELSEWHERE, {"PENDING", "SUCCESS", "PARTIAL_SUCCESS", "ERROR"}),
        (Standing.READ, {"SUCCESS", "PARTIAL_SUCCESS"}),
        (Standing.SILENT, {"PARTIAL_SUCCESS"}),
        (Standing.FAILED, {"ERROR"}),
        (Standing.WAITING, set()),
    ],
)
def test_a_job_is_looked_at_again_where_it_no_longer_stands_as_it_did(standing: Standing, quiet: set[str]) -> None:
    """A job that failed, and then shows answers, may be the one that is looked for."""
    aside = JobsSetAside()
    aside.put("j", standing, 0.0)
    found = aside.find("j")
    assert found is not None
    statuses = ("PENDING", "SUCCESS", "PARTIAL_SUCCESS", "ERROR")
    assert {status for status in statuses if found.needs_no_look(job("j", status))} == quiet
