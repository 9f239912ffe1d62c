"""URLs of objects: what they name, and what is refused without a word of it being repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from classify_batch import UsageError
from classify_batch.object_store.url import ObjectUrl, is_object_url, parse_object_url, refuse_other_url
from classify_batch.store import place_of


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://bucket/key", "bucket", "key"),
        ("S3://my.bucket-1/a/b.csv", "my.bucket-1", "a/b.csv"),
        ("gs://bucket_2/a b%20ü#1@x:y.jsonl", "bucket_2", "a b%20ü#1@x:y.jsonl"),
        ("az://container/dt=2026-11-22/x.parquet", "container", "dt=2026-11-22/x.parquet"),
    ],
)
def test_a_url_names_an_object_as_it_stands(text: str, bucket: str, key: str) -> None:
    """Nothing in a key is an escape, and the URL of it is the same text."""
    url = parse_object_url(text)
    assert (url.bucket, url.key) == (bucket, key)
    assert str(url).lower() == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIA:hush@bucket/key",
        "s3://AKIA:hu/sh@bucket/key",
        "s3://hush@bucket/key",
        "s3://bucket/key?X-Amz-Signature=hush",
        "s3://bucket/key?AWSAccessKeyId=hush",
        "az://container/key?sig=hush",
        "gs://bucket?hush",
        "s3://bucket/hush\x1b[2J",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(text: str) -> None:
    """A user, a password, a signature: the message says what is wrong, and nothing of the URL."""
    with pytest.raises(UsageError) as caught:
        parse_object_url(text)
    said = f"{caught.value} {caught.value.hint}"
    assert "hush" not in said
    assert "AKIA" not in said
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s3://bucket", "names no object"),
        ("s3://bucket/", "names no object"),
        ("s3://bucket/prefix/", "is a prefix"),
        ("s3://bucket/*.csv", "patterns are not looked up"),
        ("s3:///key", "names no bucket"),
        ("s3://b%75cket/key", "'b%75cket' is no name of a bucket"),
        ("s3://b/key", "'b' is no name of a bucket"),
        ("s3://bucket//key", "in its key"),
        ("s3://bucket/a/../b", "in its key"),
    ],
)
def test_what_names_no_object_is_refused(text: str, words: str) -> None:
    """A bucket, a prefix, a pattern, and keys that can't be asked for."""
    with pytest.raises(UsageError, match=words):
        parse_object_url(text)


def test_a_bucket_that_is_none_is_told_what_names_buckets_have() -> None:
    """Whatever is wrong with the name can be found in the hint."""
    for bucket in ("b", "-bucket", "bu,cket"):
        with pytest.raises(UsageError, match=f"'{bucket}' is no name of a bucket") as caught:
            parse_object_url(f"s3://{bucket}/key")
        assert "2 or more letters, digits, hyphens, dots or _, the first a letter or a digit" in caught.value.hint


def test_a_folder_of_objects_may_be_the_bucket() -> None:
    """With and without a slash at its end."""
    for text in ("s3://bucket", "s3://bucket/"):
        assert parse_object_url(text, folder=True).inside("dt=1/x") == ObjectUrl("s3", "bucket", "dt=1/x")
    for text in ("s3://bucket/a/b", "s3://bucket/a/b/"):
        assert str(parse_object_url(text, folder=True).inside("x")) == "s3://bucket/a/b/x"


def test_paths_are_no_urls() -> None:
    """Nor is anything that isn't a text."""
    assert not any(map(is_object_url, ("s3:/a", "a/s3://b", "https://x/y", "-", Path("s3"), None, ["s3://a/b"])))


def test_other_urls_and_spoiled_ones_are_refused() -> None:
    """What `Path` makes of a URL, and the URL of a place that isn't read, which may be signed."""
    with pytest.raises(UsageError, match="was made a Path"):
        refuse_other_url(str(Path("s3://bucket/key")))
    with pytest.raises(UsageError, match="https:// is no place") as caught:
        refuse_other_url("https://bucket.example.com/key?X-Amz-Signature=hush")
    assert "hush" not in f"{caught.value} {caught.value.hint}"
    refuse_other_url("runs/today")


@pytest.mark.parametrize("place", ["s3://bucket/run", Path("gs://bucket/run")])
def test_a_run_directory_is_no_object(place: str | Path) -> None:
    """As a string or a path."""
    with pytest.raises(UsageError, match="a run directory is a path"):
        place_of(place)
