"""What a run may be told: read once, at the edge, and handed inwards as frozen values.

Precedence: options, `CLASSIFY_BATCH_…`, `LLAMA_CLOUD_BASE_URL`, the TOML file, defaults. The API key is no setting:
it comes from `LLAMA_CLOUD_API_KEY` or the file that `LLAMA_CLOUD_API_KEY_FILE` names, so that it can stand in no
config, no command line and no run directory.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as EnvironmentSettingsError

from classify_batch.errors import SettingsError
from classify_batch.records import FILES_PER_JOB_MAX, JobSpec

ENV_PREFIX = "CLASSIFY_BATCH_"
SANDBOX = "sandbox"
SANDBOX_API_KEY = "sandbox"
_HOME_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ApiSettings(_Section):
    version: Literal["v1"] = "v1"
    base_url: str = "https://api.cloud.llamaindex.ai"
    """Or "sandbox": an embedded server that lives as long as the run."""
    project_id: str | None = None
    organization_id: str | None = None
    timeout_s: float = Field(default=60.0, gt=0, le=3600)

    @field_validator("base_url")
    @classmethod
    def _https_or_home(cls, value: str) -> str:
        value = value.strip().rstrip("/")
        if value == SANDBOX:
            return value
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError as error:
            raise ValueError(f"not a URL: {error}") from None
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError('neither "sandbox" nor a URL like "https://api.cloud.llamaindex.ai"')
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("a base URL has no user, query or fragment")
        if parts.scheme == "http" and parts.hostname not in _HOME_HOSTS:
            raise ValueError("http:// would send the API key in the clear to another machine; use https://")
        return value


class JobSettings(JobSpec):
    """The body of every create call."""

    @model_validator(mode="after")
    def _types_are_unique(self) -> Self:
        types = [rule.type for rule in self.rules]
        doubles = sorted({kind for kind in types if types.count(kind) > 1})
        if doubles:
            raise ValueError(f"rule types must be unique; given more than once: {', '.join(doubles)}")
        return self

    @field_validator("webhook_configurations")
    @classmethod
    def _webhooks_are_https(cls, webhooks: Any) -> Any:
        for webhook in webhooks:
            if not webhook.webhook_url.startswith("https://"):
                raise ValueError("webhook_url must begin with https://")
        return webhooks


class PlanSettings(_Section):
    files_per_job: int = Field(default=100, ge=1, le=FILES_PER_JOB_MAX)


class LimitSettings(_Section):
    """How much at once, how fast, how long. May change between resumes."""

    jobs_in_flight: int = Field(default=20, ge=1, le=100_000)
    requests_in_flight: int = Field(default=16, ge=1, le=10_000)
    requests_per_s: float = Field(default=20.0, gt=0, le=100_000)
    attempts: int = Field(default=3, ge=1, le=100)
    job_timeout_s: float = Field(default=7200.0, gt=0, le=30 * 86_400)
    settle_s: float = Field(default=20.0, ge=0, le=3600)
    tolerated_failure_percentage: float = Field(default=0.0, ge=0, le=100)
    stop_at_failure_percentage: float = Field(default=100.0, ge=0, le=100)


class SandboxSettings(_Section):
    documents: Path | None = None


class Settings(BaseSettings):
    """Everything a run is told. Build it with `Settings.load(path)`, or by keyword: `Settings(job={"rules": […]})`.

    Raises:
        SettingsError: names every fault at once.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    api: ApiSettings = ApiSettings()
    job: JobSettings
    plan: PlanSettings = PlanSettings()
    limits: LimitSettings = LimitSettings()
    sandbox: SandboxSettings = SandboxSettings()

    def __init__(self, **values: Any) -> None:
        _refuse_unknown_variables(type(self))
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_say_faults(error, _FILE.get()), hint=_hint(_FILE.get())) from None
        except EnvironmentSettingsError as error:
            raise SettingsError(f"the environment holds a setting that can't be read: {error}", hint=_JSON) from None

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Reads a TOML file; `options` (nested mappings by section) win over everything else.

        Raises:
            SettingsError: the file can't be read, or something in it (or in the environment) is wrong; names all
                faults, with their lines where they can be had.
        """
        token = _FILE.set(_read_toml(Path(path)))
        try:
            return cls(**options)
        finally:
            _FILE.reset(token)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - a .env file would be a second place for secrets
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        vendor_url = os.environ.get(_VENDOR_URL)
        vendor = InitSettingsSource(settings_cls, {"api": {"base_url": vendor_url}} if vendor_url else {})
        return init_settings, env_settings, vendor, InitSettingsSource(settings_cls, dict(_FILE.get().values))

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any], **options: Any) -> Self:
        """The settings in a run.json; the environment and `options` win over them.

        Raises:
            SettingsError: the run has webhook headers, which are stored nowhere.
        """
        webhooks = stored.get("job", {}).get("webhook_configurations", ())
        if any(webhook.get("webhook_headers") for webhook in webhooks):
            raise SettingsError(
                "the run has webhook headers, and secrets are not stored in a run directory",
                hint="name the config that the run was begun with: --config FILE",
            )
        token = _FILE.set(_File(values=stored))
        try:
            return cls(**options)
        finally:
            _FILE.reset(token)

    def to_stored(self) -> dict[str, Any]:
        """What run.json keeps: everything but secrets."""
        return self.model_dump(mode="json", exclude_none=True)

    def identity(self) -> dict[str, Any]:
        """What decides the answers, besides the file IDs: a run directory holds one of these only."""
        parsing = self.job.parsing_configuration
        return {
            "api_version": self.api.version,
            "base_url": self.api.base_url,
            "project_id": self.api.project_id,
            "mode": self.job.mode,
            "rules": [rule.model_dump() for rule in self.job.rules],
            "parsing_configuration": None if parsing is None else parsing.model_dump(mode="json", exclude_none=True),
        }


def read_api_key(settings: Settings, environ: Mapping[str, str] = os.environ) -> SecretStr:
    """The API key from `LLAMA_CLOUD_API_KEY`, or from the file that `LLAMA_CLOUD_API_KEY_FILE` names.

    Raises:
        SettingsError: there is none, or it can't stand in a header. The key itself is never part of the message.
    """
    if settings.api.base_url == SANDBOX:
        return SecretStr(SANDBOX_API_KEY)
    key, came_from = environ.get(API_KEY, "").strip(), API_KEY
    if not key and (file := environ.get(API_KEY_FILE)):
        came_from = f"the file {file}"
        try:
            key = Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise SettingsError(f"{API_KEY_FILE} names {file}, which can't be read: {reason}", hint=_KEY) from None
    if not key:
        raise SettingsError(f"no API key: neither {API_KEY} nor {API_KEY_FILE} holds one", hint=_KEY)
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise SettingsError(f"the API key from {came_from} has characters that no key has", hint=_KEY)
    return SecretStr(key)


# --- The TOML file, and where in it things stand ---------------------------------------------------------------------


class _File(NamedTuple):
    """A config file: its values, and its text for naming lines."""

    path: Path | None = None
    values: Mapping[str, Any] = MappingProxyType({})
    text: str = ""


_FILE: ContextVar[_File] = ContextVar("config_file", default=_File())  # noqa: B039 - never changed


def _read_toml(path: Path) -> _File:
    hint = "give the path of a TOML file; configs/ has examples"
    try:
        text = path.read_text("utf-8-sig")
        return _File(path, tomllib.loads(text), text)
    except OSError as error:
        raise SettingsError(f"config {path} can't be read: {error.strerror}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"config {path} is not UTF-8 (byte {error.start})", hint=hint) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"config {path} is not TOML: {error}", hint=hint) from None


_HEADER = re.compile(r"^\s*\[(\[?)\s*([A-Za-z0-9_.\s-]+?)\s*\]?\]\s*(?:#.*)?$")
_KEY_LINE = re.compile(r"^\s*([A-Za-z0-9_.-]+|\"[^\"]*\")\s*=")
_INLINE = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|[{}\n]")


def line_of(text: str, where: Sequence[str | int]) -> int | None:
    """The 1-based line on which a value stands, as near as can be told; None where its section isn't in the file."""
    lines: dict[tuple[str | int, ...], int] = {}
    tables: dict[tuple[str, ...], int] = {}
    section: tuple[str | int, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            name = tuple(part.strip() for part in header[2].split("."))
            section = name
            if header[1]:
                tables[name] = tables.get(name, -1) + 1
                section = (*name, tables[name])
            lines.setdefault(section, number)
        elif key := _KEY_LINE.match(line):
            lines.setdefault((*section, *key[1].strip('"').split(".")), number)
    for length in range(len(where), 0, -1):
        prefix = tuple(where[:length])
        if prefix in lines:
            index = where[length] if length < len(where) else None
            return _line_of_inline(text, lines[prefix], index if isinstance(index, int) else 0)
    return None


def _line_of_inline(text: str, first_line: int, index: int) -> int:
    """The line of the `index`-th inline table of a value that begins on `first_line`."""
    if index == 0:
        return first_line
    line, seen, depth = first_line, -1, 0
    for token in _INLINE.finditer("\n".join(text.splitlines()[first_line - 1 :])):
        if token[0] == "\n":
            line += 1
        elif token[0] == "{":
            seen, depth = seen + (depth == 0), depth + 1
            if seen == index:
                return line
        elif token[0] == "}":
            depth -= 1
    return first_line


# --- Saying what is wrong --------------------------------------------------------------------------------------------

API_KEY = "LLAMA_CLOUD_API_KEY"
API_KEY_FILE = "LLAMA_CLOUD_API_KEY_FILE"
_VENDOR_URL = "LLAMA_CLOUD_BASE_URL"
_KEY = f"export {API_KEY}=llx-…, or put the key into a file and its path into {API_KEY_FILE}"
_JSON = "a list or a table in the environment is written as JSON"


def _hint(file: _File) -> str:
    return f"mend {file.path} (the README lists every setting)" if file.path else "the README lists every setting"


def _refuse_unknown_variables(settings_cls: type[BaseSettings]) -> None:
    sections = {name.upper() for name in settings_cls.model_fields}
    unknown = [
        name
        for name in sorted(os.environ)
        if name.upper().startswith(ENV_PREFIX) and name.upper()[len(ENV_PREFIX) :].split("__")[0] not in sections
    ]
    if unknown:
        raise SettingsError(
            f"unknown setting in the environment: {', '.join(unknown)}",
            hint=f"settings are named {ENV_PREFIX}SECTION__NAME, with SECTION one of {', '.join(sorted(sections))}",
        )


def _say_faults(error: ValidationError, file: _File) -> str:
    faults = [_say_fault(fault, file) for fault in error.errors(include_url=False)]
    where = f"{file.path}: " if file.path else ""
    if len(faults) == 1:
        return where + faults[0]
    return f"{where}{len(faults)} faults in the settings\n" + "\n".join(f"  {fault}" for fault in faults)


def _say_fault(fault: Any, file: _File) -> str:
    where: tuple[str | int, ...] = fault["loc"]
    name = ".".join(str(part) for part in where)
    variable = ENV_PREFIX + "__".join(str(part) for part in where).upper()
    place = ""
    if any(set_name.upper() == variable for set_name in os.environ):
        place = f"{variable} in the environment: "
    elif file.text and (line := line_of(file.text, where)) is not None:
        place = f"line {line}: "
    return f"{place}{name}: {_words(fault)}{_value(where, fault)}"


def _words(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "unknown setting"
    if fault["type"] == "missing":
        return "is missing"
    return str(fault["msg"]).removeprefix("Value error, ")


def _value(where: Sequence[str | int], fault: Any) -> str:
    """The offending value, cut short; never one that may hold a secret."""
    value = fault["input"]
    if isinstance(value, Mapping | list | tuple) or "webhook_configurations" in where or where[-1:] == ("base_url",):
        return ""
    text = repr(value)
    return f" (given: {text if len(text) <= 80 else text[:79] + '…'})"
