"""The outcomes of a run as they are committed, in whichever part of it: its own directory, or those of its shards.

Processes may begin shards at any time, and several at once. What a poll finds comes part by part, and in each part in
the order of its commits; so each outcome is found once, and memory holds about a megabyte of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from classify_batch.operations.outcome import Outcome, decode_outcomes
from classify_batch.operations.status import no_run_error
from classify_batch.ports import RunPlace, RunReader
from classify_batch.rundir.outcome_tail import OutcomeTail
from classify_batch.rundir.run_json import RunFile, parse_run_file, shard_place
from classify_batch.vocabulary import RUN_JSON

Part = int | None
"""A shard's number; None: the run's own directory."""


class NewOutcomes(NamedTuple):
    """Some outcomes of a part, as they were committed. `where`: the file that they stand in."""

    part: Part
    data: bytes
    where: str

    def decode(self) -> list[Outcome]:
        """The outcomes themselves."""
        return decode_outcomes(self.data, self.where)


class PartTails:
    """Reads the outcomes of all parts of a run once, and then those that were committed since.

    Args:
        place: where the run is. There must be one.
        shard: reads this one only.

    Raises:
        RunDirectoryError: there is no run, or one of a newer version.
    """

    def __init__(self, place: RunPlace, shard: int | None = None) -> None:
        self._readers: dict[Part, RunReader] = {}
        self._tails: dict[Part, OutcomeTail] = {}
        run = read_run_json(place.reader(), takes_shards=True)
        indexes = range(len(run.shards or ())) if shard is None else [shard]
        self._not_begun: dict[Part, RunReader] = {index: shard_place(place, index).reader() for index in indexes}
        self._held: RunReader | None = None
        if shard is None:
            self._readers[None] = place.reader()
            self._runs: dict[Part, RunFile] = {None: run}
        else:
            self._runs = {}

    def poll_committed(self, may_read: Callable[[Part], bool] = lambda _part: True) -> Iterator[NewOutcomes]:
        """What was committed since the last call. `may_read`: of which parts.

        Raises:
            DamagedError: what was committed is not there as it was written.
        """
        for part, reader in list(self._find_parts().items()):
            if not may_read(part):
                continue
            if part not in self._tails:
                self._tails[part] = OutcomeTail(reader, self._runs.pop(part))
            for log, data in self._tails[part].poll_committed():
                yield NewOutcomes(part, data, f"{log} in {reader.where}")

    def is_held(self) -> bool:
        """Whether a process is at work on the run, or on any shard of it.

        Asked twice, since a shard may begin behind our back while another one ends.
        """
        return self._find_holder() or self._find_holder()

    def _find_holder(self) -> bool:
        if self._held is not None and self._held.holder() is not None:  # most likely the same one as before
            return True
        held = (reader for reader in self._find_parts().values() if reader.holder() is not None)
        self._held = next(held, None)
        return self._held is not None

    def _find_parts(self) -> dict[Part, RunReader]:
        """The parts that there are by now."""
        begun = {part: reader for part, reader in self._not_begun.items() if reader.size(RUN_JSON) is not None}
        for part, reader in begun.items():
            self._runs[part] = read_run_json(reader)
            self._readers[part] = self._not_begun.pop(part)
        return self._readers


def read_run_json(reader: RunReader, *, takes_shards: bool = False) -> RunFile:
    """The run.json of a run. Raises RunDirectoryError where there is no run, or one of a newer version; and where it
    has shards, unless the caller takes them."""
    data = reader.read(RUN_JSON)
    if data is None:
        raise no_run_error(reader.where, reader.holder())
    return parse_run_file(data, f"{RUN_JSON} in {reader.where}", takes_shards=takes_shards)
