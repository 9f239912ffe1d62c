"""The API key: no setting, so that it can stand in no config, no command line and no run directory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from classify_batch.errors import SettingsError
from classify_batch.settings.accounts import AccountSettings
from classify_batch.settings.settings import Settings
from classify_batch.vocabulary import SANDBOX

API_KEY = "LLAMA_CLOUD_API_KEY"
API_KEY_FILE = "LLAMA_CLOUD_API_KEY_FILE"
SANDBOX_API_KEY = "sandbox"
_NOT_UTF_8 = "it is not UTF-8"

_ASSIGNMENT = re.compile(r"(?:export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*=\s*[^\s=]")
_QUOTES = ("'", '"', "`")
_NO_KEY_HAS = frozenset("\"'`{}<>$\\")
_BYTE_ORDER_MARK = "\ufeff"


class KeyVariables(NamedTuple):
    """The variable that holds a key, and the one that names a file that does."""

    key: str = API_KEY
    file: str = API_KEY_FILE

    @classmethod
    def for_account(cls, account: AccountSettings) -> KeyVariables:
        """Those of an account."""
        return cls(account.api_key_env, f"{account.api_key_env}_FILE")

    @property
    def key_hint(self) -> str:
        """How to give the key."""
        return f"export {self.key}=llx-…, or put the key into a file and its path into {self.file}"

    def read_key(self, environ: Mapping[str, str], *, without: str) -> str:
        """The key; `without`: the hint where there is none. Raises SettingsError."""
        key, came_from = environ.get(self.key, "").strip(), self.key
        if not key and (file := environ.get(self.file)):
            came_from = f"the file {file}"
            try:
                key = Path(file).read_text("utf-8").strip()
            except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path that no file can have
                reason = error.strerror if isinstance(error, OSError) else _NOT_UTF_8
                words = f"{self.file} names {file}, which can't be read: {reason}"
                raise SettingsError(words, hint=self.key_hint) from None
        if not key:
            raise SettingsError(f"no API key: neither {self.key} nor {self.file} holds one", hint=without)
        if (odd := find_key_error(key)) is not None:
            raise SettingsError(f"the API key from {came_from} {odd[0]}", hint=f"{odd[1]}: {self.key_hint}")
        return key


def read_api_key(settings: Settings, environ: Mapping[str, str] = os.environ) -> SecretStr:
    """The API key from `LLAMA_CLOUD_API_KEY`, or from the file that `LLAMA_CLOUD_API_KEY_FILE` names.

    Raises:
        SettingsError: there is none, or it can't stand in a header. The key itself is never part of the message.
    """
    if settings.api.base_url == SANDBOX:
        return SecretStr(SANDBOX_API_KEY)
    return SecretStr(KeyVariables().read_key(environ, without=_key_hint_for(settings)))


@dataclass(frozen=True, slots=True)
class Account:
    """An account whose key is there.

    Attributes:
        settings: the run's, with what the account has of its own.
        max_credits: what its shards may spend together; None: any number.
    """

    name: str
    settings: Settings
    key: SecretStr
    max_credits: float | None = None


def read_accounts(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Account]:
    """The accounts of a config with their keys; none where it has none.

    Raises:
        SettingsError: names every account whose key isn't there, or all that have the same one.
    """
    accounts, errors = list[Account](), list[SettingsError]()
    holders: dict[str, str] = {}
    for each in settings.accounts:
        variables = KeyVariables.for_account(each)
        try:
            key = variables.read_key(environ, without=variables.key_hint)
        except SettingsError as error:
            errors.append(SettingsError(f"account {each.name}: {error}", hint=error.hint))
            continue
        if (holder := holders.setdefault(key, each.name)) != each.name:
            words = f"accounts {holder} and {each.name} have the same key"
            hint = "give each account a key of its own: two with one key would share its rate"
            errors.append(SettingsError(words, hint=hint))
        accounts.append(Account(each.name, settings.for_account(each), SecretStr(key), each.max_credits))
    if errors:
        faults = [str(error) for error in errors]
        said = faults[0] if len(faults) == 1 else "\n  ".join([f"{len(faults)} faults in the accounts' keys", *faults])
        raise SettingsError(said, hint=errors[0].hint)
    return accounts


def key_files(accounts: Iterable[AccountSettings] = (), environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The files that variables name as holding a key: that of a run, and those of its accounts."""
    variables = (KeyVariables(), *map(KeyVariables.for_account, accounts))
    return [Path(file) for each in variables if (file := environ.get(each.file))]


def require_keys(settings: Settings) -> None:
    """Raises SettingsError where a key isn't there that a run with these settings needs."""
    if settings.accounts:
        read_accounts(settings)
    else:
        read_api_key(settings)


def _key_hint_for(settings: Settings) -> str:
    """Where to get a key. Without TLS only this machine is asked, and what serves there is most likely a sandbox."""
    if settings.api.base_url.startswith("http://"):
        own = f"export {API_KEY}={SANDBOX_API_KEY}"
        return (
            f"{own} for `classify-batch sandbox`, unless it was given another by --api-key; for anything else, "
            f"{KeyVariables().key_hint}"
        )
    return KeyVariables().key_hint


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
        "leave the quotes out; files and Docker's --env-file keep them",
    ),
    (lambda key: key.lower().startswith("bearer "), 'begins with "Bearer"', _ALONE),
    (lambda key: len(key.split()) > 1, "has spaces or several lines", _ALONE),
    (
        lambda key: not (key.isascii() and key.isprintable() and _NO_KEY_HAS.isdisjoint(key)),
        "has characters that no key has",
        "put your own key there, whole, in the place of an example's",
    ),
)
