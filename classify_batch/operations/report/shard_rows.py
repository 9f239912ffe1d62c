"""The shards of a run, as rows of a report: bounded, however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from classify_batch.rundir.manifest_json import Manifest
from classify_batch.vocabulary import RunState

SHARDS_SHOWN_MAX = 50
NEVER_BEGUN = "never begun"


@dataclass(frozen=True, slots=True)
class ShardRow:
    """How far a shard is: `done` of its `files` have their outcome."""

    shard: int
    state: str
    files: int
    done: int


@dataclass(frozen=True, slots=True)
class ShardTable:
    """The shards of a run.

    Attributes:
        count: how many there are; states: how many are in each state.
        rows: of all; where there are too many, those that are not complete come first.
    """

    count: int
    states: dict[str, int]
    rows: list[ShardRow]


def shard_table(manifest: Manifest, begun: Sequence[bool]) -> ShardTable | None:
    """The shards in the manifest of a whole run; None of a run without. `begun`: of each, whether it was."""
    rows = [
        ShardRow(
            each["shard"],
            each["state"] if is_begun or each["state"] == RunState.COMPLETE else NEVER_BEGUN,
            each["files"],
            each["done"],
        )
        for each, is_begun in zip(manifest.get("shards", ()), begun, strict=True)
    ]
    if not rows:
        return None
    states = Counter(row.state for row in rows)
    shown = sorted(rows, key=lambda row: row.state == RunState.COMPLETE)[:SHARDS_SHOWN_MAX]
    return ShardTable(len(rows), dict(states.most_common()), sorted(shown, key=lambda row: row.shard))
