"""`[[accounts]]`: several keys, each with a budget and limits of its own, among which a run's shards are spread.

An account is a name and the variable that holds its key: neither is a secret, and the key itself is no setting. The
name is what a journal says of an attempt, so that only the account that sent it asks what became of it.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from classify_batch.settings.job_spec import StrictModel
from classify_batch.settings.sections import ApiSettings, LimitSettings, check_base_url

ACCOUNTS_MAX = 100

_OWN_LIMITS = ("requests_in_flight", "requests_per_s", "creates_per_s", "jobs_in_flight")
_OWN_API = ("base_url", "project_id", "organization_id")


class AccountSettings(StrictModel):
    """An account. What it leaves out is as in `[api]` and `[limits]`; but `max_credits` is its own budget, beside that
    of the whole run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    api_key_env: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")
    """The variable that holds the key; or, with `_FILE` behind its name, the path of a file that does."""
    base_url: str | None = None
    project_id: str | None = Field(default=None, min_length=1)
    organization_id: str | None = Field(default=None, min_length=1)
    requests_in_flight: int | None = Field(default=None, ge=1, le=10_000)
    requests_per_s: float | None = Field(default=None, gt=0, le=100_000, allow_inf_nan=False)
    creates_per_s: float | None = Field(default=None, gt=0, le=100_000, allow_inf_nan=False)
    jobs_in_flight: int | None = Field(default=None, ge=0, le=100_000)
    max_credits: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @field_validator("base_url")
    @classmethod
    def _https_or_home(cls, value: str | None) -> str | None:
        return None if value is None else check_base_url(value)

    def api_settings_for(self, api: ApiSettings) -> ApiSettings:
        """How this account reaches the API."""
        return api.model_copy(update=self._given_values(_OWN_API))

    def limits_of(self, limits: LimitSettings) -> LimitSettings:
        """The limits within which it works."""
        return limits.model_copy(update=self._given_values(_OWN_LIMITS))

    def _given_values(self, names: tuple[str, ...]) -> dict[str, object]:
        return {name: value for name in names if (value := getattr(self, name)) is not None}
