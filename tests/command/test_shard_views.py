"""What reads a run takes the directory of a whole run with shards: the same as of a run without, whatever each shard
is at. Real processes, a real server."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.command.test_shards_command import Place
from tests.support.command_line import KEY, command, until
from tests.support.real_run import sandbox

SHARDS = 4


class Views:
    """The same files, three times: `whole` has all shards, `plain` none; of `partial` shard 0 is complete, shard 1 was
    killed in its middle, shard 2 was never begun, and shard 3 stopped in order."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder, self.file_ids = folder, place.file_ids
        self.whole, self.plain, self.partial = folder / "whole", folder / "plain", folder / "partial"


def has_outcomes(run_dir: Path) -> bool:
    journal = run_dir / "journal.jsonl"
    return journal.exists() and b'"collected"' in journal.read_bytes()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    """The three runs, and the server that they called."""
    folder = tmp_path_factory.mktemp("views")
    with sandbox(folder, "--api-key", KEY, "--job-duration-s", "0.1", "--fault", "foreign_share=0.02") as server:
        place = Place(folder, server, jobs_in_flight=2)
        views = Views(folder, place)
        place.run_dir = views.plain
        command(*place.words(), "--jobs-in-flight", "50")
        place.run_dir = views.whole
        command(*place.words("--shards", str(SHARDS)), "--jobs-in-flight", "50")
        place.run_dir = views.partial
        command(*place.words("--shard", f"0/{SHARDS}"), "--jobs-in-flight", "50")
        for index, stop in ((1, "kill"), (3, "terminate")):
            with place.start("--shard", f"{index}/{SHARDS}") as process:
                until(partial(has_outcomes, place.shard_dir(index)), process)
                getattr(process, stop)()
        yield views


@pytest.fixture
def views(lived: Views, tmp_path: Path) -> Views:
    """The same for a test of its own, which may damage them."""
    copied = Views.__new__(Views)
    copied.folder, copied.file_ids = tmp_path, lived.file_ids
    for name in ("whole", "plain", "partial"):
        shutil.copytree(lived.folder / name, tmp_path / name)
        setattr(copied, name, tmp_path / name)
    return copied


def outcomes_in(run_dir: Path) -> dict[str, dict[str, Any]]:
    """All lines of outcomes in a run, wherever they are, by file ID."""
    return {
        line["file_id"]: line
        for name in ("results.jsonl", "failures.jsonl")
        for path in run_dir.rglob(name)
        for line in map(json.loads, path.read_bytes().splitlines())
    }


def diff(*words: object) -> dict[str, Any]:
    """What `diff --json` says."""
    found: dict[str, Any] = json.loads(command("diff", *words, "--json", status=0).stdout)
    return found


# --- diff -------------------------------------------------------------------------------------------------------------


def test_a_run_with_shards_is_compared_like_one_without(views: Views) -> None:
    """Either side may have shards: every file is unchanged, and the sums are the plain run's."""
    for sides in ((views.whole, views.plain), (views.plain, views.whole), (views.whole, views.whole)):
        found = diff(*sides)
        assert (found["files"], found["unchanged"]) == (len(views.file_ids), len(views.file_ids))
        assert (found["before"]["state"], found["after"]["state"], found["differs"]) == ("complete", "complete", {})
        assert found["before"]["counts"] == found["after"]["counts"]
        assert found["confidence"] == diff(views.plain, views.plain)["confidence"]


def test_files_of_shards_that_are_not_complete_wait(views: Views) -> None:
    """Those of a shard that was never begun, too: they are neither new nor gone."""
    done = outcomes_in(views.partial)
    assert 0 < len(done) < len(views.file_ids)
    for sides in ((views.partial, views.plain), (views.whole, views.partial)):
        found = diff(*sides)
        assert (found["unchanged"], found["waiting"]) == (len(done), len(views.file_ids) - len(done))
        assert found["files"] == len(views.file_ids)
        assert sorted((found["before"]["state"], found["after"]["state"])) == ["complete", "incomplete"]


def test_changed_files_are_listed_from_all_shards(views: Views) -> None:
    """`--only` prints each changed file once, whichever side has shards, and names nothing else."""
    others = ["file-3", "file-70", "file-200"]
    (views.folder / "other.txt").write_text("".join(f"{each}\n" for each in ["new-1", *others]))
    run = json.loads((views.plain / "run.json").read_bytes())
    words = ("--input", views.folder / "other.txt", "--run-dir", views.folder / "other", "--base-url")
    config = views.folder / "job.toml"
    config.write_text('[job]\nrules = [{ type = "invoice", description = "has line items and a total" }]\n')
    base_url = run["settings"]["api"]["base_url"]
    command("run", config, *words, base_url, "--shards", "2")
    gone = command("diff", views.whole, views.folder / "other", "--only", "gone", status=0).stdout.splitlines()
    assert Counter(json.loads(line)["file_id"] for line in gone) == Counter(set(views.file_ids) - set(others))
    new = command("diff", views.plain, views.folder / "other", "--only", "new", status=0).stdout.splitlines()
    assert [json.loads(line)["file_id"] for line in new] == ["new-1"]


def test_diff_names_the_shard_that_is_damaged(views: Views) -> None:
    """A changed byte in one shard's outcomes is an error (2), which names the file in its directory."""
    path = views.whole / "shards" / "00002" / "results.jsonl"
    path.write_bytes(path.read_bytes().replace(b"invoice", b"invoyce", 1))
    refused = command("diff", views.whole, views.plain, status=2).stderr
    assert f"results.jsonl in {path.parent}" in refused
    assert "hint: " in refused
