"""What goes wrong in a sandbox, and how often. All faults are off by default.

There are three kinds. How a job ends is decided once, when it is created (`job_endings`), and kept in the ledger. Which
files are refused depends on their IDs only. What happens to a request is drawn when it arrives and, where its work is
done, again before it is answered (`request_faults`).
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from classify_batch.errors import SettingsError
from classify_batch.sandbox.documents.project import hash_to_fraction
from classify_batch.sandbox.faults.request_faults import (
    CALLS,
    PHASES,
    SHORT_NAMES,
    WHATS,
    CreateFault,
    check_what,
    parse_request_fault,
)
from classify_batch.spelling import suggest

Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
FileIds = frozenset[str]
FileFault = Literal["poison", "foreign", "rejected_vaguely"]
"""What a file can be; each is two fields of `Faults`: the file IDs, and a share of all."""

ResultsLag = Literal["nothing", "null", "half"]
"""What results show while they lag: no items, all items with `result: null`, or only the first half of the items."""


def check_fault_name(name: str) -> str:
    parse_request_fault(name)
    return name


class Faults(BaseModel):
    """What goes wrong, and how often. Probabilities are per job, per file or per request, as each says."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int | None = None
    """Same seed, same requests in the same order: same faults. None: the sandbox's own seed."""

    error: Probability = 0.0
    """Per job: ends ERROR."""
    cancelled: Probability = 0.0
    """Per job: ends CANCELLED."""
    partial: Probability = 0.0
    """Per job: ends PARTIAL_SUCCESS, with some files null or missing."""
    error_first: Probability = 0.0
    """Per job that will be answered: it shows ERROR when it ends, and its real end, SUCCESS or PARTIAL_SUCCESS, only
    `error_first_s` later."""
    error_first_s: Seconds = 5.0
    """How long such a job shows ERROR."""
    stuck: Probability = 0.0
    """Per job: never ends."""
    unknown_status: Probability = 0.0
    """Per job: shows QUEUED and then RUNNING instead of PENDING until it ends; on v2, QUEUED instead of PENDING."""
    doubled: Probability = 0.0
    """Per job: an item of its results comes twice."""
    unasked: Probability = 0.0
    """Per job: its results hold an item more, about a file that nobody asked for."""
    nameless: Probability = 0.0
    """Per job: its results hold an item more, whose `file_id` is null."""
    endless_results: Probability = 0.0
    """Per job: every page of its results is the first, and names a next one."""

    null_result: Probability = 0.0
    """Per file: answered with `result: null`, which makes its job end PARTIAL_SUCCESS (v2: COMPLETED)."""
    poison: FileIds = frozenset()
    """File IDs: a job that holds one of them ends ERROR."""
    poison_share: Probability = 0.0
    """This share of all file IDs, always the same ones, is poison too."""
    foreign: FileIds = frozenset()
    """File IDs: a create that holds one of them is refused, and says which."""
    foreign_share: Probability = 0.0
    """This share of all file IDs, always the same ones, is foreign too."""
    foreign_says: Literal["name", "index"] = "name"
    """Refused with 400 naming the first, or with 422 giving the places of all."""
    rejected_vaguely: FileIds = frozenset()
    """File IDs: a create that holds one of them is 400, and doesn't say which."""
    rejected_vaguely_share: Probability = 0.0
    """This share of all file IDs, always the same ones, is rejected vaguely too."""
    credits: int | None = Field(default=None, ge=0)
    """Pages that may be classified (a file is one; MULTIMODAL counts twice); creates beyond are 402, reads go on."""

    parse_jobs_billed: bool = False
    """Classifying a parse job is billed like classifying a file, though the vendor says that it costs nothing."""

    rate_429: Probability = 0.0
    """Per request of any kind: 429."""
    create_503_before: Probability = 0.0
    """Per create: 503, and the job was not accepted."""
    create_503_after: Probability = 0.0
    """Per create: 503, although the job was accepted."""
    lost_create_answer: Probability = 0.0
    """Per create: the job is accepted, then the connection is closed without an answer."""
    create_slow: Probability = 0.0
    """Per create: it is accepted only `accept_after_s` after it arrived, even if its client is gone by then. The job's
    `created_at` is the time of acceptance. A sandbox that is stopped meanwhile accepts it at once."""
    accept_after_s: Seconds = 10.0
    """How long after its arrival a slow create is accepted."""
    same_job_id: Probability = 0.0
    """Per create: no job is made, and the answer is the client's job that was made before it in the project, as it is
    now. Where there is none, the create is accepted as usual."""
    upload_expired: Probability = 0.0
    """Per upload: it has expired when the first create that names it arrives."""
    overlap: Probability = 0.0
    """Per accepted create: somebody else makes, right after it, a job by the same rules over a random half of the same
    files and as many others (v2: over the same file). Half of such jobs end PARTIAL_SUCCESS, as by `partial`. They are
    not among what the client is billed for."""
    overlap_mode: Literal["FAST", "MULTIMODAL"] | None = None
    """The mode of such jobs on v1. None: as the client's job."""
    read_503: Probability = 0.0
    """Per get, list, results or files."""
    reset_before: Probability = 0.0
    """Per request of any kind: the connection is reset before anything was done."""
    hang: Probability = 0.0
    """Per request of any kind: the work is done, and the answer never comes."""
    slow: Probability = 0.0
    """Per request of any kind: the work is done, and the answer comes `slow_s` later."""
    slow_s: Seconds = 1.0
    """How much longer slow requests take."""
    request_faults: dict[Annotated[str, AfterValidator(check_fault_name)], Probability] = Field(default_factory=dict)
    """All others, by CALL.MOMENT.WHAT. Each is given by its own name, `create.after.502 = 0.01`, flat or nested."""

    retry_after_s: Seconds | None = None
    """Sent as `Retry-After` with every 429, if set."""
    created_at_jitter_s: Seconds = 0.0
    """All times that a job shows are shifted by a random amount of up to this much, forth or back, the same for the
    whole of its life: as if each were stamped by one of several clocks."""
    list_lag_s: Seconds = 0.0
    """A new job shows in the list only after this time."""
    list_hides_after_s: Seconds = 0.0
    """So long after its creation a job vanishes from the list …"""
    list_hides_for_s: Seconds = 0.0
    """… for this time, as from a replica that lags behind: it is still there by its ID."""
    get_lag_s: Seconds = 0.0
    """A new job is 404 for this time."""
    results_lag_s: Seconds = 0.0
    """The results of a job that ended are not whole for this time, though the job shows how it ended."""
    results_lag_shows: ResultsLag = "nothing"
    """What results show meanwhile. On v2, whichever it is, the job is COMPLETED with `result: null`."""
    results_page_size: int | None = Field(default=None, ge=1)
    """Results in pages of this size, unless the sandbox's own option says otherwise."""

    outage_for_s: Seconds = 0.0
    """How long an outage lasts."""
    outage_every_s: Annotated[float, Field(gt=0)] | None = None
    """Outages begin so often. None: there is one only."""
    outage_after_s: Seconds | None = None
    """The first begins so long after the start. None: after `outage_every_s`, or at once."""
    outage_what: Annotated[str, AfterValidator(check_what)] = "reset"
    """What happens to every request while an outage lasts."""

    @model_validator(mode="before")
    @classmethod
    def _gather_request_faults(cls, values: object) -> object:
        return gather_dotted_names(values) if isinstance(values, Mapping) else values

    @field_validator("poison", "foreign", "rejected_vaguely", mode="before")
    @classmethod
    def _split_file_ids(cls, value: object) -> object:
        return split_file_ids(value) if isinstance(value, str) else value

    @field_validator("outage_what", mode="before")
    @classmethod
    def _status_to_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value

    @classmethod
    def from_values(cls, values: Mapping[str, object], source: str) -> Self:
        """Checked faults. Raises SettingsError, which names every error in them."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            known = [name for name in cls.model_fields if name != "request_faults"]
            words = "; ".join(f"{fault_name_of(each)}: {_words_of_error(each, known)}" for each in error.errors())
            names = ", ".join(known)
            grammar = f"{' | '.join(CALLS)}, {' | '.join(PHASES)}, 400 to 599 | {' | '.join(WHATS)}"
            hint = f"the faults are {names}; and CALL.MOMENT.WHAT, of {grammar}"
            raise SettingsError(f"{source}: {words}", hint=hint) from None

    @classmethod
    def load_file(cls, path: str | os.PathLike[str], **over: Any) -> Self:
        """Reads a TOML file of faults; `over` wins. Raises SettingsError."""
        try:
            values = tomllib.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            message = f"faults {path} can't be read: {error.strerror}"
            raise SettingsError(message, hint="--faults takes a TOML file, with lines like: error = 0.05") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"faults {path} is not TOML: {error}", hint="write lines like: error = 0.05") from None
        return cls.from_values({**dict(flatten_tables(values)), **over}, f"faults {path}")

    def request_probabilities(self) -> Iterator[tuple[str, float]]:
        """All that can happen to requests: each CALL.MOMENT.WHAT and its probability."""
        for name, full_name in SHORT_NAMES.items():
            yield full_name, getattr(self, name)
        yield from self.request_faults.items()

    def create_probabilities(self) -> dict[CreateFault, float]:
        """The probabilities of what can happen to a create and has no CALL.MOMENT.WHAT."""
        return {fault: getattr(self, fault) for fault in get_args(CreateFault)}

    def indexes_with_fault(self, kind: FileFault, file_ids: Sequence[str]) -> Iterator[int]:
        """The indexes of the files that have this fault: always the same files."""
        named: FileIds = getattr(self, kind)
        share: float = getattr(self, f"{kind}_share")
        if not named and not share:
            return
        for position, file_id in enumerate(file_ids):
            if file_id in named or hash_to_fraction(kind, file_id) < share:
                yield position

    def is_in_outage(self, elapsed_s: float) -> bool:
        """Whether an outage lasts, so long after the start."""
        first_s = (self.outage_every_s or 0.0) if self.outage_after_s is None else self.outage_after_s
        since_s = elapsed_s - first_s
        # Outages come again and again: only the time since the last one began counts.
        if since_s >= 0 and self.outage_every_s is not None:
            since_s %= self.outage_every_s
        return 0 <= since_s < self.outage_for_s


def split_file_ids(text: str) -> object:
    """File IDs on a command line: with commas between them, or as a list in TOML."""
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",")]
    try:
        return tomllib.loads(f"file_ids = {text}")["file_ids"]
    except tomllib.TOMLDecodeError:
        raise ValueError('write file IDs with commas between them, or as a list: ["a", "b"]') from None


def flatten_tables(values: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    """Tables within tables as names with dots."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten_tables(value, f"{above}{name}.")
        else:
            yield above + name, value


def gather_dotted_names(values: Mapping[str, object]) -> dict[str, object]:
    """Puts the names with dots together under `request_faults`; `misfortunes` is its former name."""
    plain = {name: value for name, value in values.items() if not isinstance(value, Mapping) and "." not in name}
    dotted = dict(flatten_tables({name: value for name, value in values.items() if name not in plain}))
    gathered = {
        name.removeprefix("misfortunes.").removeprefix("request_faults."): value for name, value in dotted.items()
    }
    return plain | ({"request_faults": gathered} if gathered else {})


def _words_of_error(error: ErrorDetails, known: Sequence[str]) -> str:
    """What is wrong with a fault. `known`: the names that there are."""
    if error["type"] == "extra_forbidden":
        return "there is no such fault" + suggest(str(error["loc"][-1]), known)
    return error["msg"].removeprefix("Value error, ")


def fault_name_of(error: ErrorDetails) -> str:
    """The name of the fault that a validation error is about."""
    parts = [str(part) for part in error["loc"] if part not in {"request_faults", "[key]"}]
    return ".".join(parts)
