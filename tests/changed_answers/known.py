"""Cases that are known to fail, each with its reason. A case that holds again has to leave: xfail is strict."""

from __future__ import annotations

import re
from collections.abc import Mapping

KNOWN: Mapping[str, tuple[str, ...]] = {
    "an empty file ID, or one in blanks, is taken for another file's": (
        "v1/results/items[].file_id/empty/lost job",
        "v1/results/items[].file_id/blanks/lost job",
    ),
}
"""By the reason, patterns of the names of cases; `*` stands for any words."""


def reason_to_fail(name: str) -> str | None:
    """Why the case of a name is known to fail; None: it isn't."""
    return next((reason for reason, patterns in KNOWN.items() if any(_matches(name, each) for each in patterns)), None)


def _matches(name: str, pattern: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
