"""Words of the server, which may hold anything, as parts of a URL."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from classify_batch.protocol.requests import QueryParams

# JSON can spell half a surrogate pair, and no URL can: it is sent as the bytes that UTF-8 would have for it.
_ERRORS = "surrogatepass"


def quote_step(words: str) -> str:
    """A step of a path. It comes from outside and is quoted, dots too, so that it can't lead to another path."""
    return quote(words, safe="", errors=_ERRORS).replace(".", "%2E")


def encode_query(params: QueryParams) -> str:
    """A query, without its question mark; of a list each item has a parameter of its own."""
    return urlencode(params, doseq=True, errors=_ERRORS)
