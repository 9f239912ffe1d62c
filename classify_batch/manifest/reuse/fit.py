"""Which runs' outcomes may be taken over: those that the same question would have brought."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_MAX_PAGES_DEFAULT = 5


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
    return {"max_pages": _MAX_PAGES_DEFAULT} | {
        key: sorted(set(value)) if isinstance(value, list | tuple) else value for key, value in told.items() if value
    }


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
