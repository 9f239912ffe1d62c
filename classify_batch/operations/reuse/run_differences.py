"""Which runs' outcomes may be taken over: those that the same question would have brought."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from classify_batch.capabilities import CAPABILITIES
from classify_batch.vocabulary import PAGES_MAX_DEFAULT


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """In what two identities ask differently, in words; nothing where the outcomes of one are good for the other.

    The API's version, the project and the organization may differ: they decide how files are asked about, and not what.
    """
    return [what for what, read in _MUST_AGREE.items() if read(ours) != read(theirs)]


def _rules(identity: Mapping[str, Any]) -> object:
    return {(rule.get("type"), rule.get("description")) for rule in identity.get("rules") or ()}


def _parsing(identity: Mapping[str, Any]) -> object:
    """Unset and empty is the same, and so is unset and the pages that are read then."""
    told = identity.get("parsing_configuration") or {}
    named = len(set(told.get("target_pages") or ()))
    return {"max_pages": _max_pages_unset(named, identity)} | {
        key: sorted(set(value)) if isinstance(value, list | tuple) else value for key, value in told.items() if value
    }


def _max_pages_unset(named: int, identity: Mapping[str, Any]) -> int | None:
    """How many pages are read where `max_pages` is unset and so many are named; None: nobody says, so that only runs
    that left it unset agree."""
    if named <= PAGES_MAX_DEFAULT:
        return PAGES_MAX_DEFAULT
    capabilities = CAPABILITIES.get(str(identity.get("api_version")))
    return named if capabilities is not None and capabilities.unset_pages_max is None else None


def _plain(key: str) -> Callable[[Mapping[str, Any]], object]:
    return lambda identity: identity.get(key) or None


_MUST_AGREE: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "rules": _rules,
    "mode": _plain("mode"),
    "parsing configuration": _parsing,
    "base URL": _plain("base_url"),
    "second look": _plain("escalation"),
    "carried columns": _plain("carry"),
}
