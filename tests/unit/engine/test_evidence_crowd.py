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
from classify_batch.model import JobView
from classify_batch.ports import NamedFor
from tests.support.evidence_stage import (
    ACCEPT_UNTIL_S,
    GIVE_UP_S,
    SERVER_S,
    SETTLE_S,
    SPREAD_S,
    EvidenceStage,
    ambiguous,
    job,
)

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


@pytest.mark.slow
@pytest.mark.parametrize("status", ["SUCCESS", "ERROR", "PENDING"])
def test_a_crowded_list_is_held_in_little_memory(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than 110 bytes a job, where each has kilobytes; the candidates are counted."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 50)
    world = EvidenceStage(ambiguous("a"))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for now_s in (100.0, 120.0, 141.0):
        world.begin_list_reading(now_s)
        for view in others(MANY, status):
            world.record_view(view, now_s)
        world.end_list_reading(complete=True)
        assert len(world.candidates) == 50
        for candidate in list(world.candidates.values()):
            world.record_named_for(candidate.job_id, frozenset())
        for candidate in world.candidates_to_read(now_s):
            world.answer(candidate.job_id, now_s, [f"{candidate.job_id} {number}" for number in range(100)])
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 110 * MANY
    assert world.unsettled


def test_every_job_of_a_crowd_is_looked_at_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As there comes to be room; then nothing is left, and the file is sent again."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 20)
    world = EvidenceStage(asked := ambiguous("a"))
    views = [job(f"j{number}", "SUCCESS") for number in range(200)]
    now_s, read = ACCEPT_UNTIL_S, set[str]()
    while (decision := world.decide_for_attempt(asked, now_s)) is None:
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
    while (decision := world.decide_for_attempt(asked, now_s)) is None:
        now_s += 21.0
        world.read_list(now_s, *views)
        for job_id in world.due(now_s):
            world.answer(job_id, now_s, ["a"] if job_id == "ours" else ["others'"])
    assert decision == Take((ours,))


# --- Nobody waits for ever -------------------------------------------------------------------------------------------


def decided(world: EvidenceStage, asked: AmbiguousAttempt, files: dict[str, list[str]], *views: JobView) -> Decision:
    """Reads the list, and results as they become due, until the attempt is decided."""
    now_s, decision = asked.accept_until_s + 1.0, None
    while decision is None:
        assert now_s < 2000.0, "never decided"
        world.read_list(now_s, *views)
        for candidate in list(world.candidates_to_poll()):
            world.record_view(job(candidate.job_id, "SUCCESS"), now_s)
        for job_id in world.due(now_s):
            world.answer(job_id, now_s, files.get(job_id, ["others'"]))
        decision = world.decide_for_attempt(asked, now_s)
        now_s += 21.0
    return decision


def test_jobs_that_can_be_no_attempts_give_back_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were held for an attempt that has ended, and were seen before the next one was intended."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 20)
    world = EvidenceStage(first := ambiguous("a", chunk=1, intended_s=50.0))
    crowd = [job(f"j{number}") for number in range(25)]
    world.read_list(60.0, *crowd)
    second = ambiguous("b", chunk=2, accept_until_s=130.0, intended_s=65.0)
    world.add_attempt(second)
    world.remove_attempt(first)
    ours = job("ours", "SUCCESS")
    assert decided(world, second, {"ours": ["b"]}, *crowd, ours) == Take((ours,))


def test_a_job_that_waits_keeps_only_those_waiting_whose_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was shown before the intent isn't the attempt's job, nor is one that is first shown after the proof."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 2)
    world = EvidenceStage(early := ambiguous("a", chunk=1, intended_s=50.0))
    before = [job(f"before {number}") for number in range(4)]
    world.read_list(60.0, *before)
    world.add_attempt(late := ambiguous("b", chunk=2, intended_s=70.0))
    world.read_list(101.0, *before)
    world.read_list(122.0, *before)
    assert world.decide_for_attempt(early, 122.0) is None
    assert world.decide_for_attempt(late, 122.0) == SendAgain()
    world.remove_attempt(late)
    world.read_list(143.0, *(ended := [job(view.job_id, "ERROR") for view in before]))
    after = [job(f"after {number}") for number in range(9)]
    for now_s in range(164, 400, 21):
        world.read_list(now_s, *after, *ended)
    assert world.decide_for_attempt(early, 400.0) == SendAgain()


def test_a_job_that_leaves_the_list_while_it_waits_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its ID, once there is room."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 2)
    for ours in ("ours", str(UUID(int=1 << 100))):
        world = EvidenceStage(asked := ambiguous("a"))
        world.read_list(60.0, job("j0"), job("j1"), job(ours))
        decision = decided(world, asked, {ours: ["a"]}, job("j0", "SUCCESS"), job("j1", "SUCCESS"))
        assert isinstance(decision, Take)
        assert [view.job_id for view in decision.jobs] == [ours]


def test_who_waited_gets_room_before_who_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though a list that is newest first shows those first, who never stop coming."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 3)
    world = EvidenceStage(ambiguous("a", accept_until_s=1e6, give_up_s=1e9))
    views, now_s, found = [job("ours", "SUCCESS"), *(job(f"old {n}", "SUCCESS") for n in range(9))], 0.0, False
    while not found:
        assert now_s < 2000.0
        now_s += 21.0
        views += [job(f"new {len(views)} {number}", "SUCCESS") for number in range(4)]
        world.read_list(now_s, *reversed(views), complete=False)
        for job_id in world.due(now_s):
            found |= job_id == "ours"
            world.answer(job_id, now_s, ["others'"])


def test_a_job_that_was_read_before_its_attempt_was_known_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its create was ambiguous only later: then what was set aside as others' is looked at again."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 1)
    world = EvidenceStage(ambiguous("a", chunk=1, accept_until_s=1000.0))
    ours = job("ours", "SUCCESS")
    for now_s in (60.0, 81.0, 102.0):
        world.read_list(now_s, ours)
        for job_id in world.due(now_s):
            world.answer(job_id, now_s, ["b"])
    assert not world.candidates
    world.add_attempt(asked := ambiguous("b", chunk=2, intended_s=55.0, accept_until_s=110.0))
    assert decided(world, asked, {"ours": ["b"]}, ours) == Take((ours,))


def test_what_was_set_aside_is_looked_at_again_when_no_time_excludes_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's clocks disagree: a job that seemed too old may be the attempt's."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 1)
    world = EvidenceStage(first := ambiguous("a", chunk=1))
    world.read_list(60.0, ours := job("ours", created_at_s=SERVER_S - 1e4), other := job("other"))
    world.add_attempt(second := ambiguous("b", chunk=2, server_s=SERVER_S))
    world.remove_attempt(first)
    world.read_list(101.0, ours, other)
    world.clocks_disagree = True
    world.read_list(122.0)
    assert world.decide_for_attempt(second, 122.0) is None
    ours = job("ours", "SUCCESS", created_at_s=ours.created_at_s)
    assert decided(world, second, {"ours": ["b"]}, ours, job("other", "ERROR")) == Take((ours,))


def test_an_attempt_that_is_given_up_in_a_crowd_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list does come to its end; there was no room for all that it shows."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 1)
    world = EvidenceStage(asked := ambiguous("a"))
    for now_s in (100.0, 3000.0, GIVE_UP_S):
        assert world.decide_for_attempt(asked, now_s - 1.0) is None
        world.read_list(now_s, *[job(f"j{number}") for number in range(3)])
    words = (
        "its job may be one of: j0; its job may be one of 2 jobs of the project that there was no room to look at yet"
    )
    assert world.decide_for_attempt(asked, GIVE_UP_S) == GiveUp((), words)


# --- Nothing is paid twice -------------------------------------------------------------------------------------------


class Crowd:
    """Attempts some of which were accepted, among jobs of others that hold the same files.

    Attributes:
        own: by chunk, the job that was made of an attempt.
        leaves: how likely a job that was shown leaves the list, in a step; it still answers by its ID.
        stale: how likely the list shows a job as it was.
        is_silent: whether the results of a job that ended well may name no file at all. Nobody can tell whose it is.
        strays: how likely the server stamps an attempt's job by a clock that is far off, which is noticed just then.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.made_s: dict[str, float] = {}
        self.ended_s: dict[str, float] = {}
        self.views: dict[str, JobView] = {}
        self.files: dict[str, list[str]] = {}
        self.named: dict[str, NamedFor] = {}
        self.own: dict[int, str] = {}
        self.unanswered: list[tuple[float, AmbiguousAttempt]] = []
        self.shown: set[str] = set()
        self.left_list: set[str] = set()
        self.evidence = EvidenceStage(named=self.named)
        self.chunks = 0
        self.now_s = 50.0
        self.stale = 0.05
        self.leaves = self.random.choice([0.0, 0.0, 0.01])
        self.is_silent = self.random.random() < 0.3
        self.strays = self.random.choice([0.0, 0.1])
        self.is_stray_unnoticed = False
        self.newest_first = self.random.random() < 0.5

    def step(self) -> None:
        self.now_s += self.random.choice([0.5, 5.0, 21.0, 30.0])
        self.notice()
        if self.random.random() < 0.35:
            self.add()
        for _ in range(self.random.randrange(4)):
            self.make_job(self.random.sample("abcdefuvwxyz", self.random.randrange(4)), named=0.1)
        for job_id in self.random.sample(sorted(self.views), min(4, len(self.views))):
            self.end_job(job_id)
        self.read()

    def drain(self) -> None:
        """Nobody makes jobs any more, all end, and the list shows them as they are."""
        self.stale = 0.0
        self.now_s += 150.0
        self.notice()
        for job_id in self.views:
            self.end_job(job_id)
        if self.is_silent:
            for ambiguous in self.evidence.unsettled.values():
                ambiguous.give_up_s = self.now_s + 1000.0

    def add(self) -> None:
        file_ids = self.random.sample("abcdef", self.random.randint(1, 3))
        told: dict[str, Any] = {"intended_s": self.now_s - 5.0} if self.random.random() < 0.5 else {}
        if self.random.random() < 0.3:
            told["server_s"] = SERVER_S + self.now_s - 5.0
        self.chunks += 1
        until_s = self.now_s + self.random.choice([0.0, 20.0])
        if self.random.random() < 0.6:
            is_stray = self.random.random() < self.strays and not self.evidence.clocks_disagree
            self.is_stray_unnoticed |= is_stray
            self.own[self.chunks] = self.make_job(file_ids, off_s=-1e4 if is_stray else 0.0)
        is_late = self.random.random() < 0.3 and "intended_s" in told
        late_s = self.random.choice([60.0, 150.0]) if is_late else 0.0
        asked = ambiguous(
            *file_ids, chunk=self.chunks, accept_until_s=max(until_s, self.now_s + late_s), give_up_s=1e9, **told
        )
        self.unanswered.append((self.now_s + late_s, asked))
        self.notice()

    def notice(self) -> None:
        """Calls turn out to be ambiguous, some when their jobs have long been listed."""
        for each in [each for each in self.unanswered if each[0] <= self.now_s]:
            self.unanswered.remove(each)
            self.evidence.add_attempt(each[1])

    def make_job(self, file_ids: list[str], named: float = 0.0, off_s: float = 0.0) -> str:
        job_id = f"j{len(self.views)}"
        off_s = off_s or self.random.uniform(-SPREAD_S, SPREAD_S) / 2.0
        self.views[job_id] = job(job_id, created_at_s=SERVER_S + self.now_s + off_s)
        self.files[job_id], self.made_s[job_id] = file_ids, self.now_s
        if self.random.random() < named:
            self.named[job_id] = None
        return job_id

    def end_job(self, job_id: str) -> None:
        if job_id not in self.ended_s:
            self.ended_s[job_id] = self.now_s
            says_whose = self.is_silent or self.files[job_id]
            statuses = ["SUCCESS", "PARTIAL_SUCCESS", "ERROR"] if says_whose else ["PARTIAL_SUCCESS", "ERROR"]
            self.views[job_id] = self.views[job_id]._replace(status=self.random.choice(statuses))

    def read(self) -> None:
        """A complete reading shows what was made `settle_s` ago, if perhaps as it was; results lag as long."""
        complete = self.random.random() < 0.8
        old_s = self.now_s - SETTLE_S
        shown = [
            view._replace(status="PENDING") if self.random.random() < self.stale else view
            for job_id, view in self.views.items()
            if job_id not in self.left_list
            and ((complete and self.made_s[job_id] <= old_s) or self.random.random() < 0.7)
        ]
        self.evidence.read_list(self.now_s, *(reversed(shown) if self.newest_first else shown), complete=complete)
        self.shown.update(view.job_id for view in shown)
        self.left_list |= {job_id for job_id in sorted(self.shown) if self.random.random() < self.leaves}
        if self.is_stray_unnoticed:
            self.evidence.clocks_disagree, self.is_stray_unnoticed = True, False
        for candidate in list(self.evidence.candidates_to_poll()):
            self.evidence.record_view(job(candidate.job_id, self.views[candidate.job_id].status), self.now_s)
        for candidate in self.evidence.candidates_to_read(self.now_s):
            job_id = candidate.job_id
            lags = self.ended_s.get(job_id, self.now_s) > old_s and self.random.random() < 0.5
            files = [] if lags else self.files[job_id]
            self.evidence.answer(job_id, self.now_s, files[:2], null=files[2:])

    def decide(self) -> int:
        """Carries out what is decided, and returns how many attempts ended. Nothing that was paid is sent again."""
        ended = 0
        for asked in list(self.evidence.unsettled.values()):
            decision = self.evidence.decide_for_attempt(asked, self.now_s)
            assert not self.sent_again(asked, decision) & self.paid(asked)
            if decision is not None:
                ended += 1
                self.evidence.remove_attempt(asked)
        return ended

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


STEPS, DRAIN_STEPS_MAX = 40, 1000


@pytest.mark.parametrize("room", [1, 2, 4, 12, 1000])
@pytest.mark.parametrize("seed", range(8))
def test_every_attempt_in_a_crowd_ends_and_nothing_is_paid_twice(
    seed: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is shown in which order, however little room there is: once nobody makes more jobs and all have
    ended, every attempt is decided."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", room)
    crowd = Crowd(seed)
    for _ in range(STEPS):
        crowd.step()
        crowd.decide()
    crowd.drain()
    for _ in range(DRAIN_STEPS_MAX):
        crowd.now_s += 21.0
        crowd.read()
        crowd.decide()
        if not crowd.evidence.unsettled:
            break
    assert not crowd.evidence.unsettled
