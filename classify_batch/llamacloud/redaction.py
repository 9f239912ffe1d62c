"""The key and the webhooks' headers, which a server, or what stands before it, may repeat.

They are hidden in texts that are shown and kept: errors, and a job's `error_message`. Fields by which code decides (a
status, an ID, a type) stay as they came: a header's value may be the same word.

A text without an escape in it is searched as it is. In any other a secret's characters may be escaped, each in its own
way, and what stands there may be read in several ways: so all beginnings of the secret that can have ended at a place
are known there at once, as the bits of a number. That takes time in proportion to the text, and hardly any to begin.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from classify_batch.llamacloud.escapes import (
    BEGINS_AN_ESCAPE,
    end_of_backslash,
    spelled_at,
    spelled_behind_backslash,
)
from classify_batch.model import JobPage, JobView

MASK = "**********"

_KEPT_MAX = 16 * 1024
"""No more of a text of the server is kept anywhere."""


class Secrets:
    """Hides secrets however a text spells them: as they are, escaped as in JSON, Python, HTML or a URL, or escaped in
    one of these and then in another, as proxies do it."""

    def __init__(self, secrets: Iterable[str]) -> None:
        longest_first = sorted(filter(None, set(secrets)), key=len, reverse=True)  # one may be a part of another
        self._secrets = [_Secret(secret) for secret in longest_first]

    def hide(self, words: str) -> str:
        """The text without the secrets. Takes up to 3 µs a character for a text with escapes in it, for each secret."""
        pieces = [words]
        for secret in self._secrets:
            pieces = [piece for each in pieces for piece in secret.split_around_secret(each)]
        return MASK.join(pieces)

    def hide_in_json(self, body: Any) -> Any:
        """An error's JSON without the secrets, in its keys too."""
        if isinstance(body, str):
            return self.hide(body[:_KEPT_MAX])
        # Keys too: a server may repeat a header as the key of an object.
        if isinstance(body, dict):
            return {self.hide(name): self.hide_in_json(value) for name, value in body.items()}
        return [self.hide_in_json(value) for value in body] if isinstance(body, list) else body

    def hide_in_job(self, job: JobView) -> JobView:
        if job.error_message is None:
            return job
        return job._replace(error_message=self.hide(job.error_message[:_KEPT_MAX]))

    def hide_in_page(self, page: JobPage) -> JobPage:
        if not any(job.error_message for job in page.jobs):
            return page
        return replace(page, jobs=tuple(map(self.hide_in_job, page.jobs)))


class _Secret:
    """A secret that texts are split by. Bit n of a number stands for the secret's first n characters."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._whole = 1 << len(secret)
        self._before: dict[str, int] = defaultdict(int)
        for place, character in enumerate(secret):
            self._before[character] |= 1 << place
        self._may_begin = re.compile(rf"[\\%&]|{re.escape(secret[0])}")

    def split_around_secret(self, text: str) -> list[str]:
        """What stands around the secret, wherever that stands."""
        if BEGINS_AN_ESCAPE.search(text) is None:
            return text.split(self._secret)
        pieces, end = [], 0
        for start, next_start in self._find_secret(text):
            pieces.append(text[end:start])
            end = next_start
        return [*pieces, text[end:]]

    def _find_secret(self, text: str) -> Iterator[tuple[int, int]]:
        progress, at = _Progress(), 0
        while at < len(text):
            if not progress.is_under_way:
                if (begin := self._may_begin.search(text, at)) is None:
                    return
                progress, at = _Progress(), begin.start()
            self._note_progress(text, at, progress)
            at += 1
            if progress.ended.get(at, 0) & self._whole:
                yield self._find_start(progress, at), at
                progress = _Progress()

    def _note_progress(self, text: str, at: int, progress: _Progress) -> None:
        """Notes how much of the secret may have been read behind each spelling that begins here."""
        ended, behind = progress.take_progress(at)
        for character, end in spelled_at(text, at):
            progress.note_step(_Step(at, character), end, ((ended | behind) & self._before.get(character, 0)) << 1)
        for character, end in spelled_behind_backslash(text, at) if behind else ():
            progress.note_step(_Step(at, character, True), end, (behind & self._before.get(character, 0)) << 1)
        if (backslash_end := end_of_backslash(text, at)) is not None:
            progress.behind_backslash[backslash_end] |= ended | behind
            progress.backslashes[backslash_end].append(at)

    def _find_start(self, progress: _Progress, end: int) -> int:
        """Goes back on a way by which the secret's end was reached."""
        at = end
        for place in reversed(range(len(self._secret))):
            bit, character = 1 << place, self._secret[place]
            step = next(
                each for each in progress.steps[at] if each.character == character and progress.has_step(each, bit)
            )
            at = step.start
            needs_backslash = step.needs_backslash
            while needs_backslash or not progress.history[at][0] & bit:
                at = next(start for start in progress.backslashes[at] if progress.has_step(_Step(start, "\\"), bit))
                needs_backslash = False
        return at


class _Step(NamedTuple):
    """A character that was read from `start` on."""

    start: int
    character: str
    needs_backslash: bool = False


class _Progress:
    """How much of a secret may have been read, at each place of a text, since none of it had.

    Attributes:
        ended: by place, the beginnings of the secret that end there; behind_backslash: those that end before a
            backslash there which may belong to what follows.
        history: both of them, where they were read.
        steps: by the place at which they end; backslashes: likewise, where they begin.
    """

    def __init__(self) -> None:
        self.ended: dict[int, int] = defaultdict(int)
        self.behind_backslash: dict[int, int] = defaultdict(int)
        self.history: dict[int, tuple[int, int]] = {}
        self.steps: dict[int, list[_Step]] = defaultdict(list)
        self.backslashes: dict[int, list[int]] = defaultdict(list)

    @property
    def is_under_way(self) -> bool:
        return bool(self.ended or self.behind_backslash)

    def take_progress(self, at: int) -> tuple[int, int]:
        """What was read up to this place. The secret may begin anywhere."""
        now = self.history[at] = self.ended.pop(at, 0) | 1, self.behind_backslash.pop(at, 0)
        return now

    def note_step(self, step: _Step, end: int, beginnings: int) -> None:
        if beginnings:
            self.ended[end] |= beginnings
            self.steps[end].append(step)

    def has_step(self, step: _Step, beginning: int) -> bool:
        """Whether a step may have been made from this beginning of the secret."""
        ended, behind = self.history[step.start]
        return bool((behind if step.needs_backslash else ended | behind) & beginning)
