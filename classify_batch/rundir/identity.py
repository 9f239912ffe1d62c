"""What makes a run that run and no other: one table, by which all runs are compared.

    go on with a run   every part must be the same (`differing_parts`): a directory holds one identity only
    diff               names every part that differs, and compares all the same
    reuse              what decides a file's answer must be the same (`differing_for_answers`), however it is spelled

The file IDs are no part of it: they are compared by the inputs themselves. The values come from `Settings.identity`,
which a test holds to this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from classify_batch.capabilities import CAPABILITIES
from classify_batch.run_records import RunIdentity
from classify_batch.vocabulary import PAGES_MAX_DEFAULT

_AnyIdentity = Mapping[str, object]
"""An identity as it was read: perhaps with fewer keys, or with others."""


@dataclass(frozen=True, slots=True)
class IdentityPart:
    """One of the things that a run's identity consists of.

    Attributes:
        key: its key in `identity` of run.json.
        name: for a person.
        setting: where it is set.
        decides_answers: whether a file's answer may be another one where it differs.
        normalize: what of an identity decides answers; None: the value as it is.
    """

    key: str
    name: str
    setting: str
    decides_answers: bool = False
    normalize: Callable[[RunIdentity], object] | None = None

    def read_value(self, identity: _AnyIdentity) -> object:
        """As it was written; None where it is empty, or an older version didn't know it."""
        return identity.get(self.key) or None

    def deciding_value_in(self, identity: RunIdentity) -> object:
        """The same for all spellings that lead to the same answers."""
        return self.read_value(identity) if self.normalize is None else self.normalize(identity)


def differing_parts(ours: _AnyIdentity, theirs: _AnyIdentity) -> list[IdentityPart]:
    """In what two runs differ, or a command and a run."""
    return [part for part in IDENTITY if part.read_value(ours) != part.read_value(theirs)]


def differing_for_answers(ours: RunIdentity, theirs: RunIdentity) -> list[IdentityPart]:
    """What keeps the outcomes of one run from being the other's. None of it: they may be reused."""
    return [
        part
        for part in IDENTITY
        if part.decides_answers and part.deciding_value_in(ours) != part.deciding_value_in(theirs)
    ]


def normalize_rules(identity: RunIdentity) -> object:
    """The rules, in whatever order."""
    return {(rule.get("type"), rule.get("description")) for rule in identity.get("rules") or ()}


def normalize_parsing(identity: RunIdentity) -> object:
    """The parsing configuration. An unset value equals an empty one, and an unset `max_pages` equals its default."""
    given = identity.get("parsing_configuration") or {}
    named = len(set(given.get("target_pages") or ()))  # a page that is named twice is read once
    return {"max_pages": unset_max_pages(named, identity)} | {
        key: sorted(set(value)) if isinstance(value, list | tuple) else value for key, value in given.items() if value
    }


def unset_max_pages(named: int, identity: RunIdentity) -> int | None:
    """How many pages are read where `max_pages` is unset and `named` pages are targeted. None: undocumented, so that it
    equals only another unset one."""
    if named <= PAGES_MAX_DEFAULT:
        return PAGES_MAX_DEFAULT
    capabilities = CAPABILITIES.get(str(identity.get("api_version")))
    return named if capabilities is not None and capabilities.unset_pages_max is None else None


IDENTITY = (
    # How the API is reached and whose account it is: they change neither what is asked of a file nor the answer.
    IdentityPart("api_version", "API version", "api.version"),
    # Another server may classify in another way, and knows other files.
    IdentityPart("base_url", "base URL", "api.base_url", decides_answers=True),
    IdentityPart("project_id", "project", "api.project_id"),
    IdentityPart("organization_id", "organization", "api.organization_id"),
    IdentityPart("mode", "mode", "job.mode", decides_answers=True),
    IdentityPart("rules", "rules", "job.rules", decides_answers=True, normalize=normalize_rules),
    IdentityPart(
        "parsing_configuration",
        "parsing configuration",
        "job.parsing_configuration",
        decides_answers=True,
        normalize=normalize_parsing,
    ),
    IdentityPart("escalation", "second look", "[escalation]", decides_answers=True),
    # What a run says beside its answers: a new run says it of reused ones as well.
    IdentityPart("triage", "triage", "[triage]"),
    IdentityPart("carry", "carried columns", "plan.carry"),
)
