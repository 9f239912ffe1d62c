"""Where nothing but the run directory can be written, as in a container with a read-only root and no /tmp."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.support.command_line import Call, calling, sandbox

IDS = 30
CONFIG = """
[api]
version = "v1"
base_url = "{base_url}"

[job]
rules = [{{ type = "invoice", description = "has an invoice number, line items and a total" }}]
"""


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """The command line, where no candidate for a temporary folder is there."""
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "read-only")])
    return calling(capsys, monkeypatch, tmp_path)


def refused(command: Call, *arguments: str) -> None:
    done = command(None, *arguments)
    assert done.status == 75, done
    assert "there is no folder for temporary files" in done.out + done.err
    assert "hint: set TMPDIR to a folder that can be written" in done.out + done.err


def test_a_table_from_stdin_says_that_there_is_no_temporary_folder(
    command: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Parquet is read from its end, so a stream of it has to be kept."""
    arro3 = pytest.importorskip("arro3.core")
    parquet = pytest.importorskip("arro3.io")
    table = arro3.Table.from_pydict({"file_id": arro3.Array([f"f{at}" for at in range(IDS)], arro3.DataType.string())})
    parquet.write_parquet(table, tmp_path / "ids.parquet")
    (tmp_path / "config.toml").write_text(CONFIG.format(base_url="http://127.0.0.1:9"))
    stdin = io.TextIOWrapper(io.BytesIO((tmp_path / "ids.parquet").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    refused(command, "plan", "config.toml", "--input", "-", "--run-dir", "run")


def test_a_check_of_many_files_says_that_there_is_no_temporary_folder(command: Call, tmp_path: Path) -> None:
    """More file IDs than memory should hold wait in temporary files: a check has no run directory to put them into."""
    (tmp_path / "ids.txt").write_text("".join(f"{at:08}{'x' * 180}\n" for at in range(40_000)))
    with sandbox() as base_url:
        (tmp_path / "config.toml").write_text(CONFIG.format(base_url=base_url))
        refused(command, "check", "config.toml", "--input", "ids.txt")


def test_a_check_of_the_embedded_sandbox_says_that_there_is_no_temporary_folder(command: Call, tmp_path: Path) -> None:
    """The sandbox keeps its jobs in a temporary folder for as long as a check takes."""
    (tmp_path / "ids.txt").write_text("a\nb\n")
    (tmp_path / "config.toml").write_text(CONFIG.format(base_url="sandbox"))
    refused(command, "check", "config.toml", "--input", "ids.txt")
