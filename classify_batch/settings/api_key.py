"""The API key: no setting, so that it can stand in no config, no command line and no run directory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import SecretStr

from classify_batch.errors import SettingsError
from classify_batch.settings.sections import SANDBOX
from classify_batch.settings.settings import Settings

API_KEY = "LLAMA_CLOUD_API_KEY"
API_KEY_FILE = "LLAMA_CLOUD_API_KEY_FILE"
SANDBOX_API_KEY = "sandbox"
_NOT_UTF_8 = "it is not UTF-8"
_KEY = f"export {API_KEY}=llx-…, or put the key into a file and its path into {API_KEY_FILE}"


_ASSIGNMENT = re.compile(r"(?:export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*=\s*[^\s=]")
_QUOTES = ("'", '"', "`")
_NO_KEY_HAS = frozenset("\"'`{}<>$\\")
_BYTE_ORDER_MARK = "\ufeff"


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
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path that no file can have
            reason = error.strerror if isinstance(error, OSError) else _NOT_UTF_8
            raise SettingsError(f"{API_KEY_FILE} names {file}, which can't be read: {reason}", hint=_KEY) from None
    if not key:
        raise SettingsError(f"no API key: neither {API_KEY} nor {API_KEY_FILE} holds one", hint=_hint_for(settings))
    if (odd := find_key_error(key)) is not None:
        raise SettingsError(f"the API key from {came_from} {odd[0]}", hint=f"{_KEY}; {odd[1]}" if odd[1] else _KEY)
    return SecretStr(key)


def _hint_for(settings: Settings) -> str:
    """Where to get a key. Without TLS only this machine is asked, and what serves there is most likely a sandbox."""
    if settings.api.base_url.startswith("http://"):
        own = f"export {API_KEY}={SANDBOX_API_KEY}"
        return (
            f"{own} for `classify-batch sandbox`, unless it was given another by --api-key; for anything else, {_KEY}"
        )
    return _KEY


def find_key_error(key: str) -> tuple[str, str] | None:
    """What a text is in place of a key, and what to do; None where it may be one. The API would only say 401."""
    return next(((words, hint) for is_so, words, hint in _NO_KEYS if is_so(key)), None)


_ALONE = "keep nothing but the key itself"
_NO_KEYS: tuple[tuple[Callable[[str], bool], str, str], ...] = (
    (
        lambda key: key.startswith(_BYTE_ORDER_MARK),
        "begins with a byte-order mark",
        "save the file as UTF-8 without one",
    ),
    (lambda key: _ASSIGNMENT.match(key) is not None, "is an assignment (NAME=…), and no key alone", _ALONE),
    (
        lambda key: key.startswith(_QUOTES) or key.endswith(_QUOTES),
        "stands in quotes",
        "leave them out; files and Docker's --env-file keep them",
    ),
    (lambda key: key.lower().startswith("bearer "), 'begins with "Bearer"', _ALONE),
    (lambda key: len(key.split()) > 1, "has spaces or several lines", _ALONE),
    (
        lambda key: not (key.isascii() and key.isprintable() and _NO_KEY_HAS.isdisjoint(key)),
        "has characters that no key has",
        "",
    ),
)
