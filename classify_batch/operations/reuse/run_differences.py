"""Compares the identities of two runs: one may reuse the other's outcomes if both ask the same of each file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from classify_batch.capabilities import CAPABILITIES
from classify_batch.run_records import RunIdentity
from classify_batch.vocabulary import PAGES_MAX_DEFAULT


def find_differences(ours: RunIdentity, theirs: RunIdentity) -> list[str]:
    """The names of what differs, for a person; none if the outcomes of one run fit the other.

    The API's version, the project and the organization may differ: they don't change what is asked of a file. Nor do
    carried columns: those of the new run are written beside what is reused.
    """
    return [name for name, normalize in _MUST_AGREE.items() if normalize(ours) != normalize(theirs)]


def normalize_rules(identity: RunIdentity) -> object:
    """The rules, in whatever order."""
    return {(rule.get("type"), rule.get("description")) for rule in identity.get("rules") or ()}


def normalize_parsing(identity: RunIdentity) -> object:
    """The parsing configuration. An unset value equals an empty one, and an unset `max_pages` equals its default."""
    given = identity.get("parsing_configuration") or {}
    named = len(set(given.get("target_pages") or ()))
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


def _value_or_none(key: str) -> Callable[[RunIdentity], object]:
    def get_value(identity: Mapping[str, object]) -> object:
        return identity.get(key) or None

    return get_value


_MUST_AGREE: Mapping[str, Callable[[RunIdentity], object]] = {
    "rules": normalize_rules,
    "mode": _value_or_none("mode"),
    "parsing configuration": normalize_parsing,
    "base URL": _value_or_none("base_url"),
    "second look": _value_or_none("escalation"),
}
