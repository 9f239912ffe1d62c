"""The limits that can change while a run is on."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from classify_batch.errors import UsageError


class Tuning(BaseModel):
    """Limits that change, each None where it stays. In force until the process ends."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    jobs_in_flight: int | None = Field(default=None, ge=0, le=100_000)
    """0: as many as there are."""
    requests_per_s: float | None = Field(default=None, gt=0, le=100_000)
    creates_per_s: float | None = Field(default=None, gt=0, le=100_000)
    max_credits: float | None = Field(default=None, ge=0)
    paused: bool | None = None

    @classmethod
    def from_values(cls, **limits: Any) -> Tuning:
        """Raises UsageError naming the first value that can't be."""
        try:
            return cls(**limits)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise UsageError(
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']} (given: {fault['input']!r})",
                hint="`classify-batch manual settings` has the range of every limit",
            ) from None

    def changed_limits(self) -> dict[str, object]:
        """The limits that change, by name."""
        return self.model_dump(exclude_none=True)
