"""Records that are read back from JSON are of the types that their readers count on."""

from __future__ import annotations

import json
from typing import NotRequired, TypedDict

import pytest

from classify_batch.rundir.manifest_json import Manifest, parse_manifest
from classify_batch.rundir.typed_json import find_misfit

MANIFEST: Manifest = {
    "state": "complete",
    "reason": None,
    "exit_status": 0,
    "run_id": "r",
    "started_at": "then",
    "stopped_at": None,
    "files": 2,
    "counts": {"classified": 2},
    "types": {"invoice": 2},
    "failure_codes": {},
    "jobs": 1,
    "requests": 3,
    "journal_seq": 9,
}


class Inner(TypedDict, total=False):
    price: float | None


class Outer(TypedDict):
    name: str
    sizes: list[int]
    inner: NotRequired[Inner]
    counts: NotRequired[dict[str, int] | None]
    anything: NotRequired[object]


@pytest.mark.parametrize(
    ("values", "misfit"),
    [
        ({"name": "a", "sizes": []}, None),
        ({"name": "a", "sizes": [1], "inner": {"price": 1}, "counts": None, "anything": [{}], "newer": 1}, None),
        ({"name": "a", "sizes": [], "inner": {"price": None, "newer": 1}, "counts": {"b": 1}}, None),
        ({"sizes": []}, "name: missing"),
        ({"name": None, "sizes": []}, "name: not what it must be"),
        ({"name": "a", "sizes": ["1"]}, "sizes: not what it must be"),
        ({"name": "a", "sizes": {}}, "sizes: not what it must be"),
        ({"name": "a", "sizes": [], "inner": {"price": "1"}}, "inner: not what it must be"),
        ({"name": "a", "sizes": [], "counts": {"b": "1"}}, "counts: not what it must be"),
    ],
)
def test_the_first_misfit_is_named(values: dict[str, object], misfit: str | None) -> None:
    """What is missing or of another type; keys that nobody knows pass."""
    assert find_misfit(values, Outer) == misfit


def test_a_manifest_is_read_as_it_was_written() -> None:
    """Also one of an older version, which wrote fewer keys, or of a newer one, which writes more."""
    written = {**MANIFEST, "outputs": {"plan.jsonl": {"lines": 1, "bytes": 9}}, "newer": [1]}
    assert parse_manifest(json.dumps(MANIFEST).encode()) == MANIFEST
    assert parse_manifest(json.dumps(written).encode()) == written


@pytest.mark.parametrize("name", MANIFEST)
def test_what_is_no_manifest_counts_as_none(name: str) -> None:
    """It only repeats what the journal says: a key that is missing or of another type makes it none."""
    without = {key: value for key, value in MANIFEST.items() if key != name}
    for spoiled in (without, {**MANIFEST, name: [1.5]}):
        assert parse_manifest(json.dumps(spoiled).encode()) is None
    for data in (b"", b"[]", b"{", b"null"):
        assert parse_manifest(data) is None
