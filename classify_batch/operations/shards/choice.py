"""Which shards are meant: the words of a caller, and what a scheduler's environment says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from classify_batch.arguments import whole_number
from classify_batch.errors import UsageError
from classify_batch.rundir.shards import SHARDS_MAX

Shard: TypeAlias = "int | str | None"
"""A shard's number from 0, with or without the count (`"3/8"`), or `"auto"`."""

AUTO = "auto"

INDEX_VARIABLES = ("JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID")
"""In which Kubernetes' Indexed Jobs and Slurm's job arrays tell each process its number."""

_SHARD = re.compile(r"(\d+)(?:/(\d+))?", re.ASCII)
_HINT = "a shard is its number from 0 and how many there are, such as 0/8; or `auto`"


class ShardChoice(NamedTuple):
    """How many shards a run has (None: as it was planned), and the one that is meant (None: all of them)."""

    shards: int | None = None
    shard: int | None = None


def parse_shards(shards: int | None, shard: Shard, environ: Mapping[str, str] = os.environ) -> ShardChoice:
    """What a caller means.

    Raises:
        UsageError: the words say nothing, contradict each other, or name a shard that there can't be; or the
            environment names none.
    """
    if shards is not None:
        shards = whole_number("shards", shards, f"a run has from 1 to {SHARDS_MAX:,} shards")
        if not 1 <= shards <= SHARDS_MAX:
            raise UsageError(f"{shards} shards", hint=f"a run has from 1 to {SHARDS_MAX:,} shards")
    if shard is None:
        return ShardChoice(shards)
    index, count = _index_in(environ) if shard == AUTO else _parse_shard(str(shard))
    if count is not None:
        if shards not in (None, count):
            raise UsageError(f"shard {shard} of {shards} shards", hint="give the same number of shards twice, or once")
        if not 1 <= count <= SHARDS_MAX:
            raise UsageError(f"shard {shard}", hint=f"a run has from 1 to {SHARDS_MAX:,} shards")
        shards = count
    refuse_out_of_range(index, shards)
    return ShardChoice(shards, index)


def refuse_out_of_range(index: int, shards: int | None) -> None:
    """Raises UsageError for a shard that isn't there."""
    if shards is not None and index >= shards:
        raise UsageError(
            f"shard {index} of {shards} shards: the last one is {shards - 1}",
            hint=f"shards count from 0; for an array of Slurm: `--array=0-{shards - 1}`",
        )


def _parse_shard(words: str) -> tuple[int, int | None]:
    match = _SHARD.fullmatch(words)
    if match is None:
        raise UsageError(f"shard {words!r} is none", hint=_HINT)
    index, count = match.groups()
    return int(index), None if count is None else int(count)


def _index_in(environ: Mapping[str, str]) -> tuple[int, None]:
    found = {name: value for name in INDEX_VARIABLES if (value := environ.get(name))}
    if not found:
        raise UsageError(
            f"shard auto: neither {' nor '.join(INDEX_VARIABLES)} is set",
            hint="an Indexed Job of Kubernetes has the one, a job array of Slurm the other; else name a shard: 0/8",
        )
    for name, value in found.items():
        if not (value.isascii() and value.isdigit()):
            raise UsageError(f"shard auto: {name}={value!r} is no number", hint="it counts from 0")
    if len(set(map(int, found.values()))) > 1:
        words = ", ".join(f"{name}={value}" for name, value in found.items())
        raise UsageError(f"shard auto: {words} contradict each other", hint="unset one of them, or name the shard")
    return int(next(iter(found.values()))), None
