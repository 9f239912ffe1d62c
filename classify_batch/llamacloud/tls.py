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
from classify_batch.settings.tls_files import (
    CERTIFICATES_FILE,
    CERTIFICATES_FOLDER,
    KEY_LOG,
    refuse_no_plain_file,
    unusable_error,
)


def make_ssl_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """The context for servers, with the authorities that the environment names. Takes 25 ms.

    Raises:
        SettingsError: one of the variables names nothing that can be used; or OpenSSL itself can't be.
    """
    make_plain_context()  # first: what OpenSSL can't do is not to be blamed on a file of certificates
    _refuse_unusable_key_log(environ)
    if file := environ.get(CERTIFICATES_FILE):
        return _trust_file(file)
    if folders := environ.get(CERTIFICATES_FOLDER):
        # Path.is_dir raises for a name that is too long.
        if not any(os.path.isdir(folder) for folder in folders.split(os.pathsep)):  # noqa: PTH112
            raise unusable_error(CERTIFICATES_FOLDER, folders, "is no folder")
        return ssl.create_default_context(capath=folders)
    return ssl.create_default_context(cafile=certifi.where())


def make_plain_context() -> ssl.SSLContext:
    """A context that trusts nobody, for connections without TLS. Raises SettingsError: OpenSSL can't be used."""
    try:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    except ssl.SSLError as error:  # its configuration may want a module of algorithms (FIPS) that isn't there
        raise SettingsError(
            f"OpenSSL can't be used: {error}",
            hint="mend OpenSSL's configuration (OPENSSL_CONF may name it): `openssl list -providers` tells more",
        ) from None


def _trust_file(file: str) -> ssl.SSLContext:
    try:
        refuse_no_plain_file(CERTIFICATES_FILE, file)  # OpenSSL calls a folder a file without certificates
        return ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        raise unusable_error(CERTIFICATES_FILE, file, "holds no certificates") from None
    except OSError as error:
        raise unusable_error(CERTIFICATES_FILE, file, f"can't be read: {error.strerror}") from None
    except ValueError as error:  # a path that no file can have
        raise unusable_error(CERTIFICATES_FILE, file, f"can't be read: {error}") from None


def _refuse_unusable_key_log(environ: Mapping[str, str]) -> None:
    """The ssl module opens the file with each context, and its error names no variable."""
    file = environ.get(KEY_LOG)
    if not file:
        return
    try:
        if os.path.realpath(file) != os.devnull:  # what is written there waits for nobody
            refuse_no_plain_file(KEY_LOG, file)
        with Path(file).open("ab"):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise unusable_error(KEY_LOG, file, f"can't be written: {reason}") from None
