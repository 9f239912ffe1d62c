"""Opens the store of an object by its settings in the environment; obstore's own retries, with bounds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from classify_batch.errors import missing_extra
from classify_batch.object_store.aws_settings import AwsSettings, find_aws_settings
from classify_batch.object_store.failures import explain_error
from classify_batch.object_store.url import S3, ObjectUrl

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

RETRIES: RetryConfig = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=5), "base": 2},
}
"""Of one request. A request may take 30 s, to connect 5, as obstore has it."""


def connect_to_bucket(url: ObjectUrl, *, reading: bool) -> ObjectStore:
    """The store of an object. Nothing is asked of it yet.

    Raises:
        UsageError: the extra isn't installed, or the store isn't set up well.
        SettingsError: SSL_CERT_FILE names a pipe, a folder or a device.
        ObjectAccessError: there are no credentials.
    """
    try:
        from obstore.store import from_url  # noqa: PLC0415 - an extra
    except ImportError:
        raise missing_extra(f"{url.scheme}:// needs obstore", "s3") from None
    _refuse_no_certificates_file(os.environ)
    settings = find_aws_settings(url, os.environ) if url.scheme == S3 else AwsSettings({})
    with explaining(url, reading=reading):
        store: Any = from_url  # its overloads are by the kind of store, which the URL decides
        opened: ObjectStore = store(
            url.bucket_url,
            config=settings.config,
            retry_config=RETRIES,
            credential_provider=settings.credential_provider,
        )
        return opened


def _refuse_no_certificates_file(environ: Mapping[str, str]) -> None:
    """obstore reads the file of the variable, too, and would wait for a pipe in a way that no signal ends."""
    # Settings bring pydantic, which an export to a disk doesn't need.
    from classify_batch.settings.tls_files import CERTIFICATES_FILE, refuse_no_plain_file  # noqa: PLC0415

    if file := environ.get(CERTIFICATES_FILE):
        with suppress(OSError, ValueError):  # it passes over what it can't read
            refuse_no_plain_file(CERTIFICATES_FILE, file)


@contextmanager
def explaining(url: ObjectUrl, *, reading: bool) -> Iterator[None]:
    """What obstore raises in the block becomes an error of ours; see `explain_error`."""
    try:
        yield
    except BaseException as error:  # a panic of obstore's is no Exception
        explained = explain_error(error, url, reading=reading)
        if explained is None:
            raise
        raise explained from None
