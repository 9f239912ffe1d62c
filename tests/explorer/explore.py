"""A small explorer: runs a model through all its choices, and shows the shortest way to a broken promise.

A model is a state that can be copied, and a step that changes one. Wherever more than one thing can happen, the step
asks `choose`; the explorer runs the step again, from a fresh copy, until every answer was given. States with the same
key are one state: a model leaves out of the key what makes no difference, such as the time of day.

The search goes breadth first, so that the way to a violation has the fewest steps. It ends when every state that can be
reached was seen: what holds then, holds in all of them. A model that always comes to an end has no state in which
nothing can happen before it is over, and no circle; both are looked for.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

T = TypeVar("T")
S = TypeVar("S")


class ViolationError(Exception):
    """A promise of the model is broken in this step."""

    def __init__(self, promise: str, words: str) -> None:
        super().__init__(f"{promise}: {words}")
        self.promise = promise


class Choose:
    """Answers a step's questions: by a given path first, with the first option after that.

    Attributes:
        path, sizes: which option was taken at each question, and of how many.
        reached: the situations that the step came through.
        words: what happened, where that is asked for.
    """

    __slots__ = ("_tells", "path", "position", "reached", "sizes", "words")

    def __init__(self, path: Sequence[int] = (), *, tells: bool = False) -> None:
        self.path = list(path)
        self.sizes: list[int] = []
        self.position = 0
        self.reached: list[str] = []
        self.words: list[str] = []
        self._tells = tells

    def __call__(self, *options: T) -> T:
        """One of the options."""
        if len(options) == 1:
            return options[0]
        position = self.position
        if position == len(self.path):
            self.path.append(0)
        self.sizes.append(len(options))
        self.position = position + 1
        return options[self.path[position]]

    def reach(self, situation: str) -> None:
        """Counts that a situation occurred."""
        self.reached.append(situation)

    def note(self, words: str, *values: object) -> None:
        """Says what happens, for the trace of a violation."""
        if self._tells:
            self.words.append(words.format(*values))

    def next_path(self) -> list[int] | None:
        """The path that was not taken yet and is the next in order; None after the last."""
        path = self.path[: len(self.sizes)]
        while path:
            last = path.pop()
            if last + 1 < self.sizes[len(path)]:
                return [*path, last + 1]
        return None


class Model(Protocol[S]):
    """What can be explored."""

    def first(self) -> S:
        """The state in which everything begins."""

    def copy(self, state: S) -> S:
        """A state that can be changed without changing this one."""

    def key(self, state: S) -> Hashable:
        """Equal for states from which the same can follow."""

    def is_over(self, state: S) -> bool:
        """Whether nothing has to follow."""

    def step(self, state: S, choose: Choose) -> bool:
        """Lets one thing happen; false where nothing can. Raises ViolationError."""


@dataclass(slots=True)
class Exploration:
    """What was seen.

    Attributes:
        states, steps: how many different ones.
        reached: how many steps came through each situation.
        broken: the promise that does not hold; None where all do.
        trace: the shortest way there, a line for everything that happens on it.
    """

    states: int = 0
    steps: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    broken: str | None = None
    trace: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{self.states} states, {self.steps} steps"
        return "\n  ".join([f"{self.broken or 'every promise holds'} ({counts})", *self.trace])


class _Search(list[tuple[int, list[int]]]):
    """For each state, in the order in which they were found: the state before it, and the path that led here."""

    def paths_to(self, number: int) -> list[list[int]]:
        paths: list[list[int]] = []
        while number:
            number, path = self[number]
            paths.append(path)
        return paths[::-1]


def explore(model: Model[S], *, states_max: int = 200_000) -> Exploration:
    """Explores a model until a promise is broken, or all was seen.

    Raises:
        RuntimeError: there are more states than `states_max`: the model is not as small as it was meant to be.
    """
    collects = gc.isenabled()
    gc.disable()  # millions of small objects that all stay: to look through them again and again takes half of the time
    try:
        return _explore(model, states_max)
    finally:
        if collects:
            gc.enable()


def _explore(model: Model[S], states_max: int) -> Exploration:
    first = model.first()
    numbers: dict[Hashable, int] = {model.key(first): 0}
    search, seen = _Search([(0, [])]), Exploration()
    followers: list[list[int]] = []
    level: list[tuple[int, S]] = [(0, first)]
    while level:
        next_level: list[tuple[int, S]] = []
        for number, state in level:
            following: list[int] = []
            followers.append(following)
            if model.is_over(state):
                continue
            path: list[int] | None = []
            while path is not None:
                choose, after = Choose(path), model.copy(state)
                try:
                    moves = model.step(after, choose)
                except ViolationError as error:
                    return _broken(model, seen, error.promise, [*search.paths_to(number), choose.path])
                if not moves:
                    return _broken(model, seen, "liveness: nothing can happen any more", search.paths_to(number))
                seen.steps += 1
                seen.reached.update(choose.reached)
                key = model.key(after)
                found = numbers.get(key)
                if found is None:
                    found = numbers[key] = len(search)
                    search.append((number, choose.path))
                    next_level.append((found, after))
                following.append(found)
                path = choose.next_path()
        if len(search) > states_max:
            raise RuntimeError(f"more than {states_max} states")
        level = next_level
        seen.states = len(search)
    if (circle := _on_a_circle(followers)) is not None:
        return _broken(model, seen, "liveness: it goes round in a circle", search.paths_to(circle))
    return seen


def _on_a_circle(followers: list[list[int]]) -> int | None:
    """A state that can come back to itself; None where there is none: takes away, again and again, what nothing is
    left before."""
    before = [0] * len(followers)
    for following in followers:
        for number in following:
            before[number] += 1
    free = [number for number, count in enumerate(before) if not count]
    left = len(followers)
    while free:
        left -= 1
        for number in followers[free.pop()]:
            before[number] -= 1
            if not before[number]:
                free.append(number)
    return next((number for number, count in enumerate(before) if count), None) if left else None


def _broken(model: Model[S], seen: Exploration, promise: str, paths: Sequence[Sequence[int]]) -> Exploration:
    """Walks the way to a violation once more, and writes down what happens on it."""
    state, words = model.first(), list[str]()
    for path in paths:
        choose = Choose(path, tells=True)
        try:
            model.step(state, choose)
        except ViolationError as error:
            choose.words.append(f"BROKEN: {error}")
        words += choose.words
    seen.broken, seen.trace = promise, words
    return seen
