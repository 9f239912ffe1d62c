"""Each setting, its value, and where that came from: what `config show` prints."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from classify_batch.errors import SettingsError
from classify_batch.settings.api_key import API_KEY, API_KEY_FILE, KeyVariables, read_api_key
from classify_batch.settings.config_file import ConfigFile, find_line_of_value, read_toml
from classify_batch.settings.error_places import is_value_set, variable_of
from classify_batch.settings.settings import Settings
from classify_batch.vocabulary import SANDBOX


class SettingOrigin(NamedTuple):
    """A setting as a run would have it.

    Attributes:
        name: `section.name`; of a rule or a webhook, with its number from 0.
        value: as JSON has it; secrets are masked.
        origin: "option", the environment variable, the config with the line, or "default".
    """

    name: str
    value: Any
    origin: str


def list_settings(config: Path, options: Mapping[str, object]) -> list[SettingOrigin]:
    """All settings that a run with this config and these options would have; the key is only named, never shown.

    Args:
        options: by section, as `Settings.load` takes them.

    Raises:
        SettingsError: the same as `Settings.load`.
    """
    settings, file = Settings.load(config, **options), read_toml(config)
    listed = [
        SettingOrigin(".".join(map(str, where)), value, find_origin(where, file, options))
        for where, value in _flatten_settings(settings)
    ]
    return [*_list_keys(settings), *listed]


def _list_keys(settings: Settings) -> Iterator[SettingOrigin]:
    """Whether each key is there."""
    if not settings.accounts:
        yield SettingOrigin("key", describe_key(settings), key_origin(settings))
    for number, account in enumerate(settings.accounts):
        variables = KeyVariables.for_account(account)
        try:
            variables.read_key(os.environ, without="")
            value = "given"
        except SettingsError as error:
            value = str(error)
        origin = next((name for name in variables if os.environ.get(name)), "–")
        yield SettingOrigin(f"accounts.{number}.key", value, origin)


def _flatten_settings(settings: Settings) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    for section in type(settings).model_fields:
        given = getattr(settings, section)
        if given is None:
            yield (section,), None
            continue
        if isinstance(given, tuple):
            for number, each in enumerate(given):
                yield from (((section, number, name), value) for name, value in each.model_dump(mode="json").items())
            continue
        for name, value in given.model_dump(mode="json").items():
            if name in ("rules", "webhook_configurations"):
                yield from (((section, name, number), each) for number, each in enumerate(value))
            elif isinstance(getattr(given, name), BaseModel):
                yield from (((section, name, part), each) for part, each in value.items())
            else:
                yield (section, name), value


def find_origin(where: tuple[str | int, ...], file: ConfigFile, options: Mapping[str, object]) -> str:
    if is_value_set(options, where):
        return "option"
    if (variable := variable_of(where)) is not None:
        return variable
    if not is_value_set(file.values, where):
        return "default"
    line = find_line_of_value(file.text, where)
    return f"{file.path}, line {line}" if line is not None else str(file.path)


def describe_key(settings: Settings) -> str:
    try:
        read_api_key(settings)
    except SettingsError as error:
        return str(error)
    return "the sandbox's own" if settings.api.base_url == SANDBOX else "given"


def key_origin(settings: Settings) -> str:
    if settings.api.base_url == SANDBOX:
        return "default"
    return next((name for name in (API_KEY, API_KEY_FILE) if os.environ.get(name)), "–")


def format_settings(listed: list[SettingOrigin]) -> Iterator[str]:
    """A line each: name, value, origin."""
    texts = [(each.name, format_value(each.value), each.origin) for each in listed]
    widths = [max(len(text[column]) for text in texts) for column in (0, 1)]
    for name, value, origin in texts:
        yield f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}".rstrip()


VALUE_CHARACTERS_MAX = 40


def format_value(value: Any) -> str:
    text = "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[: VALUE_CHARACTERS_MAX - 1] + "…"
