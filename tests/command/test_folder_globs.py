"""Which documents of a folder a run takes, and that it keeps to them."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from classify_batch import Outcome, Settings, UsageError, check, plan, run, stream
from tests.support.command_line import KEY, command, sandbox
from tests.support.folder_run import configure, lines, make_inbox, run_words


@pytest.fixture
def server() -> Iterator[str]:
    """The base URL of a sandbox."""
    with sandbox() as base_url:
        yield base_url


@pytest.fixture
def place(tmp_path: Path, server: str) -> Path:
    """A folder with an inbox and its config."""
    configure(make_inbox(tmp_path), server)
    return tmp_path


def test_a_run_keeps_the_globs_it_was_planned_with(place: Path) -> None:
    """run.json has them; the same command, also without them, and `resume` go on with the same documents."""
    command("plan", *run_words("today", "--include", "*.txt", "--exclude", "sub/*")[1:], folder=place, status=0)
    run_json = json.loads((place / "runs" / "today" / "run.json").read_text())
    assert (run_json["include"], run_json["exclude"]) == (["*.txt"], ["sub/*"])
    command(*run_words(), folder=place, status=0)
    assert len(lines(place)) == 1
    for options in ((), ("--exclude", "sub/*"), ("--include", "*.txt", "--exclude", "sub/*")):
        command(*run_words("today", *options), folder=place, status=0)
    command("resume", "runs/today", folder=place, status=0)


@pytest.mark.parametrize(
    "options",
    [("--include", "*.md"), ("--exclude", "sub/*"), ("--include", "*.txt", "--include", "*.md")],
    ids=["other", "more", "wider"],
)
@pytest.mark.parametrize("state", ["planned", "complete"])
def test_other_globs_than_the_runs_are_refused(place: Path, options: tuple[str, ...], state: str) -> None:
    """Status 2 says which ones the run has and which ones the command gives, and what to do; nothing is called."""
    words = run_words("today", "--include", "*.txt")
    command(*(["plan", *words[1:]] if state == "planned" else words), folder=place, status=0)
    before = (place / "runs" / "today" / "manifest.json").read_bytes() if state == "complete" else None
    said = command(*run_words("today", *options), folder=place, status=2).stderr
    assert "the run has" in said
    assert "*.txt" in said or "none" in said
    assert options[-1] in said
    assert "hint: leave them out" in said
    assert before is None or (place / "runs" / "today" / "manifest.json").read_bytes() == before


def test_check_counts_the_documents_that_a_run_would_take(place: Path) -> None:
    """`check` takes the same globs, and leaves the run directory and the key's file out."""
    (place / "inbox" / "key.txt").write_text("s3cr3t")
    (place / "inbox" / "run").mkdir()
    (place / "inbox" / "run" / "a.txt").write_text("once was a run's")
    words = ["check", "c.toml", "--input", "inbox", "--run-dir", "inbox/run", "--exclude", "*.md"]
    key_file = {"LLAMA_CLOUD_API_KEY_FILE": str(place / "inbox" / "key.txt")}
    said = command(*words, folder=place, status=0, environ=key_file).stdout
    assert "3 documents of" in said
    assert "skipped: 1 excluded, 2 protected" in said
    said = command("check", "c.toml", "--input", "c.toml", "--include", "*.md", folder=place, status=2).stderr
    assert "--include and --exclude choose files of a folder" in said


def test_python_takes_globs(place: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that takes an input takes the globs; a string in the place of a list is refused, not taken apart."""
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", KEY)
    settings = Settings.load(place / "c.toml")
    globs: dict[str, Any] = {"include": ["*.txt"], "exclude": ["copy*"]}
    assert check(settings, place / "inbox", **globs).files == 2
    assert plan(settings, place / "inbox", place / "runs" / "planned", **globs).files == 2

    async def read_stream() -> list[Outcome]:
        async with stream(settings, place / "inbox", place / "runs" / "streamed", **globs) as outcomes:
            return [outcome async for outcome in outcomes]

    assert len(asyncio.run(read_stream())) == 2
    run(settings, place / "inbox", place / "runs" / "today", include=["*.txt"], exclude=["copy*"])
    assert {str(line["carried"]["path"]) for line in lines(place)} == {"a.txt", "sub/b.txt"}
    with pytest.raises(UsageError, match="lists of globs"):
        run(settings, place / "inbox", place / "runs" / "x", include="*.txt")
    with pytest.raises(UsageError, match="the input is none"):
        run(settings, ["file-1"], place / "runs" / "x", exclude=["*.txt"])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_plan_and_check_count_uploads_beside_the_jobs(place: Path, server: str, version: str) -> None:
    """Three contents at four paths: three lookups among the requests at least, and at most as many uploads; an empty
    document is none of them."""
    configure(place, server, version)
    (place / "inbox" / "empty.txt").touch()
    size = sum(path.stat().st_size for path in (place / "inbox").rglob("*.*"))
    jobs = 2 * 2 if version == "v1" else 4  # the empty one is planned, too
    planned = command("plan", *run_words()[1:], folder=place, status=0).stdout
    checked = command("check", "c.toml", "--input", "inbox", folder=place, status=0).stdout
    for text in (planned, checked):
        assert f"uploads     up to 3  (of {size:,} bytes at most, in 6 requests at most" in text
        assert f"requests    {3 + jobs}  at least" in text
    report = json.loads(command("check", "c.toml", "--input", "inbox", "--json", folder=place, status=0).stdout)
    assert report["uploads"] == {"documents": 3, "bytes": size, "requests_at_most": 6}
    assert report["requests_at_least"] == 3 + jobs
