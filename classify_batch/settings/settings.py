"""All settings of a run, in one frozen value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self, cast

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as EnvironmentSettingsError

from classify_batch.arguments import path_text
from classify_batch.errors import SettingsError
from classify_batch.run_records import RunIdentity, StoredParsing, StoredSettings
from classify_batch.settings.accounts import ACCOUNTS_MAX, AccountSettings
from classify_batch.settings.config_file import CONFIG_FILE, ConfigFile, read_toml
from classify_batch.settings.consistency import refuse_misfits
from classify_batch.settings.environment import ENV_PREFIX, VENDOR_URL, refuse_unknown_variables, unreadable_variables
from classify_batch.settings.error_places import make_settings_error
from classify_batch.settings.job_spec import JobSpecs
from classify_batch.settings.sections import (
    ApiSettings,
    EscalationSettings,
    JobSettings,
    LimitSettings,
    PlanSettings,
    PriceSettings,
    SandboxSettings,
    TriageSettings,
)

_JSON = "a list or a table in the environment is written as JSON"


class Settings(BaseSettings):
    """All settings of a run. Build it with `Settings.load(path)`, or by keyword: `Settings(job={"rules": […]})`.

    Raises:
        SettingsError: names every fault at once.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    api: ApiSettings = ApiSettings()
    job: JobSettings
    plan: PlanSettings = PlanSettings()
    limits: LimitSettings = LimitSettings()
    price: PriceSettings = PriceSettings()
    escalation: EscalationSettings | None = None
    triage: TriageSettings | None = None
    sandbox: SandboxSettings = SandboxSettings()
    accounts: tuple[AccountSettings, ...] = Field(default=(), max_length=ACCOUNTS_MAX)

    @property
    def files_per_job(self) -> int:
        """File IDs in one job: as many as the plan says, and the API takes."""
        return min(self.plan.files_per_job, self.api.capabilities.files_per_job_max)

    @property
    def accept_s(self) -> float:
        """For how long a create that was sent may still be accepted, in seconds: at least for as long as it is waited
        for."""
        return max(self.limits.accept_s, self.api.timeout_s)

    @property
    def specs(self) -> JobSpecs:
        """What the create calls say."""
        if self.escalation is None:
            return JobSpecs(self.job)
        return JobSpecs(self.job, self.job.model_copy(update={"mode": self.escalation.mode}))

    def __init__(self, **values: Any) -> None:
        refuse_unknown_variables(type(self))
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise make_settings_error(error, CONFIG_FILE.get(), values, type(self)) from None
        except (EnvironmentSettingsError, RecursionError) as error:
            said = ", ".join(unreadable_variables(type(self))) or str(error)
            raise SettingsError(f"the environment holds a setting that can't be read: {said}", hint=_JSON) from None
        refuse_misfits(self, values)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Reads a TOML file; `options` (nested mappings by section) win over everything else.

        Raises:
            SettingsError: the file can't be read, or something in it (or in the environment) is wrong; names all
                faults, with their lines where they can be had.
        """
        token = CONFIG_FILE.set(read_toml(Path(path_text(path, "the config", SettingsError))))
        try:
            return cls(**options)
        finally:
            CONFIG_FILE.reset(token)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - a .env file would be a second place for secrets
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        vendor_url = os.environ.get(VENDOR_URL)
        vendor = InitSettingsSource(settings_cls, {"api": {"base_url": vendor_url}} if vendor_url else {})
        return init_settings, env_settings, vendor, InitSettingsSource(settings_cls, dict(CONFIG_FILE.get().values))

    @classmethod
    def from_stored(cls, stored: StoredSettings, **options: Any) -> Self:
        """The settings in a run.json; the environment and `options` win over them.

        Raises:
            SettingsError: the run has webhook headers or a signing secret, which are stored nowhere.
        """
        webhooks = stored.get("job", {}).get("webhook_configurations") or ()
        if any(webhook.get("webhook_headers") or webhook.get("webhook_signing_secret") for webhook in webhooks):
            raise SettingsError(
                "the run has webhook headers or a signing secret, and secrets are not stored in a run directory",
                hint="name the config that the run was begun with: --config FILE",
            )
        token = CONFIG_FILE.set(ConfigFile(values=dict(stored)))
        try:
            return cls(**options)
        finally:
            CONFIG_FILE.reset(token)

    def to_stored(self) -> StoredSettings:
        """What run.json keeps: everything but secrets."""
        stored = self.model_dump(mode="json", exclude_none=True)
        if not self.accounts:
            del stored["accounts"]  # older versions don't know the section
        return cast(StoredSettings, stored)

    def for_account(self, account: AccountSettings) -> Settings:
        """The settings with which an account carries out its share of the run."""
        own = {"api": account.api_settings_for(self.api), "limits": account.limits_of(self.limits)}
        return self.model_copy(update=own)

    def identity(self) -> RunIdentity:
        """What decides the answers and whose files they are about, besides the file IDs: a run directory holds one of
        these only."""
        parsing = self.job.parsing_configuration
        return {
            "api_version": self.api.version,
            "base_url": self.api.base_url,
            "project_id": self.api.project_id,
            "organization_id": self.api.organization_id,
            "mode": self.job.mode,
            "rules": [rule.model_dump() for rule in self.job.rules],
            "parsing_configuration": None
            if parsing is None
            else cast(StoredParsing, parsing.model_dump(mode="json", exclude_none=True)),
            "escalation": None if self.escalation is None else self.escalation.model_dump(mode="json"),
            "triage": None if self.triage is None else self.triage.model_dump(mode="json"),
            "carry": list(self.plan.carry) or None,
        }
