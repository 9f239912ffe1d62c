"""`classify-batch files delete`: what was uploaded goes, and nothing else; nobody's files go without a yes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from classify_batch.sandbox.server.uploads import read_uploads
from tests.support.command_line import PATIENCE_S, Call, asked, calling, command, environment, sandbox
from tests.support.folder_run import configure, listed, make_inbox, run_words
from tests.support.start_command import COMMAND, CommandProcess


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """`classify-batch files`, in this process."""
    return calling(capsys, monkeypatch, tmp_path, "files", patience_s="2")


def upload(call: Call, url: str, folder: Path, count: int) -> list[str]:
    """Uploads so many files, and writes what was printed to uploads.jsonl; gives their IDs."""
    (folder / "inbox").mkdir(exist_ok=True)
    for number in range(count):
        (folder / "inbox" / f"{number}.txt").write_text(f"text {number}")
    done = call(url, "upload", "--recursive", "inbox")
    (folder / "uploads.jsonl").write_text(done.out)
    return [line["file_id"] for line in done.lines]


def test_what_was_uploaded_is_deleted_and_stays_so(call: Call, tmp_path: Path) -> None:
    """Named by the output of the upload, or by the directory it is in; a second time nothing is there."""
    with sandbox("--ledger", str(tmp_path / "ledger")) as url:
        file_ids = upload(call, url, tmp_path, 9)
        done = call(url, "delete", ".", "--yes")
        assert (done.status, done.out) == (0, "")
        assert "9 files deleted, 0 were not" in done.err
        assert call(url, "list", "--json", *(f"--file-id={each}" for each in file_ids)).body["items"] == []
        assert "0 files deleted, 9 were not" in call(url, "delete", "uploads.jsonl", "uploads.jsonl", "--yes").err
    with sandbox("--ledger", str(tmp_path / "ledger")) as url:
        assert "0 files deleted, 9 were not" in call(url, "delete", "uploads.jsonl", "--yes").err
    assert read_uploads(tmp_path / "ledger") == []


def test_a_lost_answer_is_asked_for_again(call: Call, tmp_path: Path) -> None:
    """A delete does the same twice, so it is repeated."""
    with sandbox("--fault", "delete.before.502=0.3", "--seed", "3") as url:
        upload(call, url, tmp_path, 5)
        done = call(url, "delete", "uploads.jsonl", "--yes")
        assert "5 files deleted" in done.err
        assert asked(url)["requests"]["delete"]["204"] == 5


def test_nothing_is_deleted_without_a_yes(call: Call, tmp_path: Path) -> None:
    """Where nobody can be asked, the command is refused."""
    with sandbox() as url:
        file_ids = upload(call, url, tmp_path, 2)
        done = call(url, "delete", "uploads.jsonl")
        assert done.status == 2
        assert "--yes" in done.err
        assert len(call(url, "list", "--json", *(f"--file-id={each}" for each in file_ids)).body["items"]) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"file_id": "a"}\n{"file_id": "b", "outcome": "classified"}\n', "line 2: an outcome"),
        ('{"file_id": "a"}\nnot json\n', "line 2: not JSON"),
        ('{"id": "a"}\n', "line 1: no object with a file_id"),
        ("[1]\n", "line 1: no object with a file_id"),
        ('{"file_id": "a b"}\n', 'line 1: "a b" is no file ID'),
        ('{"file_id": ""}\n', 'line 1: "" is no file ID'),
    ],
)
def test_a_file_of_other_lines_is_refused(call: Call, tmp_path: Path, text: str, words: str) -> None:
    """Outcomes name files that may be anybody's. Nothing is sent."""
    (tmp_path / "lines").write_text(text)
    with sandbox() as url:
        done = call(url, "delete", "lines", "--yes")
        assert done.status == 2
        assert words in done.err
        assert asked(url)["requests"] == {}


def test_a_torn_last_line_is_no_upload(call: Call, tmp_path: Path) -> None:
    """A process was killed while it wrote it."""
    with sandbox() as url:
        upload(call, url, tmp_path, 1)
        with (tmp_path / "uploads.jsonl").open("a") as file:
            file.write('{"file_id": "ab')
        assert "1 files deleted" in call(url, "delete", "uploads.jsonl", "--yes").err


def test_a_document_of_the_sandbox_stays(call: Call, tmp_path: Path) -> None:
    """What the API refuses is named, and the exit status says so; the rest is deleted."""
    with sandbox() as url:
        upload(call, url, tmp_path, 1)
        with (tmp_path / "uploads.jsonl").open("a") as file:
            file.write(json.dumps({"file_id": "file..7"}) + "\n")
        done = call(url, "delete", "uploads.jsonl", "--yes")
        assert done.status == 1
        assert "failed: file..7: delete: HTTP 400" in done.err
        assert "1 files deleted" in done.err


@pytest.mark.parametrize(("answer", "left"), [(b"y\n", 0), (b"n\n", 2), (b"\n", 2)])
def test_a_terminal_is_asked(call: Call, tmp_path: Path, answer: bytes, left: int) -> None:
    """Only a yes deletes."""
    with sandbox("--ledger", str(tmp_path / "ledger")) as url:
        upload(call, url, tmp_path, 2)
        ours, theirs = pty.openpty()
        words = ("files", "delete", "uploads.jsonl", "--base-url", url)
        with CommandProcess(
            [*COMMAND, *words], stdin=theirs, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(), text=True
        ) as process:
            os.write(ours, answer)
            said = process.communicate(timeout=PATIENCE_S)[1]
        os.close(theirs)
        os.close(ours)
    assert process.returncode == 0, said
    assert "delete 2 files from the key's project?" in said
    assert len(read_uploads(tmp_path / "ledger")) == left


def test_of_a_run_what_it_uploaded_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    """By the IDs that the project gave, and not by the contents; what the project had before stays."""
    place = make_inbox(tmp_path)
    with sandbox() as server:
        configure(place, server)
        command("files", "upload", "inbox/a.txt", "--base-url", server, folder=place, status=0)
        command(*run_words(), folder=place, status=0)
        assert len(listed(place, server)) == 3
        said = command("files", "delete", "runs/today", "--yes", "--base-url", server, folder=place, status=0).stderr
        assert "2 files deleted, 0 were not in the project" in said
        assert [each["name"] for each in listed(place, server)] == ["a.txt"]
