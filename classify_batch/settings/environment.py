"""Which variables of the environment are settings.

An empty variable is an unset one: that is how schedulers and Compose files spell "nothing". Variables that Kubernetes
makes for a service whose name begins with `classify-batch` ("service links") are not ours, whatever they say. Any other
`CLASSIFY_BATCH_…` that names no setting is an error, since it is usually a slip.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings import SettingsError as EnvironmentSettingsError

from classify_batch.errors import SettingsError

ENV_PREFIX = "CLASSIFY_BATCH_"
VENDOR_URL = "LLAMA_CLOUD_BASE_URL"

KEY_PLACE = (
    "the API key is no setting: it comes from LLAMA_CLOUD_API_KEY, or the file that LLAMA_CLOUD_API_KEY_FILE names"
)
_KEY = re.compile("key|token", re.IGNORECASE)

_SERVICE_LINK = re.compile(
    r"""CLASSIFY_BATCH(?:_(?!_)\w+)??_(?:
        SERVICE_HOST
        | SERVICE_PORT(?:_\w+)?
        | PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?
        | PORT(?==(?:tcp|udp|sctp)://)  # any other value may be meant as a setting
    )=""",
    re.VERBOSE | re.ASCII,
)


def given_variables(environ: Mapping[str, str] = os.environ) -> Iterator[tuple[str, str]]:
    """The variables that are meant as settings, by name: those that begin with `CLASSIFY_BATCH_` and aren't empty."""
    for name, value in sorted(environ.items()):
        if value and name.upper().startswith(ENV_PREFIX) and not is_service_link(name, value):
            yield name, value


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes made a variable. No setting has such a name: sections are followed by two underscores."""
    return "__" not in name and _SERVICE_LINK.match(f"{name}={value}") is not None


def looks_like_key(name: str) -> bool:
    """Whether an unknown setting is called as if the API key were meant."""
    return _KEY.search(name) is not None


def unreadable_variables(settings_cls: type[BaseSettings]) -> Iterator[str]:
    """The variables that should hold JSON, and don't, or are nested too deeply."""
    source = EnvSettingsSource(settings_cls)
    for name, value in given_variables():
        source.env_vars = {name.lower(): value}  # alone: the source's own error names no variable
        try:
            source()
        except (EnvironmentSettingsError, RecursionError):
            yield name


def refuse_unknown_variables(settings_cls: type[BaseSettings]) -> None:
    """Raises SettingsError naming every variable that names no section of the settings."""
    sections = {name.upper() for name in settings_cls.model_fields}
    unknown = [name for name, _ in given_variables() if name.upper()[len(ENV_PREFIX) :].split("__")[0] not in sections]
    if unknown:
        key = f"{KEY_PLACE}; " if any(map(looks_like_key, unknown)) else ""
        raise SettingsError(
            f"unknown setting in the environment: {', '.join(unknown)}",
            hint=f"{key}settings are named {ENV_PREFIX}SECTION__NAME, with SECTION one of "
            f"{', '.join(sorted(sections))}",
        )
