"""Which certificates are trusted: the context of every TLS connection.

`SSL_CERT_FILE` names a file of authorities, `SSL_CERT_DIR` folders of them; without either, those that come with
certifi. `SSLKEYLOGFILE` is for people who look into their own traffic. A variable that names something else is an error
that a person fixes, reported before anything is sent.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Mapping
from pathlib import Path

import certifi

from classify_batch.errors import SettingsError

CERTIFICATES_FILE = "SSL_CERT_FILE"
CERTIFICATES_FOLDER = "SSL_CERT_DIR"
KEY_LOG = "SSLKEYLOGFILE"


def make_ssl_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """The context for servers, with the authorities that the environment names. Takes 25 ms.

    Raises:
        SettingsError: one of the variables names nothing that can be used.
    """
    _refuse_unusable_key_log(environ)
    if file := environ.get(CERTIFICATES_FILE):
        return _trust_file(file)
    if folders := environ.get(CERTIFICATES_FOLDER):
        # Path.is_dir raises for a name that is too long.
        if not any(os.path.isdir(folder) for folder in folders.split(os.pathsep)):  # noqa: PTH112
            raise _unusable_error(CERTIFICATES_FOLDER, folders, "is no folder", "a folder of certificates")
        return ssl.create_default_context(capath=folders)
    return ssl.create_default_context(cafile=certifi.where())


def _trust_file(file: str) -> ssl.SSLContext:
    wanted = "a file of certificates in PEM"
    try:
        # OpenSSL calls a folder a file without certificates, and waits for whoever writes to a pipe: no signal ends it.
        if (kind := _find_other_kind(file)) is not None:
            raise _unusable_error(CERTIFICATES_FILE, file, f"is {kind}", wanted)
        return ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        raise _unusable_error(CERTIFICATES_FILE, file, "holds no certificates", wanted) from None
    except OSError as error:
        raise _unusable_error(CERTIFICATES_FILE, file, f"can't be read: {error.strerror}", wanted) from None
    except ValueError as error:  # a path that no file can have
        raise _unusable_error(CERTIFICATES_FILE, file, f"can't be read: {error}", wanted) from None


def _refuse_unusable_key_log(environ: Mapping[str, str]) -> None:
    """The ssl module opens the file with each context, and its error names no variable."""
    file = environ.get(KEY_LOG)
    if not file:
        return
    wanted = "a file that can be written"
    try:
        if (kind := _find_other_kind(file)) is not None and not _is_null_device(file):
            raise _unusable_error(KEY_LOG, file, f"is {kind}", wanted)
        with Path(file).open("ab"):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _unusable_error(KEY_LOG, file, f"can't be written: {reason}", wanted) from None


def _find_other_kind(path: str) -> str | None:
    """What a path leads to, if it is there and no plain file: whoever opens a pipe waits for its other end. Raises
    OSError and ValueError for what can't be looked at."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return None  # whoever opens it says so
    if stat.S_ISREG(mode):
        return None
    return "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "no plain file"


def _is_null_device(path: str) -> bool:
    """Whether what is written there goes nowhere: it waits for nobody."""
    return os.path.realpath(path) == os.devnull


def _unusable_error(variable: str, value: str, what: str, wanted: str) -> SettingsError:
    return SettingsError(
        f"{variable} in the environment names {value!r}, which {what}",
        hint=f"let {variable} name {wanted}, or unset it",
    )
