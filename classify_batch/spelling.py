"""What somebody may have meant who wrote a name that isn't there."""

from __future__ import annotations

from collections.abc import Iterable


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'name'?` to put behind an error; empty where no known name is like the word."""
    from difflib import get_close_matches  # noqa: PLC0415 - needed only where something is wrong
    from unicodedata import normalize  # noqa: PLC0415 - likewise

    known = list(known)
    if alike := next((name for name in known if normalize("NFC", name) == normalize("NFC", word)), None):
        # As macOS spells file names, with accents behind their letters: nobody sees a difference.
        return f"; did you mean {alike!a}? It only looks like {word!a}"
    lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f"; did you mean {lower[close[0]]!r}?" if close else ""
