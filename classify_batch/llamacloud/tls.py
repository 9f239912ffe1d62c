"""Which certificates are trusted: the context of every TLS connection.

`SSL_CERT_FILE` names a file of authorities, `SSL_CERT_DIR` folders of them; without either, those that come with
certifi. `SSLKEYLOGFILE` is for people who look into their own traffic. A variable that names something else is an error
that a person fixes, reported before anything is sent.
"""

from __future__ import annotations

import os
import ssl
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
        if Path(file).is_dir():  # OpenSSL would call it a file without certificates
            raise _unusable_error(CERTIFICATES_FILE, file, "is a folder", wanted)
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
    try:
        with Path(file).open("ab"):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _unusable_error(KEY_LOG, file, f"can't be written: {reason}", "a file that can be written") from None


def _unusable_error(variable: str, value: str, what: str, wanted: str) -> SettingsError:
    return SettingsError(
        f"{variable} in the environment names {value!r}, which {what}",
        hint=f"let {variable} name {wanted}, or unset it",
    )
