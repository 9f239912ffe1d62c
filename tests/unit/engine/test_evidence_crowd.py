"""Projects with more jobs than are held at once: memory stays flat, and nothing is paid twice."""

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
from classify_batch.engine.reconciler.set_aside import JobsSetAside, Standing
from classify_batch.model import JobView
from classify_batch.ports import NamedFor
from tests.support.evidence_stage import ACCEPT_UNTIL_S, GIVE_UP_S, SETTLE_S, EvidenceStage, ambiguous, job

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


# --- Nothing is paid twice -------------------------------------------------------------------------------------------


class Crowd:
    """Attempts some of which were accepted, among jobs of others that hold the same files.

    Attributes:
        own: by chunk, the job that was made of an attempt.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.made_s: dict[str, float] = {}
        self.ended_s: dict[str, float] = {}
        self.views: dict[str, JobView] = {}
        self.files: dict[str, list[str]] = {}
        self.named: dict[str, NamedFor] = {}
        self.own: dict[int, str] = {}
        self.evidence = EvidenceStage(named=self.named)
        self.chunks = 0
        self.now_s = 50.0

    def step(self) -> None:
        self.now_s += self.random.choice([0.5, 5.0, 21.0, 30.0])
        if self.random.random() < 0.35:
            self.add()
        for _ in range(self.random.randrange(4)):
            self.make_job(self.random.sample("abcdefuvwxyz", self.random.randrange(4)), named=0.1)
        for job_id in self.random.sample(sorted(self.views), min(4, len(self.views))):
            self.end_job(job_id)
        self.read()

    def add(self) -> None:
        file_ids = self.random.sample("abcdef", self.random.randint(1, 3))
        told: dict[str, Any] = {"intended_s": self.now_s - 5.0} if self.random.random() < 0.5 else {}
        self.chunks += 1
        if self.random.random() < 0.6:
            self.own[self.chunks] = self.make_job(file_ids)
        until_s = self.now_s + self.random.choice([0.0, 20.0])
        self.evidence.add(ambiguous(*file_ids, chunk=self.chunks, accept_until_s=until_s, give_up_s=1e9, **told))

    def make_job(self, file_ids: list[str], named: float = 0.0) -> str:
        job_id = f"j{len(self.views)}"
        self.views[job_id], self.files[job_id], self.made_s[job_id] = job(job_id), file_ids, self.now_s
        if self.random.random() < named:
            self.named[job_id] = None
        return job_id

    def end_job(self, job_id: str) -> None:
        if job_id not in self.ended_s:
            self.ended_s[job_id] = self.now_s
            self.views[job_id] = job(job_id, self.random.choice(["SUCCESS", "PARTIAL_SUCCESS", "ERROR"]))

    def read(self) -> None:
        """A complete reading shows what was made `settle_s` ago, if perhaps as it was; results lag as long."""
        complete = self.random.random() < 0.8
        old_s = self.now_s - SETTLE_S
        shown = [
            job(job_id) if self.random.random() < 0.05 else view
            for job_id, view in self.views.items()
            if (complete and self.made_s[job_id] <= old_s) or self.random.random() < 0.7
        ]
        self.evidence.read_list(self.now_s, *shown, complete=complete)
        for candidate in list(self.evidence.candidates_to_poll()):
            self.evidence.show(self.views[candidate.job_id], self.now_s)
        for candidate in self.evidence.candidates_to_read(self.now_s):
            job_id = candidate.job_id
            lags = self.ended_s.get(job_id, self.now_s) > old_s and self.random.random() < 0.5
            files = [] if lags else self.files[job_id]
            self.evidence.answer(job_id, self.now_s, files[:2], null=files[2:])

    def sent_again(self, asked: AmbiguousAttempt, decision: Decision | None) -> set[str]:
        match decision:
            case SendAgain():
                return set(asked.attempt.file_ids)
            case Take(jobs):
                return set(asked.attempt.file_ids).difference(*(self.files[view.job_id][:2] for view in jobs))
            case _:
                return set()

    def paid(self, asked: AmbiguousAttempt) -> set[str]:
        """The files that the attempt's own job has answered, or may still."""
        own = self.own.get(asked.attempt.key.chunk)
        if own is None or self.views[own].status == "ERROR":
            return set()
        return set(self.files[own][:2] if self.views[own].finished else self.files[own])


@pytest.mark.parametrize("room", [1, 4, 12, 1000])
@pytest.mark.parametrize("seed", range(20))
def test_nothing_that_was_paid_is_sent_again_in_a_crowd(seed: int, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is shown in which order, however little room there is."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", room)
    crowd, settled = Crowd(seed), 0
    for _ in range(80):
        crowd.step()
        for asked in list(crowd.evidence.unsettled.values()):
            decision = crowd.evidence.decide(asked, crowd.now_s)
            assert not crowd.sent_again(asked, decision) & crowd.paid(asked)
            if decision is not None:
                settled += 1
                crowd.evidence.remove(asked)
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
