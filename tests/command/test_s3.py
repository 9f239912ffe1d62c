"""Inputs, exports and reports on S3, against moto's server: what a server says that isn't ours."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from classify_batch import export, report
from tests.support.command_line import PATIENCE_S, command, environment
from tests.support.complete_run import write_complete_run
from tests.support.s3_server import S3Server, serving_s3
from tests.support.sandbox_settings import RULES
from tests.support.start_command import COMMAND, CommandProcess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """One server for all: it takes seconds to start."""
    with serving_s3() as server:
        yield server


@pytest.fixture(autouse=True)
def _environ(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environ.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose export is 70 MB, which takes nine parts."""
    path = tmp_path_factory.mktemp("s3") / "large"
    write_complete_run(path, 300_000, 1_000)
    return path


def test_a_night_from_s3_to_s3(tmp_path: Path, server: S3Server) -> None:
    """IDs from an object, its outcomes and its page in objects; the same command finds the run complete."""
    rules = "\n".join(f"  {{ type = {each['type']!r}, description = {each['description']!r} }}," for each in RULES)
    (tmp_path / "c.toml").write_text(f'[api]\nbase_url = "sandbox"\n[job]\nrules = [\n{rules}\n]\n')
    server.put("in/ids.jsonl", b"".join(json.dumps({"file_id": f"f-{n}"}).encode() + b"\n" for n in range(300)))
    run = ("run", "c.toml", "--input", "s3://bucket/in/ids.jsonl", "--run-dir", "night", "--quiet")
    status = command(*run, folder=tmp_path).returncode
    assert "complete already" in command(*run[:-1], folder=tmp_path, status=status).stderr
    command("export", "night", "s3://bucket/table/", "--partition", "dt=2026-11-22", folder=tmp_path, status=0)
    command("report", "night", "--output", "s3://bucket/night.html", folder=tmp_path, status=0)
    assert b"</html>" in server.get("night.html")
    polars = pytest.importorskip("polars")
    run_id = json.loads((tmp_path / "night" / "run.json").read_text())["run_id"]
    frame: Any = polars.read_parquet(BytesIO(server.get(f"table/dt=2026-11-22/{run_id}.parquet")))
    assert sorted(frame["file_id"]) == sorted(f"f-{n}" for n in range(300))


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet", "out.arrow", "none.jsonl"])
def test_an_export_is_the_file_byte_for_byte(large: Path, server: S3Server, name: str) -> None:
    """In one request or in parts, over an older object, and where there is nothing to write."""
    server.put(name, b"old")
    only = "failed" if name == "none.jsonl" else None
    export(large, f"s3://bucket/{name}", only=only)
    export(large, large.parent / name, only=only)
    assert server.get(name) == (large.parent / name).read_bytes()
    assert not server.has_uploads()


def test_an_export_of_megabytes_is_an_input(large: Path, server: S3Server) -> None:
    """It is read back in ranges, each ID once."""
    export(large, "s3://bucket/back.jsonl")
    (large.parent / "c.toml").write_text('[job]\nrules = [{ type = "invoice", description = "has a total amount" }]\n')
    words = ("plan", "c.toml", "--input", "s3://bucket/back.jsonl", "--run-dir", "again")
    assert "files       300,000  (0 repeated" in command(*words, folder=large.parent, status=0).stdout


def test_a_killed_export_leaves_the_old_object(large: Path, server: S3Server) -> None:
    """SIGKILL while the parts are on their way."""
    server.put("killed.jsonl", b"old")
    words = [*COMMAND, "export", str(large), "s3://bucket/killed.jsonl"]
    until_s = time.monotonic() + PATIENCE_S
    with CommandProcess(words, env=environment(), stderr=subprocess.DEVNULL) as process:
        while not server.has_uploads():
            assert time.monotonic() < until_s
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert server.get("killed.jsonl") == b"old"


def test_what_is_not_there_is_said(tmp_path: Path, large: Path) -> None:
    """By the words of a real server: a missing key, a missing bucket, an empty object, a page that can't be put."""
    (tmp_path / "c.toml").write_text('[job]\nrules = [{ type = "invoice", description = "has a total amount" }]\n')
    for url, words in (
        ("s3://bucket/absent.txt", "there is no such object"),
        ("s3://nobody/ids.txt", "there is no bucket nobody"),
    ):
        done = command("plan", "c.toml", "--input", url, "--run-dir", "p", folder=tmp_path, status=2)
        assert f"error: {url}: {words}\nhint: " in done.stderr
    done = command("export", large, "s3://nobody/out.csv", folder=tmp_path, status=2)
    assert "error: s3://nobody/out.csv: there is no bucket nobody\nhint: " in done.stderr


def test_an_empty_object_holds_no_file_ids(tmp_path: Path, server: S3Server) -> None:
    """As an empty file."""
    server.put("empty.txt", b"")
    (tmp_path / "c.toml").write_text('[job]\nrules = [{ type = "invoice", description = "has a total amount" }]\n')
    words = ("plan", "c.toml", "--input", "s3://bucket/empty.txt", "--run-dir", "p")
    assert "holds no file IDs" in command(*words, folder=tmp_path, status=2).stderr


def test_a_profile_that_asks_a_process_is_enough_with_boto3(
    tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto3 asks for what is in no file; where it gets nothing, a person must act, and nothing of it is shown."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "keys.json").write_text('{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "hush"}')
    config = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    config.write_text(f"[default]\ncredential_process = cat {tmp_path / 'keys.json'}\n")
    write_complete_run(tmp_path / "run", 100, 10)
    export(tmp_path / "run", "s3://bucket/asked.jsonl")
    assert server.get("asked.jsonl").count(b"\n") == 100
    config.write_text("[default]\ncredential_process = sh -c 'echo hush >&2; exit 1'\n")
    done = command("export", "run", "s3://bucket/refused.jsonl", folder=tmp_path, status=77)
    assert "boto3 gets no credentials" in done.stderr
    assert "hush" not in done.stderr


def test_a_profile_of_the_aws_files_is_enough(
    tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys, region and endpoint from the files; nothing of them in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text("[night]\naws_access_key_id = a\naws_secret_access_key = b\n")
    (tmp_path / "config").write_text(f"[profile night]\nregion = us-east-1\nendpoint_url = {server.base_url}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "night")
    write_complete_run(tmp_path / "run", 100, 10)
    assert report(tmp_path / "run", "s3://bucket/profile.html") == "s3://bucket/profile.html"
    assert b"</html>" in server.get("profile.html")
