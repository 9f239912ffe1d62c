"""How a sandbox behaves. By default it has no faults and no limits, and results come in one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from classify_batch.errors import SettingsError
from classify_batch.sandbox.documents.project import PROJECT_ID
from classify_batch.sandbox.faults.fault_options import Faults

ListOrder = Literal["newest", "oldest", "shuffled", "changed"]
"""`changed`: the job whose status changed last comes first, and page tokens are offsets."""


ApiKey = Annotated[str, Field(min_length=1, pattern=r"^[!-~]+$")]


class Options(BaseModel):
    """The options of a sandbox. Those of the command have the same names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    documents: Path | None = None
    """The folder whose text files the project holds. None: it knows every file ID and classifies at random."""
    files: int = Field(default=0, ge=0, le=10_000_000)
    """Without documents: how many made-up files the file list shows."""
    files_expire_in_s: float | None = Field(default=None, ge=0)
    """When all files expire, counted from the sandbox's start: creates then know none of them. None: never."""
    uploads_expire_in_s: float | None = Field(default=None, gt=0)
    """When an upload expires, counted from then: no list has it any more, and no create knows it. None: never."""
    ledger: Path | None = None
    """Where accepted jobs are kept over a restart."""
    api_key: ApiKey = Field(default="sandbox", repr=False)
    """It may name any project."""
    project_id: str = PROJECT_ID
    """The project of calls by this key that name none."""
    further_keys: dict[ApiKey, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict, repr=False)
    """Further API keys, each with the only project that it sees: naming another one is 403."""
    files_of_project: str | None = Field(default=None, min_length=1)
    """File IDs that begin so are in `project_id` only: creates in another project don't know them."""
    seed: int | None = None
    """None: another one each time."""
    job_duration_s: float = Field(default=0.2, ge=0)
    """The median of a lognormal distribution."""
    job_duration_sigma: float = Field(default=0.6, ge=0, le=5)
    """Its spread; 0: every job takes the same time."""
    list_order: ListOrder = "newest"
    list_page_size_max: int = Field(default=100, ge=1)
    list_page_size_clamp: bool = False
    """A larger page asked for is cut down instead of refused."""
    results_page_size: int | None = Field(default=None, ge=1)
    """None: all of a job's results in one page."""
    requests_per_s: float | None = Field(default=None, gt=0)
    """Requests beyond are answered 429; up to a second's worth may come at once."""
    creates_per_s: int | None = Field(default=None, ge=1)
    """v2's creates beyond so many in any one second are answered 429; the API's documented limit is 40."""
    jobs_at_once: int | None = Field(default=None, ge=1)
    """Creates beyond so many unfinished jobs are answered 429."""
    date_ahead_s: float | None = None
    """How far the `Date` header of every answer is ahead of the clock that stamps jobs; negative: behind. None: a
    server on a socket sends its own time, and the application by itself sends no `Date`."""
    silent_mode: bool = False
    """Jobs don't say which `mode` they were given."""
    silent_created_at: bool = False
    """Jobs don't say when they were created: there is no `created_at`."""
    upper_case_ids: bool = False
    """File IDs that are UUIDs are spelled in upper case in results: in v1's items, and as v2's `file_input`."""
    forget_transactions_after_s: float | None = Field(default=None, ge=0)
    """So long after its job was created a `transaction_id` of v2 is forgotten: used again, it makes a new job. None:
    never."""
    faults: Faults = Faults()

    @field_validator("further_keys")
    @classmethod
    def _refuse_api_key(cls, keys: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if info.data.get("api_key") in keys:
            raise ValueError("the API key itself is no further key")
        return keys

    @classmethod
    def from_values(cls, **values: Any) -> Self:
        """Checked options. Raises SettingsError, which names every error in them."""
        try:
            return cls(**values)
        except ValidationError as error:
            words = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False)]
            hint = "classify-batch sandbox --help lists every option"
            raise SettingsError(f"sandbox: {'; '.join(words)}", hint=hint) from None
