"""The media that a run can live on, behind `ports.RunStore`: a disk, and memory for tests in virtual time.

`open_store` is the one way to a store, and `open_reader` to what only reads. Free of heavy imports: `status` comes by
here.
"""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from classify_batch.arguments import path_text, refuse_no_flag
from classify_batch.object_store.url import refuse_url
from classify_batch.store.place import DiskPlace

if TYPE_CHECKING:
    from classify_batch.ports import RunPlace, RunReader, RunStore

Location: TypeAlias = "str | PathLike[str] | RunPlace"
"""What names a place: a path, or the place itself, which may be on any medium."""


def place_of(location: Location, *, trusted: bool = False) -> RunPlace:
    """The place that is meant. `trusted`: a directory is used also where other users could misuse it.

    Raises:
        UsageError: it is the URL of an object, the empty path, or neither a path nor a place.
    """
    refuse_no_flag("trust_run_dir", trusted)
    if not isinstance(location, str | PathLike) and hasattr(location, "reader"):
        return location
    text = path_text(location, "the run directory")
    refuse_url(text, "a run directory")
    return DiskPlace(Path(text), trusted)


def anchored(location: Location, *, trusted: bool = False) -> RunPlace:
    """The place that is meant, wherever the working directory is later: a program may change it while a run is on, and
    a command doesn't. Raises as `place_of`."""
    place = place_of(location, trusted=trusted)
    if not isinstance(place, DiskPlace):
        return place
    try:
        return replace(place, path=place.path.absolute())
    except FileNotFoundError:  # the working directory is gone: whoever opens the place says so
        return place


def open_store(location: Location) -> RunStore:
    """A run's files, to read and to write. Nothing is touched yet."""
    return place_of(location).open()


def open_reader(location: Location) -> RunReader:
    """A run's files, to read."""
    return place_of(location).reader()


def needs_trust(location: Location) -> bool:
    """Whether `run` and `resume` refuse a place that holds a run of this user's, unless they are asked to trust it."""
    place = place_of(location)
    return isinstance(place, DiskPlace) and place.is_trusted_already()
