"""What a run may be told: read once, at the edge, and handed inwards as frozen values.

Precedence: options, `CLASSIFY_BATCH_…`, `LLAMA_CLOUD_BASE_URL`, the TOML file, defaults. The API key is no setting:
it comes from `LLAMA_CLOUD_API_KEY` or the file that `LLAMA_CLOUD_API_KEY_FILE` names, so that it can stand in no
config, no command line and no run directory.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as EnvironmentSettingsError

from classify_batch.errors import SettingsError
from classify_batch.records import FILES_PER_JOB_MAX, JobSpec, Rule, Told

ENV_PREFIX = "CLASSIFY_BATCH_"
SANDBOX = "sandbox"
SANDBOX_API_KEY = "sandbox"
_HOME_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class _Section(Told):
    model_config = ConfigDict(allow_inf_nan=False)


class ApiSettings(_Section):
    version: Literal["v1"] = "v1"
    base_url: str = "https://api.cloud.llamaindex.ai"
    """Or "sandbox": an embedded server that lives as long as the run."""
    project_id: str | None = Field(default=None, min_length=1)
    organization_id: str | None = Field(default=None, min_length=1)
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

    @field_validator("rules")
    @classmethod
    def _types_are_unique(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        types = [rule.type for rule in rules]
        doubles = sorted({kind for kind in types if types.count(kind) > 1})
        if doubles:
            raise ValueError(f"rule types must be unique; given more than once: {', '.join(doubles)}")
        return rules

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
    patience_s: float = Field(default=600.0, ge=0, le=86_400)
    drain_s: float = Field(default=300.0, ge=0, le=86_400)
    tolerated_failure_percentage: float = Field(default=0.0, ge=0, le=100)
    stop_at_failure_percentage: float = Field(default=100.0, ge=0, le=100)


class SandboxSettings(_Section):
    documents: Annotated[Path, AfterValidator(Path.absolute)] | None = None


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
            raise _refusal(error, _FILE.get(), values) from None
        except EnvironmentSettingsError as error:
            said = ", ".join(_not_json()) or str(error)
            raise SettingsError(f"the environment holds a setting that can't be read: {said}", hint=_JSON) from None

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
_INLINE = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|[\[\]{}\n]")


def line_of(text: str, where: Sequence[str | int]) -> int | None:
    """The 1-based line on which a value stands, as near as can be told; None where its section isn't in the file."""
    lines: dict[tuple[str | int, ...], int] = {}
    tables: dict[tuple[str, ...], int] = {}
    section: tuple[str | int, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            section = name = tuple(part.strip() for part in header[2].split("."))
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
            return _line_of_inline(text, lines[prefix], index) if isinstance(index, int) else lines[prefix]
    return None


def _line_of_inline(text: str, first_line: int, index: int) -> int:
    """The line of the `index`-th inline table in an array that begins on `first_line`."""
    line, seen, depth = first_line, -1, 0
    for token in _INLINE.finditer("\n".join(text.split("\n")[first_line - 1 :])):
        if token[0] == "\n":
            line += 1
        elif token[0] in ("[", "{"):
            seen += depth == 1 and token[0] == "{"
            depth += 1
            if seen == index:
                return line
        elif token[0] in ("]", "}"):
            depth -= 1
            if depth == 0:
                break
    return first_line


# --- Saying what is wrong --------------------------------------------------------------------------------------------

API_KEY = "LLAMA_CLOUD_API_KEY"
API_KEY_FILE = "LLAMA_CLOUD_API_KEY_FILE"
_VENDOR_URL = "LLAMA_CLOUD_BASE_URL"
_KEY = f"export {API_KEY}=llx-…, or put the key into a file and its path into {API_KEY_FILE}"
_JSON = "a list or a table in the environment is written as JSON"


def _not_json() -> Iterator[str]:
    """The variables that should hold JSON, and don't."""
    for name, value in sorted(os.environ.items()):
        if name.upper().startswith(ENV_PREFIX) and ("__" not in name or value.lstrip()[:1] in ("[", "{")):
            try:
                json.loads(value)
            except ValueError:
                yield name


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


def _refusal(error: ValidationError, file: _File, options: Mapping[str, Any]) -> SettingsError:
    """All faults as one error, each with the place where a person mends it."""
    found = error.errors(include_url=False)
    inside = {fault["loc"][:length] for fault in found for length in range(len(fault["loc"]))}
    found = [fault for fault in found if fault["type"] != "too_short" or fault["loc"] not in inside]
    faults = [_place(fault["loc"], file, options) + _say(fault) for fault in found]
    said = faults[0] if len(faults) == 1 else "\n  ".join([f"{len(faults)} faults in the settings", *faults])
    in_file = file.path is not None and any(fault.startswith(str(file.path)) for fault in faults)
    return SettingsError(said, hint=f"{f'mend {file.path}; ' if in_file else ''}the README lists every setting")


def _place(where: tuple[str | int, ...], file: _File, options: Mapping[str, Any]) -> str:
    """Where a value was given; the places in the order of their precedence."""
    if file.path is not None and _holds(options, where):
        return "given as an option: "
    if (variable := _variable_of(where)) is not None:
        return f"{variable} in the environment: "
    line = line_of(file.text, where)
    return f"{file.path}, line {line}: " if line is not None else f"{file.path}: " if file.path is not None else ""


def _variable_of(where: tuple[str | int, ...]) -> str | None:
    """The environment variable that gave a value, or None."""
    names = {name.upper(): name for name in os.environ}
    for length in range(len(where), 1, -1):
        if name := names.get(ENV_PREFIX + "__".join(map(str, where[:length])).upper()):
            return name
    section = names.get(f"{ENV_PREFIX}{where[0]}".upper())
    if section is not None and _holds({where[0]: json.loads(os.environ[section])}, where[:2]):
        return section
    return _VENDOR_URL if where == ("api", "base_url") and os.environ.get(_VENDOR_URL) else None


def _holds(values: Any, where: Sequence[str | int]) -> bool:
    try:
        for step in where:
            values = values[step]
    except (LookupError, TypeError):
        return False
    return True


_PLAIN_WORDS = {"extra_forbidden": "unknown setting", "missing": "missing", "too_short": "must not be empty"}
_PLAIN_WORDS |= {"tuple_type": "must be a list", "dict_type": "must be a table", "model_type": "must be a table"}


def _say(fault: Any) -> str:
    """The name, the fault, and the value, cut short: never one that may be a secret, as a key under any name may."""
    where, value = fault["loc"], fault["input"]
    words = _PLAIN_WORDS.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ")
    said = f"{'.'.join(map(str, where))}: {words}"
    secret = "webhook_configurations" in where or where[-1:] == ("base_url",) or fault["type"] == "extra_forbidden"
    if secret or isinstance(value, Mapping | list | tuple):
        return said
    text = repr(value)
    return f"{said} (given: {text if len(text) <= 80 else text[:79] + '…'})"
