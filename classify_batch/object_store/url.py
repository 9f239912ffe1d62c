"""URLs of objects: `s3://bucket/key`, and `gs://` and `az://` alike. A key stands in it as it is, without escapes.

Whoever reads a message, a log or run.json reads the URL, so credentials never stand in one: such a URL is refused, and
none of its words are repeated. Free of heavy imports: whatever takes a path asks here whether it was given a URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from classify_batch.errors import UsageError

S3, GS, AZ = SCHEMES = ("s3", "gs", "az")

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SPOILED = re.compile(rf"({'|'.join(SCHEMES)}):/[^/]")
"""What `Path` makes of a URL."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_BUCKET_WORDS = "a bucket's name has 2 or more letters, digits, hyphens, dots or _, the first a letter or a digit"
_FORMS = "s3://BUCKET/KEY, gs://BUCKET/KEY or az://CONTAINER/KEY"
_CREDENTIALS_HINT = (
    "credentials come from the environment or from the files of the vendor's tools, as `manual sources` says; "
    f"a URL is {_FORMS}"
)


@dataclass(frozen=True, slots=True)
class ObjectUrl:
    """The place of an object, or of a folder of objects: then the key may be empty."""

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def bucket_url(self) -> str:
        """The URL of the bucket."""
        return f"{self.scheme}://{self.bucket}"

    @property
    def suffix(self) -> str:
        """The suffix of the key, in lower case."""
        return PurePosixPath(self.key).suffix.lower()

    def inside(self, path: str) -> ObjectUrl:
        """An object in the folder that this is."""
        return ObjectUrl(self.scheme, self.bucket, f"{self.key}/{path}" if self.key else path)


def is_object_url(text: object) -> bool:
    """Whether a text means an object: it begins like the URL of one. A path never does."""
    return isinstance(text, str) and (found := _URL.match(text)) is not None and found[1].lower() in SCHEMES


def refuse_url(text: str, what: str) -> None:
    """Raises UsageError for a URL where a path is wanted. `what`: is on a disk."""
    if is_object_url(text) or _SPOILED.match(text):
        raise UsageError(f"{what} is a path, and not the URL of an object", hint="name a place on a disk")


def refuse_other_url(text: str) -> None:
    """Raises UsageError for a URL that is none of an object, and for one that became a `Path`."""
    if (found := _URL.match(text)) is not None and found[1].lower() not in SCHEMES:
        raise UsageError(
            f"{found[1]}:// is no place that is read or written here",
            hint=f"give a path, or {_FORMS}; what another program gets can come by a pipe: `curl … | classify-batch …`",
        )
    if _SPOILED.match(text):
        raise UsageError(f"{text} is a URL that was made a Path, which spoils it", hint="give the URL as a string")


def parse_object_url(text: str, *, folder: bool = False) -> ObjectUrl:
    """The object that a URL names. `folder`: it names a folder of objects.

    Raises:
        UsageError: it holds credentials, or names no object.
    """
    found = _URL.match(text)
    if found is None or (scheme := found[1].lower()) not in SCHEMES:
        raise UsageError("this is no URL of an object", hint=f"a URL is {_FORMS}")
    bucket, _, key = text[found.end() :].partition("/")
    _refuse_credentials(scheme, bucket, key)
    if not text.isprintable():
        raise UsageError(f"the {scheme}:// URL has a character in it that can't be printed", hint=f"a URL is {_FORMS}")
    if not _BUCKET.fullmatch(bucket):
        words = f"{text}: {bucket!r} is no name of a bucket" if bucket else f"{text} names no bucket"
        raise UsageError(words, hint=f"{_BUCKET_WORDS}; a URL is {_FORMS}")
    if "*" in key:
        raise UsageError(
            f"{text} is a pattern, and patterns are not looked up", hint="name one object; --input may be repeated"
        )
    if folder:
        key = key.removesuffix("/")
    elif not key or key.endswith("/"):
        raise UsageError(f"{text} is a prefix, and names no object", hint="name one object; --input may be repeated")
    if key and {"", ".", ".."} & set(key.split("/")):
        raise UsageError(f"{text} has an empty name, . or .. in its key", hint="such a key can't be asked for")
    return ObjectUrl(scheme, bucket, key)


def _refuse_credentials(scheme: str, bucket: str, key: str) -> None:
    """Raises UsageError, without the words, for a URL with a user or a password, or with a query: it may be signed."""
    if "@" in bucket or ":" in bucket:
        raise UsageError(
            f"the {scheme}:// URL has a user or a password in it, which logs would show", hint=_CREDENTIALS_HINT
        )
    if "?" in bucket or "?" in key:
        raise UsageError(
            f"the {scheme}:// URL has a ? in it: signed URLs, versions and patterns are not read",
            hint=_CREDENTIALS_HINT,
        )
