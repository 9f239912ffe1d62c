"""A folder as the input, as a user meets it: real files, the real command, a real server, and kills at each step."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from classify_batch import Progress, Settings, run
from classify_batch.cli.rendering.progress import format_details
from classify_batch.cli.rendering.throughput import Throughput
from classify_batch.operations.documents import open_as_hashed
from tests.support.command_line import KEY, asked, command, sandbox
from tests.support.folder_run import (
    INVOICE,
    LETTER,
    STEPS,
    configure,
    lines,
    listed,
    make_inbox,
    run_killed_at,
    run_words,
)


@pytest.fixture
def server() -> Iterator[str]:
    """The base URL of a sandbox."""
    with sandbox() as base_url:
        yield base_url


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that holds an inbox of three contents at four paths."""
    return make_inbox(tmp_path)


def test_a_folder_is_answered_by_name_without_a_key(place: Path) -> None:
    """With the embedded sandbox one command classifies a folder by its words; the paths stand beside the outcomes."""
    configure(place, "sandbox")
    command(*run_words(), folder=place, status=0, environ={"LLAMA_CLOUD_API_KEY": None})
    types = {str(line["carried"]): line["type"] for line in lines(place)}
    assert types == {
        "[{'path': 'a.txt'}, {'path': 'copy.txt'}]": "invoice",
        "{'path': 'c.md'}": "invoice",
        "{'path': 'sub/b.txt'}": "letter",
    }
    assert all(line["file_id"].startswith("sha256:") and line["sent_id"] for line in lines(place))
    command("verify", "runs/today", folder=place, status=0)


def test_what_is_no_document_stays_where_it_is(place: Path, server: str) -> None:
    """Hidden files, links, other suffixes, the run directory and the key's file are not planned, and counted."""
    inbox = place / "inbox"
    (inbox / ".env").write_text("SECRET=1")
    (inbox / "link.txt").symlink_to("a.txt")
    (inbox / "x.bin").write_text("x")
    (inbox / "key.txt").write_text("s3cr3t")
    configure(place, server)
    words = ["plan", "c.toml", "--input", "inbox", "--run-dir", "inbox/run", "--exclude", "*.md"]
    said = command(*words, folder=place, status=0, environ={"LLAMA_CLOUD_API_KEY_FILE": str(inbox / "key.txt")}).stderr
    assert "1 excluded, 1 hidden, 1 link, 1 other suffix, 2 protected" in said
    assert (inbox / "run" / "plan.jsonl").read_text().count("sha256:") == 2
    assert asked(server)["requests"] == {}


def test_what_cannot_be_uploaded_is_named_first_and_fails(place: Path, server: str) -> None:
    """An empty document and one that changed since the plan fail as not_uploadable; the others are answered."""
    (place / "inbox" / "empty.txt").touch()
    configure(place, server)
    said = command("plan", *run_words()[1:], folder=place, status=0).stderr
    assert "empty.txt can't be uploaded: it is empty" in said
    (place / "inbox" / "sub" / "b.txt").write_text("something else")
    command("resume", "runs/today", folder=place, status=1)
    failures = {line["carried"]["path"]: line for line in lines(place, file="failures.jsonl")}
    assert {path: line["code"] for path, line in failures.items()} == dict.fromkeys(
        ("empty.txt", "sub/b.txt"), "not_uploadable"
    )
    assert "changed" in failures["sub/b.txt"]["message"]
    assert len(lines(place)) == 2
    (place / "inbox" / "sub" / "b.txt").write_text(LETTER)
    command("resume", "runs/today", "--retry-failed", folder=place, status=1)
    assert len(lines(place)) == 3


def test_status_and_report_agree_on_what_is_worth_a_retry(place: Path) -> None:
    """An empty document stays empty: neither says that it should be tried again."""
    (place / "inbox" / "empty.txt").touch()
    configure(place, "sandbox")
    command(*run_words(), folder=place, status=1)
    command("report", "runs/today", folder=place, status=0)
    assert "--retry-failed" not in (place / "runs" / "today" / "report.html").read_text()
    assert "--retry-failed" not in json.loads((place / "runs" / "today" / "manifest.json").read_text())["next"]


def test_a_file_that_changes_while_it_is_read_never_arrives_whole(tmp_path: Path) -> None:
    """The last block of another content is not given out."""
    path = tmp_path / "a.txt"
    path.write_text(INVOICE)
    with open_as_hashed(tmp_path, "a.txt", "0" * 64, len(INVOICE)) as file:
        assert file.read(5) == INVOICE[:5].encode()
        with pytest.raises(OSError, match="changed"):
            file.read(1000)


def test_a_changed_folder_is_another_input(place: Path, server: str) -> None:
    """The same command names the difference by its paths, once, and ends with 2; a new run that reuses the old one pays
    the new only."""
    configure(place, server)
    command(*run_words(), folder=place, status=0)
    paid = asked(server)["files_billed"]
    (place / "inbox" / "new.txt").write_text(LETTER + "!")
    (place / "inbox" / ".hidden").touch()
    text = (place / "inbox" / "c.md").read_text()
    (place / "inbox" / "c.md").unlink()
    said = command(*run_words(), folder=place, status=2).stderr
    assert "1 in the folder are new or changed (new.txt), 1 of its plan are changed or gone (c.md)" in said
    assert "once it is complete, a new run directory with `--reuse" in said  # before, its jobs would be paid again
    assert said.count("of the folder, skipped: 1 hidden") == 1
    assert "--reuse" in said
    (place / "inbox" / "c.md").write_text(text)
    command(*run_words("tomorrow", "--reuse", "runs/today"), folder=place, status=0)
    assert len(lines(place, "tomorrow")) == 4
    assert asked(server)["files_billed"] == paid + 1


def test_a_folder_stands_alone(place: Path, server: str) -> None:
    """A folder beside another input, and globs without a folder, are refused with a hint."""
    configure(place, server)
    (place / "ids.txt").write_text("file-1\n")
    said = command(*run_words(), "--input", "ids.txt", folder=place, status=2).stderr
    assert "one of several inputs" in said
    words = ["run", "c.toml", "--input", "ids.txt", "--run-dir", "runs/x", "--include", "*.pdf"]
    assert "hint:" in command(*words, folder=place, status=2).stderr


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_nothing_is_uploaded_or_paid_twice(
    place: Path, server: str, step: str, version: str
) -> None:
    """SIGKILL at a step of the second document or job; the same command uploads and pays each content once."""
    configure(place, server, version)
    run_killed_at(step, place)
    command(*run_words(), folder=place, status=0)
    assert len(lines(place)) == 3
    assert len(listed(place, server)) == 3
    assert asked(server)["files_billed"] == 3
    command("verify", "runs/today", folder=place, status=0)


def test_a_run_goes_on_from_its_folder_wherever_it_is_resumed(place: Path, server: str) -> None:
    """run.json keeps the absolute path."""
    configure(place, server)
    command("plan", *run_words()[1:], folder=place, status=0)
    command("resume", place / "runs" / "today", folder=Path(os.sep), status=0)
    assert len(lines(place)) == 3


def test_check_says_what_would_be_uploaded(place: Path, server: str) -> None:
    """Documents are counted, what is unfit is named, and nothing is looked up by its hash or uploaded."""
    (place / "inbox" / "empty.txt").touch()
    configure(place, server)
    said = command("check", "c.toml", "--input", "inbox", folder=place, status=0)
    text = said.stdout + said.stderr
    assert "4 documents of" in text
    assert "would be uploaded" in text
    assert "empty.txt: it is empty" in text
    assert "not in the project" not in text
    assert len(listed(place, server)) == 0


def test_progress_tells_how_far_the_uploads_are(place: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contents in the project of all, uploads and bytes of this process; a later process counts what is there."""
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", KEY)
    configure(place, server)
    settings, seen = Settings.load(place / "c.toml"), list[Progress]()
    run(settings, place / "inbox", place / "runs" / "today", submit_only=True, on_progress=seen.append)
    size = len(INVOICE) + len(LETTER) + len(INVOICE + ", once more")
    assert seen[-1].uploads == (3, 3, 3, size)
    run(settings, None, place / "runs" / "today", on_progress=seen.append)
    assert seen[-1].uploads == (3, 3, 0, 0)
    assert seen[0].uploads is not None
    throughput = Throughput()
    throughput.record_done(0.0, 3)
    words = format_details(seen[-1], throughput)
    assert "3 of 3 documents in the project, 0 uploaded" in words
