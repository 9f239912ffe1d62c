"""Very many paths of one content: one answer, and every path is reported."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import asked, command, sandbox
from tests.support.folder_run import INVOICE, configure, lines, make_inbox, run_words

COPIES = 2000


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder whose inbox has 2,000 copies of one content beside two others."""
    copies = make_inbox(tmp_path) / "inbox" / "copies"
    copies.mkdir()
    for number in range(COPIES):
        (copies / f"a copy of an invoice {number:04}.txt").write_text(INVOICE)
    return tmp_path


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_thousands_of_copies_have_one_answer_and_all_their_paths(place: Path, version: str) -> None:
    """`carried` names as many paths as fit, and counts the others, which paths.jsonl names; it is paid once. Reuse,
    export and report go on with it."""
    with sandbox() as server:
        configure(place, server, version)
        command(*run_words(), folder=place, status=0)
        assert asked(server)["files_billed"] == 3
        assert "are the most" not in command("check", "c.toml", "--input", "inbox", folder=place, status=0).stdout
        command(*run_words("again", "--reuse", "runs/today"), folder=place, status=0)
        assert asked(server)["files_billed"] == 3
    for name in ("today", "again"):
        (line,) = [each for each in lines(place, name) if isinstance(each["carried"], list)]
        *named, last = line["carried"]
        further = lines(place, name, "paths.jsonl")
        assert last == {"further_paths": len(further)}
        assert {each["file_id"] for each in further} == {line["file_id"]}
        assert len(json.dumps(line["carried"], separators=(",", ":"))) <= 1 << 14
        paths = [each["path"] for each in (*named, *further)]
        assert sorted(paths) == sorted(
            {"a.txt", "copy.txt", *(f"copies/a copy of an invoice {n:04}.txt" for n in range(COPIES))}
        )
        command("verify", f"runs/{name}", folder=place, status=0)
    command("export", "runs/today", "t.csv", folder=place, status=0)
    assert "further_paths" not in (place / "t.csv").read_text()
    command("report", "runs/today", folder=place, status=0)
    assert f"a.txt (and {COPIES + 1:,} more)" in (place / "runs" / "today" / "report.html").read_text()


def test_few_copies_need_no_file_of_their_own(place: Path) -> None:
    """paths.jsonl is there only where something doesn't fit; one that a killed planning left is removed."""
    with sandbox() as server:
        configure(place, server)
        command("plan", *run_words()[1:], "--exclude", "copies/*", folder=place, status=0)
        assert not (place / "runs" / "today" / "paths.jsonl").exists()
        (place / "runs" / "killed").mkdir()
        (place / "runs" / "killed" / "paths.jsonl").write_text("left\n")
        command("plan", *run_words("killed")[1:], "--exclude", "copies/*", folder=place, status=0)
        assert not (place / "runs" / "killed" / "paths.jsonl").exists()


def test_a_file_of_a_list_that_comes_too_often_is_still_an_error(tmp_path: Path) -> None:
    """Columns of any other input are the user's own: none is left out silently."""
    with sandbox() as server:
        configure(tmp_path, server)
        rows = "".join(f"file-1,{'x' * 20}{number}\n" for number in range(COPIES))
        (tmp_path / "ids.csv").write_text("file_id,path\n" + rows)
        words = ["plan", "c.toml", "--input", "ids.csv", "--carry", "path", "--run-dir", "runs/x"]
        assert "are the most" in command(*words, folder=tmp_path, status=2).stderr
        assert "are the most" in command("check", *words[1:-2], folder=tmp_path, status=2).stdout
