"""Where the credentials of S3 come from: the environment, then a profile of the AWS files, then a metadata service."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from classify_batch import UsageError
from classify_batch.errors import ObjectAccessError
from classify_batch.object_store.aws_settings import find_aws_settings
from classify_batch.object_store.url import parse_object_url

URL = parse_object_url("s3://bucket/key")
KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hush"}
CREDENTIALS = """
[default]
aws_access_key_id = default-id
aws_secret_access_key = hush%1

[night]
aws_access_key_id = night-id
aws_secret_access_key = hush2
aws_session_token = hush3

[keyless]
"""
CONFIG = """
[default]
region = eu-central-1
s3 =
  addressing_style = path
[profile night]
region = eu-west-1
endpoint_url = https://minio.example.com:9000
[profile signed-in]
sso_session = a
sso_account_id = 1
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A home with both files."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(CREDENTIALS)
    (tmp_path / ".aws" / "config").write_text(CONFIG)
    return {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}


def test_keys_of_the_environment_win_and_the_region_is_the_profiles(environ: dict[str, str]) -> None:
    """obstore reads the keys itself; what it doesn't know is where the bucket is."""
    assert find_aws_settings(URL, environ | KEYS) == ({"region": "eu-central-1"}, None)
    assert find_aws_settings(URL, environ | KEYS | {"AWS_REGION": "us-west-2"}).config == {}
    assert find_aws_settings(URL, environ | KEYS | {"AWS_DEFAULT_REGION": "x"}).config == {"region": "x"}


def test_a_profile_has_keys_region_and_endpoint(environ: dict[str, str]) -> None:
    """The default one, and the one that AWS_PROFILE names."""
    assert find_aws_settings(URL, environ).config == {
        "region": "eu-central-1",
        "access_key_id": "default-id",
        "secret_access_key": "hush%1",
    }
    night = {
        "region": "eu-west-1",
        "endpoint": "https://minio.example.com:9000",
        "access_key_id": "night-id",
        "secret_access_key": "hush2",
        "session_token": "hush3",
    }
    assert find_aws_settings(URL, environ | {"AWS_PROFILE": "night"}).config == night
    elsewhere = {"AWS_PROFILE": "night", "AWS_ENDPOINT_URL": "http://one", "AWS_ENDPOINT_URL_S3": "http://two"}
    assert find_aws_settings(URL, environ | elsewhere).config["endpoint"] == "http://two"


def test_without_credentials_a_person_must_act(environ: dict[str, str], tmp_path: Path) -> None:
    """At once, where no metadata service may be asked; where it may, obstore asks."""
    none = environ | {"HOME": str(tmp_path / "nobody")}
    with pytest.raises(ObjectAccessError, match="there are no credentials"):
        find_aws_settings(URL, none)
    assert find_aws_settings(URL, none | {"AWS_EC2_METADATA_DISABLED": "false"}) == ({}, None)
    with pytest.raises(UsageError, match="no AWS profile absent"):
        find_aws_settings(URL, environ | {"AWS_PROFILE": "absent"})


def test_a_damaged_file_is_named_and_not_repeated(environ: dict[str, str], tmp_path: Path) -> None:
    """A parser's own message would show the line, and with it a key."""
    (tmp_path / ".aws" / "credentials").write_text("aws_secret_access_key = hush\n")
    with pytest.raises(UsageError, match=r"\.aws/credentials can't be read") as caught:
        find_aws_settings(URL, environ)
    assert "hush" not in f"{caught.value} {caught.value.hint}"
    assert caught.value.__cause__ is None


def test_a_profile_that_signs_in_needs_boto3(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """SSO, roles and processes: the error says what to install, or to export."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError, match="boto3, which would ask") as caught:
        find_aws_settings(URL, environ | {"AWS_PROFILE": "signed-in"})
    assert "export-credentials" in caught.value.hint


@pytest.mark.parametrize("endpoint", ["minio:9000", "http://", "ftp://x", "http://x:99999", "http://a b", "foo"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    """obstore would panic, and write a traceback."""
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL is no http"):
        find_aws_settings(URL, KEYS | {"AWS_ENDPOINT_URL": endpoint})


def test_credentials_in_an_endpoint_are_refused_and_not_repeated() -> None:
    """obstore's errors would show them."""
    with pytest.raises(UsageError, match="has a user or a password") as caught:
        find_aws_settings(URL, KEYS | {"AWS_ENDPOINT": "https://user:hush@minio.example.com"})
    assert "hush" not in f"{caught.value} {caught.value.hint}"
