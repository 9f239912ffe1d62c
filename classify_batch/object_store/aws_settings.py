"""Where the credentials, the region and the endpoint of S3 come from: what obstore doesn't find by itself.

obstore reads the environment, and asks the metadata services of containers and instances. The files of the AWS command
line (`~/.aws/credentials`, `~/.aws/config`) stand between the two in every other tool's chain, so they do here. Keys in
them are read as they are; what has to be asked for (SSO, roles, processes) boto3 knows, where it is installed. No value
of a key gets into a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from configparser import Error as ParserError
from configparser import RawConfigParser
from os.path import expanduser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from classify_batch.errors import ObjectAccessError, UsageError
from classify_batch.object_store.url import ObjectUrl

_ENVIRONMENT_HAS = (
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
    ("AWS_SKIP_SIGNATURE",),
)
"""Each is enough for obstore."""

_ASKED_FOR = ("sso_session", "sso_start_url", "role_arn", "credential_process", "login_session")
"""Keys of a profile whose credentials are not in the file."""

_KEYS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_EXPORT_HINT = '`eval "$(aws configure export-credentials --format env)"` puts them into the environment'


class AwsSettings(NamedTuple):
    """What obstore is given beside the environment.

    Attributes:
        config: by obstore's names.
        credential_provider: gives credentials that expire; None: `config` or the environment has them.
    """

    config: dict[str, str]
    credential_provider: Any = None


def find_aws_settings(url: ObjectUrl, environ: Mapping[str, str]) -> AwsSettings:
    """What the environment and the profile's files say of S3.

    Raises:
        UsageError: an endpoint is no URL, the profile isn't there, or its file is damaged.
        ObjectAccessError: there are no credentials, and nobody to ask for them.
    """
    name = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE")
    profile = _read_profile(environ, name or "default")
    config = _find_region_and_endpoint(environ, profile)
    if any(all(map(environ.get, names)) for names in _ENVIRONMENT_HAS):
        return AwsSettings(config)
    if name is not None and not profile:
        raise UsageError(f"there is no AWS profile {name}", hint="AWS_PROFILE names one of ~/.aws/credentials")
    keys = {ours: profile[theirs] for theirs, ours in _KEYS.items() if profile.get(theirs)}
    if {"access_key_id", "secret_access_key"} <= keys.keys():
        return AwsSettings(config | keys)
    if any(key in profile for key in _ASKED_FOR):
        return AwsSettings(config, _boto3_provider(url, name))
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise ObjectAccessError(f"{url}: there are no credentials", hint=CREDENTIALS_HINT)
    return AwsSettings(config)


CREDENTIALS_HINT = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile of ~/.aws; then the same command"
)


def _find_region_and_endpoint(environ: Mapping[str, str], profile: Mapping[str, str]) -> dict[str, str]:
    """The region and the endpoint, as far as obstore doesn't find them in the environment. Raises UsageError."""
    config = {}
    if not environ.get("AWS_REGION") and (region := environ.get("AWS_DEFAULT_REGION") or profile.get("region")):
        config["region"] = region
    found = [(each, environ[each]) for each in _ENDPOINTS if environ.get(each)]
    if not found and profile.get("endpoint_url"):
        found = [("endpoint_url of the AWS profile", profile["endpoint_url"])]
    if found:
        name, endpoint = found[0]
        _refuse_bad_endpoint(name, endpoint)
        config["endpoint"] = endpoint
    return config


def _refuse_bad_endpoint(name: str, endpoint: str) -> None:
    """Raises UsageError, without the value, for what obstore would panic at, or would show."""
    try:
        parts = urlsplit(endpoint)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not endpoint.isprintable() or " " in endpoint:
        raise UsageError(f"{name} is no http:// or https:// URL", hint="such as https://minio.example.com:9000")
    if "@" in parts.netloc:
        raise UsageError(f"{name} has a user or a password in it", hint=CREDENTIALS_HINT)


def _read_profile(environ: Mapping[str, str], name: str) -> dict[str, str]:
    """What the files say of a profile; the file of credentials wins. Raises UsageError for a damaged file."""
    home = environ.get("HOME") or "~"
    config, credentials = (
        Path(expanduser(environ.get(variable) or f"{home}/.aws/{file}"))  # noqa: PTH111 - takes a user without a home
        for variable, file in (("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials"))
    )
    section = "default" if name == "default" else f"profile {name}"
    return _read_section(config, section) | _read_section(credentials, name)


def _read_section(path: Path, section: str) -> dict[str, str]:
    parser = RawConfigParser(default_section="", strict=False)
    try:
        parser.read(path, "utf-8")
    except (ParserError, UnicodeDecodeError):  # which would repeat the line
        raise UsageError(f"{path} can't be read as a file of AWS profiles", hint="mend it") from None
    return dict(parser[section]) if parser.has_section(section) else {}


def _boto3_provider(url: ObjectUrl, profile: str | None) -> Any:
    try:
        from boto3 import Session  # noqa: PLC0415 - whoever has such a profile may have it
        from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415 - imports boto3
    except ImportError:
        raise UsageError(
            f"{url}: the AWS profile {profile or 'default'} doesn't hold its credentials, and boto3, which would ask "
            "for them, is not installed",
            hint=f"pip install boto3, or {_EXPORT_HINT}",
        ) from None
    try:
        return Boto3CredentialProvider(Session(profile_name=profile))
    except Exception as error:  # noqa: BLE001 - botocore has many kinds, and all mean the same
        raise ObjectAccessError(
            f"{url}: boto3 gets no credentials for the AWS profile {profile or 'default'} ({type(error).__name__})",
            hint="`aws sso login` begins a session anew; then the same command",
        ) from None
