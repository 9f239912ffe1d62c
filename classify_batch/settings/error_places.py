"""Saying what is wrong with settings, and where a person mends it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from classify_batch.capabilities import CAPABILITIES
from classify_batch.errors import SettingsError
from classify_batch.settings.config_file import ConfigFile, find_line_of_value
from classify_batch.settings.environment import ENV_PREFIX, KEY_PLACE, VENDOR_URL, given_variables, looks_like_key
from classify_batch.spelling import suggest


def make_settings_error(
    error: ValidationError, file: ConfigFile, options: Mapping[str, object], model: type[BaseModel]
) -> SettingsError:
    """All faults as one error, each with the place where a person mends it. `model`: what was to be made."""
    found = error.errors(include_url=False)
    inside = {fault["loc"][:length] for fault in found for length in range(len(fault["loc"]))}
    found = [fault for fault in found if fault["type"] != "too_short" or fault["loc"] not in inside]
    faults = [describe_place(fault["loc"], file, options) + describe_error(fault, model) for fault in found]
    said = faults[0] if len(faults) == 1 else "\n  ".join([f"{len(faults)} faults in the settings", *faults])
    in_file = file.path is not None and any(fault.startswith(str(file.path)) for fault in faults)
    where = f"mend {file.path}; " if in_file else ""
    unknown = (str(fault["loc"][-1]) for fault in found if fault["type"] == "extra_forbidden")
    key = f"{KEY_PLACE}; " if any(map(looks_like_key, unknown)) else ""
    return SettingsError(said, hint=f"{where}{key}`classify-batch manual settings` lists every setting")


def describe_place(where: tuple[str | int, ...], file: ConfigFile, options: Mapping[str, object]) -> str:
    """Where a value was given; the places in the order of their precedence."""
    if file.path is not None and is_value_set(options, where):
        return "given as an option: "
    if (variable := variable_of(where) or variable_inside(where, file.values)) is not None:
        return f"{variable} in the environment: "
    line = find_line_of_value(file.text, where)
    return f"{file.path}, line {line}: " if line is not None else f"{file.path}: " if file.path is not None else ""


def variable_of(where: tuple[str | int, ...]) -> str | None:
    """The environment variable that gave a value, or None."""
    names = {name.upper(): name for name, _ in given_variables()}
    for length in range(len(where), 1, -1):
        if name := names.get(ENV_PREFIX + "__".join(map(str, where[:length])).upper()):
            return name
    section = names.get(f"{ENV_PREFIX}{where[0]}".upper())
    if section is not None and is_value_set({where[0]: json.loads(os.environ[section])}, where[:2]):
        return section
    return VENDOR_URL if where == ("api", "base_url") and os.environ.get(VENDOR_URL) else None


def variable_inside(where: Sequence[str | int], values: Mapping[str, Any]) -> str | None:
    """The first variable that gives a part of a value, where the file has no table that it could be a part of: then
    the whole value comes from the environment. None: there is none."""
    found: Any = values
    for step in where:
        found = found[step] if is_value_set(found, [step]) else None
    begins = ENV_PREFIX + "".join(f"{step}__" for step in where)
    names = (name for name, _ in given_variables() if name.upper().startswith(begins.upper()))
    return None if isinstance(found, Mapping) else next(names, None)


def is_value_set(values: Any, where: Sequence[str | int]) -> bool:
    """Whether nested tables and lists hold a value at that place."""
    try:
        for step in where:
            values = values[step]
    except (LookupError, TypeError):
        return False
    return True


_PATTERNS_IN_WORDS = {
    "type": "must have letters, digits, spaces, - and _ only",
    "name": "must be 1 to 32 lower-case letters, digits, - and _, and begin with a letter or a digit",
    "api_key_env": "must be the name of a variable: letters, digits and _, with no digit first",
}
"""By the name of the setting that has the pattern."""

_PLAIN_WORDS = {"extra_forbidden": "unknown setting", "missing": "missing", "too_short": "must not be empty"}
_PLAIN_WORDS |= {"tuple_type": "must be a list", "dict_type": "must be a table", "model_type": "must be a table"}


def describe_error(fault: Any, model: type[BaseModel]) -> str:
    """The name, the fault, and the value, cut short: never one that may be a secret, as a key under any name may."""
    where, value = fault["loc"], fault["input"]
    said = f"{'.'.join(map(str, where))}: {words_of_fault(fault)}"
    if fault["type"] == "extra_forbidden":
        said += suggest(str(where[-1]), names_beside(model, where))
    may_be_one = where[-1:] in (("base_url",), ("api_key_env",))  # where a key was put in the place of a name
    secret = "webhook_configurations" in where or may_be_one or fault["type"] == "extra_forbidden"
    if secret or isinstance(value, Mapping | list | tuple):
        return said
    text = repr(value)
    return f"{said} (given: {text if len(text) <= 80 else text[:79] + '…'})"


def words_of_fault(fault: Any) -> str:
    """What is wrong with a value."""
    if fault["type"] == "string_too_long" and fault["loc"][-1] == "description":
        return explain_long_description(fault["input"])
    words = _PLAIN_WORDS.get(fault["type"])
    if fault["type"] == "string_pattern_mismatch":
        words = _PATTERNS_IN_WORDS.get(fault["loc"][-1])
    return words or str(fault["msg"]).removeprefix("Value error, ")


def explain_long_description(description: str) -> str:
    """Why a rule's description is too long, whatever version of the API is meant."""
    allowed = ", ".join(f"{each.description_max:,} on {version}" for version, each in CAPABILITIES.items())
    return f"{len(description):,} characters, and the API allows {allowed}"


def names_beside(model: type[BaseModel], where: Sequence[str | int]) -> Iterable[str]:
    """The names that the section of a value has."""
    for step in where[:-1]:
        if isinstance(step, str):
            field = model.model_fields.get(step)
            inner = next(models_in(field.annotation), None) if field is not None else None
            if inner is None:
                return ()
            model = inner
    return model.model_fields


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)
