"""What every RunPlace and RunReader must do: one suite, on the disk and on objects that never change."""

from __future__ import annotations

from pathlib import Path

import pytest

from classify_batch.ports import RunPlace
from classify_batch.store import open_reader, open_store, place_of
from classify_batch.vocabulary import Log
from tests.conformance.segment_store import SegmentPlace

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


@pytest.fixture(params=["disk", "objects"])
def run_place(request: pytest.FixtureRequest, tmp_path: Path) -> RunPlace:
    root = tmp_path / "runs" / "today"
    return place_of(root) if request.param == "disk" else SegmentPlace(root)


async def test_a_reader_sees_what_a_store_wrote(run_place: RunPlace) -> None:
    """Ranges, sizes and the holder; and nothing where nothing is."""
    reader = open_reader(run_place)
    assert (reader.read("run.json"), reader.size(Log.JOURNAL), reader.holder()) == (None, None, None)
    async with open_store(run_place) as store:
        await store.prepare()
        async with store.lock():
            await store.create("run.json", b"{}")
            store.append(Log.JOURNAL, b"one\n")
            await store.commit()
            store.append(Log.JOURNAL, b"two\n")
            await store.commit()
            assert reader.holder() == await store.holder()
    assert (reader.read("run.json"), reader.size(Log.JOURNAL), reader.holder()) == (b"{}", 8, None)
    for start, end in [(0, None), (2, 6), (4, None), (3, 3), (5, 100), (100, None)]:
        assert reader.read(Log.JOURNAL, start, end) == b"one\ntwo\n"[start:end]
    assert reader.where == store.where == run_place.where


async def test_places_know_each_other(run_place: RunPlace, tmp_path: Path) -> None:
    """A place is distinguished from others however it is named, and its folder lists it."""
    async with open_store(run_place) as store:
        await store.prepare()
        async with store.lock():
            await store.create("run.json", b"{}")
    kind = type(run_place)
    runs, link = tmp_path / "runs", tmp_path / "link"
    link.symlink_to(runs / "today")
    inside = kind(runs).inside()  # type: ignore[call-arg]
    assert inside is not None
    assert [each.canonical for each in inside] == [run_place.canonical]
    assert kind(runs).child("today").canonical == run_place.canonical  # type: ignore[call-arg]
    assert kind(runs / "never").sibling("today").canonical == run_place.canonical  # type: ignore[call-arg]
    assert kind(link).canonical == run_place.canonical  # type: ignore[call-arg]
    assert kind(runs / "never").inside() is None  # type: ignore[call-arg]
