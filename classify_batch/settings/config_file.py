"""The TOML file, and where in it things stand."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from classify_batch.errors import SettingsError


class ConfigFile(NamedTuple):
    """A config file: its values, and its text for naming lines."""

    path: Path | None = None
    values: Mapping[str, Any] = MappingProxyType({})
    text: str = ""


CONFIG_FILE: ContextVar[ConfigFile] = ContextVar("config_file", default=ConfigFile())  # noqa: B039 - never changed


def read_toml(path: Path) -> ConfigFile:
    hint = "give the path of a TOML file; `classify-batch manual sandbox.toml` prints one to begin with"
    try:
        text = path.read_text("utf-8-sig")
        return ConfigFile(path, tomllib.loads(text), text)
    except OSError as error:
        raise SettingsError(f"config {path} can't be read: {error.strerror}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"config {path} is not UTF-8 (byte {error.start})", hint=hint) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"config {path} is not TOML: {error}", hint=hint) from None
    except (ValueError, RecursionError):  # of int(), and of lists in lists
        what = "a number that is too long, or lists that are nested too deeply"
        raise SettingsError(f"config {path} can't be read: it holds {what}", hint=hint) from None


_HEADER = re.compile(r"^\s*\[(\[?)\s*([A-Za-z0-9_.\s-]+?)\s*\]?\]\s*(?:#.*)?$")
_KEY_LINE = re.compile(r"^\s*([A-Za-z0-9_.-]+|\"[^\"]*\")\s*=")
_INLINE = re.compile(r"#[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|[\[\]{}\n]")


def find_line_of_value(text: str, where: Sequence[str | int]) -> int | None:
    """The 1-based line on which a value stands, as near as can be found out; None where its section isn't in the
    file."""
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
            return line_of_inline(text, lines[prefix], index) if isinstance(index, int) else lines[prefix]
    return None


def line_of_inline(text: str, first_line: int, index: int) -> int:
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
