"""Changes the answers of one run by one case."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.changed_answers.changes import (
    BODY_CHANGES,
    FIELD_CHANGES,
    OTHER_FILE,
    OTHER_JOB,
    Given,
    Memory,
    is_same,
)
from tests.changed_answers.fields import EACH, Path, path_name, replaced

JOB = "job"
KINDS: Mapping[str, tuple[str, ...]] = {
    "create": ("create",),
    "get": ("get",),
    "list": ("list",),
    "results": ("results",),
    "files": ("files",),
    "content": ("content",),
    "upload": ("upload",),
    JOB: ("create", "get", "list"),
}
"""By the name of a kind of answers, the calls that they answer. JOB: a job, wherever it is shown."""

ONCE, ALWAYS, ONE_JOB, LOST_JOB = SCOPES = ("once", "always", "one job", "lost job")
"""Which answers are changed: the first that can be, all, those about a job, or those about the job whose create answer
is lost."""

_NUMBERS = {ONE_JOB: 2, LOST_JOB: 3}
LOST_CREATE = _NUMBERS[LOST_JOB]
"""The create whose answer is lost: they are counted from 1, and so are their jobs."""

ANOTHER_LOST_CREATE = 4

ONLY_CHANGED, TWO_LOST, TAKEN_OVER, FOLDER = BESIDES = ("", "two creates lost", "taken over", "folder")
"""What happens besides: nothing more; the answer to another create is lost, too; the process is killed early, and
answers are changed in the next one; or the input is a folder, whose documents are uploaded."""

ITEMS = ("items", EACH)


@dataclass(frozen=True, slots=True)
class Case:
    """A change of some answers.

    Attributes:
        kind: which answers; one of KINDS.
        path: the field; empty for a change of whole answers.
        change: what becomes of it: one of FIELD_CHANGES, OTHER_JOB or OTHER_FILE; of BODY_CHANGES for whole answers.
        scope: how many of the answers; one of SCOPES.
        besides: one of BESIDES.
    """

    version: str
    kind: str
    path: Path
    change: str
    scope: str
    besides: str = ONLY_CHANGED

    def __str__(self) -> str:
        words = (self.version, self.kind, path_name(self.path), self.change, self.scope, self.besides)
        return "/".join(filter(None, words))

    @property
    def lost_creates(self) -> Collection[int]:
        """The creates whose answers are lost, counted from 1."""
        return (LOST_CREATE, ANOTHER_LOST_CREATE) if self.besides == TWO_LOST else (LOST_CREATE,)


class _Seen(NamedTuple):
    """A value that a field had. `owner`: the job's ID; `item`: that of an item of its results."""

    owner: str | None
    item: str | None
    value: Any


class Changer:
    """Changes answers, which it has to be given in their order.

    Attributes:
        changed: how many were changed.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._job_ids: list[str] = []
        self._seen: list[_Seen] = []
        self._memory = Memory()
        self.changed = 0

    def note(self, given: Given) -> None:
        """An answer that isn't to be changed: others may take its place later."""
        self._note_job(given)
        if given.call in KINDS[self._case.kind]:
            self._memory.add(given)

    def _note_job(self, given: Given) -> None:
        if given.call == "create" and given.owner is not None and given.owner not in self._job_ids:
            self._job_ids.append(given.owner)

    def change(self, given: Given) -> Any:
        """What takes the place of an answer's body; the body itself where it stays."""
        self._note_job(given)
        if given.call not in KINDS[self._case.kind]:
            return given.body
        body = self._change_field(given) if self._case.path else self._change_body(given)
        self._memory.add(given)
        self.changed += body is not given.body
        return body

    def given_token(self, token: str) -> str:
        """The token that the sandbox gave out, in the place of which another one was."""
        number = int(token) if token.isdecimal() else 0
        return self._memory.tokens[number - 1] if 0 < number <= len(self._memory.tokens) else token

    def _change_body(self, given: Given) -> Any:
        if not self._is_meant(given.owner):
            return given.body
        body = BODY_CHANGES[self._case.change](given, self._memory)
        return given.body if is_same(body, given.body) else body

    def _change_field(self, given: Given) -> Any:
        path = self._case.path
        if self._case.kind == JOB and given.call == "list":
            path = (*ITEMS, *path)
        if path[:2] != ITEMS:
            return self._change_part(given.body, path, given.owner, None)
        items = given.body["items"]
        item_id = "id" if given.call == "results" else ""
        changed = [self._change_part(item, path[2:], given.owner or item["id"], item.get(item_id)) for item in items]
        same = all(new is old for new, old in zip(changed, items, strict=True))
        return given.body if same else given.body | {"items": changed}

    def _change_part(self, part: Any, path: Path, owner: str | None, item: str | None) -> Any:
        """Changes a job, an item of results or files, or what a page has beside its items."""

        def replace(value: Any) -> Any:
            new = self._new_value(_Seen(owner, item, value)) if self._is_meant(owner) else value
            self._seen.append(_Seen(owner, item, value))
            return value if is_same(new, value) else new

        return replaced(part, path, replace)

    def _new_value(self, now: _Seen) -> Any:
        match self._case.change:
            case change if change in FIELD_CHANGES:
                return FIELD_CHANGES[change](now.value)
            case change if change == OTHER_JOB:
                others = (each for each in self._seen if each.owner != now.owner)
            case change:
                assert change == OTHER_FILE
                others = (each for each in self._seen if each.owner == now.owner and each.item != now.item)
        return next((each.value for each in others if not is_same(each.value, now.value)), now.value)

    def _is_meant(self, owner: str | None) -> bool:
        """Whether what is about a job is to be changed now; `owner` None: it is about no job alone."""
        match self._case.scope:
            case scope if scope == ONCE:
                return self.changed == 0
            case scope if scope == ALWAYS:
                return True
            case scope:
                number = _NUMBERS[scope]
                return len(self._job_ids) >= number and owner == self._job_ids[number - 1]
