"""Texts of the server, made safe for our files, logs and terminals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

WORDS_MAX = 500


def printable_line(words: str, most: int = WORDS_MAX) -> str:
    """One line of printable characters, cut to `most`: without escape codes, which would control a terminal."""
    # Cut first: a server's words may be as long as a body.
    printable = "".join(c if c.isprintable() else " " for c in words[: 4 * most])
    folded = " ".join(printable.split())
    return folded if len(folded) <= most else folded[: most - 1] + "…"


def parse_error_detail(body: object) -> tuple[str, tuple[tuple[Any, ...], ...]]:
    """What an error body says, and the places (`loc`) that a 422 names.

    The documented shapes are `{"detail": "text"}` and `{"detail": [{"loc": […], "msg": "…", "type": "…"}]}`. Of any
    other, as gateways have them, the JSON itself is what it says.
    """
    detail = body.get("detail") if isinstance(body, Mapping) else None
    if isinstance(detail, str):
        return printable_line(detail), ()
    errors = [error for error in detail if isinstance(error, Mapping)] if isinstance(detail, list) else []
    if not errors:
        return printable_line(json.dumps(body, ensure_ascii=False)) if body else "", ()
    places = tuple(tuple(error["loc"]) for error in errors if isinstance(error.get("loc"), list))
    said = "; ".join(
        f"{'.'.join(str(step) for step in error.get('loc') or ())}: {error.get('msg', '')}" for error in errors[:20]
    )
    return printable_line(said), places
