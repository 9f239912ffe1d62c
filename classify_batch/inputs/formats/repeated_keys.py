"""Objects of JSON in which a key comes more than once: which of its values is meant, nobody can tell.

Python's decoder takes the last one. To look at each pair takes nearly twice as long, so it is done only where a key is
written more often than there are objects, or may be escaped.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

_PLAIN_KEY = re.compile(r"[\w .:-]*", re.ASCII)
"""Keys that everybody writes as they are. Python's encoder escapes an umlaut, PHP's a slash."""


class RepeatingObject(dict[str, Any]):
    """An object some keys of which come more than once.

    Attributes:
        repeated: these keys.
    """

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = frozenset(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)


def make_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs: the `object_pairs_hook` of a decoder."""
    found = dict(pairs)
    return found if len(found) == len(pairs) else RepeatingObject(pairs)


def may_repeat(text: str, keys: Iterable[str], objects: int) -> bool:
    """Whether one of the keys may come more than once in one of so many objects, which are written so."""
    return any(
        text.count(json.dumps(key, ensure_ascii=False)) > objects or ("\\" in text and not _PLAIN_KEY.fullmatch(key))
        for key in keys
    )
