"""What a failed call to an object store means: whose fault it is, and whether the same command goes on later.

obstore's errors are texts with the answer inside: the status, and the store's code for it. Only these two are repeated.
The rest may hold what is secret (a signed URL, a key's ID).
"""

from __future__ import annotations

import re

from classify_batch.errors import ClassifyBatchError, ObjectAccessError, ObjectStoreError, SourceError, UsageError
from classify_batch.object_store.aws_settings import CREDENTIALS_HINT
from classify_batch.object_store.url import AZ, GS, S3, ObjectUrl

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")

_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
_BAD_CREDENTIALS = (
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidAccessKeyId",
    "RequestTimeTooSkewed",
)
_OTHER_REGION = ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException")
_ASKS_FOR_CREDENTIALS = ("169.254.", "fd00:ec2::", "metadata.google.internal", "/latest/api/token", "oauth2")
_UNTRUSTED = ("UnknownIssuer", "invalid peer certificate", "CertificateExpired", "NotValidForName")
_NO_CONNECTION = (
    ("TimedOut", "it doesn't answer in time"),
    ("timed out", "it doesn't answer in time"),
    ("dns error", "its name can't be resolved"),
    ("ConnectionRefused", "the connection is refused"),
)
_CREDENTIALS_HINTS = {
    S3: CREDENTIALS_HINT,
    GS: "set GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`; then the same command",
    AZ: "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or sign in otherwise; then the same command",
}
_PREFIXES = {S3: "AWS", GS: "GOOGLE", AZ: "AZURE"}


def is_empty_range(error: Exception) -> bool:
    """Whether a range was asked of an object that has no bytes."""
    return status_of(str(error)) == 416


def status_of(text: str) -> int | None:
    """The HTTP status in an error's text."""
    return int(found[1]) if (found := _STATUS.search(text)) else None


def explain_error(error: BaseException, url: ObjectUrl, *, reading: bool) -> ClassifyBatchError | None:
    """The error that is raised for one of obstore's; None: it is none of obstore's.

    An object, or a bucket, that isn't there, and a store that isn't set up well, are usage errors; of an input,
    SourceErrors.
    """
    module = type(error).__module__
    missing = isinstance(error, FileNotFoundError) and error.errno is None
    if not (missing or module.startswith(("obstore", "pyo3_runtime")) or isinstance(error, ValueError)):
        return None
    usage = SourceError if reading else UsageError
    text = str(error)
    if any(each in text for each in _ASKS_FOR_CREDENTIALS):
        return ObjectAccessError(f"{url}: there are no credentials", hint=_CREDENTIALS_HINTS[url.scheme])
    if "redirect without LOCATION" in text:
        return _answered(301, "", url, usage)
    status = 404 if missing else 412 if type(error).__name__ == "PreconditionError" else status_of(text)
    if status is None:
        return _no_answer(error, text, url, usage)
    return _answered(status, found[1] if (found := _CODE.search(text)) else "", url, usage)


def _answered(status: int, code: str, url: ObjectUrl, usage: type[UsageError]) -> ClassifyBatchError:
    """The store has answered, with this status, and a code of its own where it has one."""
    answer = f"{status} {code}".rstrip()
    if status == 404:
        return _missing_object_error(url, code, usage)
    if status in (401, 403, 407) or code in _BAD_CREDENTIALS:
        return ObjectAccessError(f"{url}: access is denied ({answer})", hint=_denied_hint(url, usage))
    if status in (301, 307) or code in _OTHER_REGION:
        return usage(f"{url}: the bucket is in another region ({answer})", hint="set AWS_REGION to the bucket's")
    if status == 412:
        return ObjectStoreError(f"{url} was changed while it was read", hint="the same command reads it as it is now")
    if status >= 500 or status in (408, 409, 425, 429):
        return ObjectStoreError(f"{url}: the store is in trouble ({answer})", hint="the same command goes on later")
    return usage(f"{url}: the store refuses it ({answer})", hint="is the URL right, and what it is asked for?")


def _missing_object_error(url: ObjectUrl, code: str, usage: type[UsageError]) -> UsageError:
    if code in _NO_BUCKET or usage is UsageError:  # nobody misses an object that is to be written
        return usage(f"{url}: there is no bucket {url.bucket}", hint="is its name right, and the account, or endpoint?")
    where = "" if code == "NoSuchKey" else ", or no such bucket"
    return usage(f"{url}: there is no such object{where}", hint="is the key right? One object is read, and no prefix")


def _denied_hint(url: ObjectUrl, usage: type[UsageError]) -> str:
    hint = f"may they {'read' if usage is SourceError else 'write'} it? {_CREDENTIALS_HINTS[url.scheme]}"
    if usage is SourceError:
        hint += "; where the bucket may not be listed, a key that isn't there looks the same"
    return f"are these the right credentials, and {hint}"


def _no_answer(error: BaseException, text: str, url: ObjectUrl, usage: type[UsageError]) -> ClassifyBatchError:
    """No answer came: the store can't be reached, or obstore refuses to ask."""
    prefix = _PREFIXES[url.scheme]
    if any(each in text for each in _UNTRUSTED):
        return ObjectAccessError(
            f"{url}: the certificate of the store isn't trusted", hint="SSL_CERT_FILE names further authorities"
        )
    if "error sending request" in text or "error decoding response" in text or "HTTP error: request" in text:
        why = next((words for sign, words in _NO_CONNECTION if sign in text), "no answer comes")
        return ObjectStoreError(
            f"{url}: the store can't be reached: {why}",
            hint=f"the same command goes on later; {prefix}_ENDPOINT_URL and {prefix}_REGION say where the store is"
            if url.scheme == S3
            else "the same command goes on later",
        )
    if "builder error" in text:
        return usage(
            f"{url}: its endpoint is http://, which is not allowed", hint=f"{prefix}_ALLOW_HTTP=true allows it"
        )
    if "ccount" in text and url.scheme == AZ:
        return usage(f"{url}: there is no storage account", hint=_CREDENTIALS_HINTS[AZ])
    if "redential" in text:
        return ObjectAccessError(
            f"{url}: there are no credentials that can be used", hint=_CREDENTIALS_HINTS[url.scheme]
        )
    return usage(
        f"{url}: obstore can't use its settings ({type(error).__name__})",
        hint=f"look at the variables that begin with {prefix}_",
    )
