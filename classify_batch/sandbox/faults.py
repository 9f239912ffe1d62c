"""Misfortunes by name and probability. All are off by default.

Two kinds. How a job ends is decided once, when it is created (`decide_ending`), and kept in the ledger. What
happens to a request is drawn when it arrives and, where the work gets done, again before it is answered: one
table, `MISFORTUNES`. A new misfortune of a request is a field of `Faults` and a row of the table.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from classify_batch.errors import SettingsError
from classify_batch.records import JobStatus
from classify_batch.sandbox.project import draw

Call = Literal["create", "list", "get", "results", "files"]

Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]

PARTIAL_SHARE = 0.1
"""How much of a job with the misfortune `partial` stays without an answer; at least one file."""


class Faults(BaseModel):
    """What goes wrong, and how often. Probabilities are per job, per file or per request, as each says."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int | None = None
    """Same seed, same requests in the same order: same misfortunes. None: the sandbox's own seed."""

    error: Probability = 0.0
    """Per job: ends ERROR."""
    cancelled: Probability = 0.0
    """Per job: ends CANCELLED."""
    partial: Probability = 0.0
    """Per job: ends PARTIAL_SUCCESS, with some files null or missing."""
    null_result: Probability = 0.0
    """Per file: answered with `result: null`, which makes its job end PARTIAL_SUCCESS."""
    poison: frozenset[str] = frozenset()
    """File IDs: a job that holds one of them ends ERROR."""
    poison_share: Probability = 0.0
    """This share of all file IDs, always the same ones, is poison too."""

    create_503_before: Probability = 0.0
    """Per create: 503, and the job was not accepted."""
    create_503_after: Probability = 0.0
    """Per create: 503, although the job was accepted."""
    lost_create_answer: Probability = 0.0
    """Per create: the job is accepted, then the connection is closed without an answer."""
    read_503: Probability = 0.0
    """Per get, list, results or files."""
    rate_429: Probability = 0.0
    """Per request of any kind."""
    retry_after_s: Seconds | None = None
    """Sent as `Retry-After` with every 429, if set."""

    list_lag_s: Seconds = 0.0
    """A new job shows in the list only after this time."""
    get_lag_s: Seconds = 0.0
    """A new job is 404 for this time."""

    @field_validator("poison", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @classmethod
    def of(cls, values: dict[str, Any], source: str) -> Self:
        """Checked faults. Raises SettingsError, naming every fault in the faults."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            words = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
            names = ", ".join(cls.model_fields)
            raise SettingsError(f"{source}: {'; '.join(words)}", hint=f"the faults are {names}") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str], **over: Any) -> Self:
        """Reads a TOML file of faults; `over` wins. Raises SettingsError."""
        try:
            values = tomllib.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            message = f"faults {path} can't be read: {error.strerror}"
            raise SettingsError(message, hint="--faults takes a TOML file, with lines like: error = 0.05") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"faults {path} is not TOML: {error}", hint="write lines like: error = 0.05") from None
        return cls.of({**values, **over}, f"faults {path}")


# --- How a job ends ----------------------------------------------------------------------------------------


class Ending(NamedTuple):
    """What becomes of a job.

    Attributes:
        null, absent: positions in the job's file IDs that are answered with `result: null`, or not at all.
    """

    status: JobStatus = JobStatus.SUCCESS
    error_message: str | None = None
    null: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()


def decide_ending(faults: Faults, file_ids: Sequence[str], random: Random) -> Ending:
    """How a job ends. All lots are drawn every time: a probability changed leaves the others' alone."""
    error, cancelled, partial = random.random(), random.random(), random.random()
    nulls = {position for position in range(len(file_ids)) if random.random() < faults.null_result}
    gaps = random.sample(range(len(file_ids)), max(1, round(len(file_ids) * PARTIAL_SHARE)))
    if any(_is_poison(faults, file_id) for file_id in file_ids):
        return Ending(JobStatus.ERROR, "PDF_IS_BROKEN")
    if error < faults.error:
        return Ending(JobStatus.ERROR, "TIMEOUT")
    if cancelled < faults.cancelled:
        return Ending(JobStatus.CANCELLED)
    absent: set[int] = set()
    if partial < faults.partial:
        nulls.update(gaps[::2])
        absent.update(gaps[1::2])
    if not nulls and not absent:
        return Ending()
    return Ending(JobStatus.PARTIAL_SUCCESS, None, tuple(sorted(nulls - absent)), tuple(sorted(absent)))


def _is_poison(faults: Faults, file_id: str) -> bool:
    return file_id in faults.poison or (faults.poison_share > 0 and draw("poison", file_id) < faults.poison_share)


# --- What happens to a request -----------------------------------------------------------------------------

Moment = Literal["before", "after"]
"""Before any work is done, or after it was done and before it is answered."""

EVERY_CALL: frozenset[Call] = frozenset({"create", "list", "get", "results", "files"})
READS: frozenset[Call] = EVERY_CALL - {"create"}
CREATE: frozenset[Call] = frozenset({"create"})

_UNAVAILABLE = "Service Unavailable"


class Misfortune(NamedTuple):
    """A row: `name` is the field of `Faults` that holds its probability; no status: no answer at all."""

    name: str
    calls: frozenset[Call]
    moment: Moment
    status: int | None
    detail: str = ""


MISFORTUNES = (
    Misfortune("rate_429", EVERY_CALL, "before", 429, "Rate limit exceeded. Try again later."),
    Misfortune("create_503_before", CREATE, "before", 503, _UNAVAILABLE),
    Misfortune("read_503", READS, "before", 503, _UNAVAILABLE),
    Misfortune("create_503_after", CREATE, "after", 503, _UNAVAILABLE),
    Misfortune("lost_create_answer", CREATE, "after", None),
)


class Dice:
    """Draws what happens to each request."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self._random = Random(seed if faults.seed is None else faults.seed)  # noqa: S311
        self._rows: dict[tuple[Call, Moment], list[tuple[float, Misfortune]]] = {}
        for row in MISFORTUNES:
            probability = getattr(faults, row.name)
            for call in row.calls if probability > 0 else ():
                self._rows.setdefault((call, row.moment), []).append((probability, row))

    def throw(self, call: Call, moment: Moment) -> Misfortune | None:
        """The misfortune that strikes, if one does."""
        for probability, row in self._rows.get((call, moment), ()):
            if self._random.random() < probability:
                return row
        return None
