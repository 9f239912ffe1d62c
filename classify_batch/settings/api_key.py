"""The API key: no setting, so that it can stand in no config, no command line and no run directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from classify_batch.errors import SettingsError
from classify_batch.settings.sections import SANDBOX
from classify_batch.settings.settings import Settings

API_KEY = "LLAMA_CLOUD_API_KEY"
API_KEY_FILE = "LLAMA_CLOUD_API_KEY_FILE"
SANDBOX_API_KEY = "sandbox"
_KEY = f"export {API_KEY}=llx-…, or put the key into a file and its path into {API_KEY_FILE}"


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
