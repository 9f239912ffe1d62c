"""Which files the environment names for TLS, and that they are files: whoever opens a pipe waits for its other end, and
no signal ends that where a library does it."""

from __future__ import annotations

import stat
from pathlib import Path

from classify_batch.errors import SettingsError

CERTIFICATES_FILE = "SSL_CERT_FILE"
CERTIFICATES_FOLDER = "SSL_CERT_DIR"
KEY_LOG = "SSLKEYLOGFILE"

WANTED = {
    CERTIFICATES_FILE: "a file of certificates in PEM",
    CERTIFICATES_FOLDER: "a folder of certificates",
    KEY_LOG: "a file that can be written",
}
"""What each variable should name."""


def refuse_no_plain_file(variable: str, path: str) -> None:
    """Raises SettingsError where a path leads to something else than a plain file; one that leads nowhere is left to
    whoever opens it. Raises OSError and ValueError for what can't be looked at."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "no plain file"
        raise unusable_error(variable, path, f"is {kind}")


def unusable_error(variable: str, value: str, what: str) -> SettingsError:
    """The error for a variable that names something else than it should."""
    return SettingsError(
        f"{variable} in the environment names {value!r}, which {what}",
        hint=f"let {variable} name {WANTED[variable]}, or unset it",
    )
