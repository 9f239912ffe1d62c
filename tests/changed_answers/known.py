"""Cases that are known to fail, each with its reason. A case that holds again has to leave: xfail is strict."""

from __future__ import annotations

from collections.abc import Mapping

KNOWN: Mapping[str, tuple[str, ...]] = {}
"""By the reason, the names of the cases that fail by it."""


def reason_to_fail(name: str) -> str | None:
    """Why the case of a name is known to fail; None: it isn't."""
    return next((reason for reason, names in KNOWN.items() if name in names), None)
