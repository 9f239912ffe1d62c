"""A second look and triage from the command line: real files, a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import command, sandbox

CONFIG = """
[job]
rules = [
  {{ type = "invoice", description = "has line items and a total" }},
  {{ type = "letter", description = "has a salutation and a signature" }},
]
[api]
base_url = "{url}"
[plan]
files_per_job = 10
[limits]
requests_per_s = 500
[escalation]
below_confidence = 0.6
unmatched = true
[triage]
accept_above = 0.8
by_type = {{ letter = 0.95 }}
"""


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def server() -> Iterator[str]:
    with sandbox("--job-duration-s", "0.1") as base_url:
        yield base_url


def test_weak_answers_get_a_second_look_and_triage_sorts_all(tmp_path: Path, server: str) -> None:
    """Files, manifest, status and words agree; the directory is proven; nothing is asked when it is complete."""
    (tmp_path / "c.toml").write_text(CONFIG.format(url=server))
    (tmp_path / "ids.txt").write_text("".join(f"file-{n}\n" for n in range(200)))
    run_dir = tmp_path / "run"
    planned = command("plan", tmp_path / "c.toml", "--input", tmp_path / "ids.txt", "--run-dir", run_dir)
    assert "at most 3,000 credits, $3.75, 2,000 pages  (5 pages a file, 1, then 2 credits a page)" in planned.stdout
    assert json.loads((run_dir / "run.json").read_text())["format"] == 3  # an older version leaves it alone
    done = command("resume", run_dir)
    assert done.returncode == 0, done.stderr

    results = lines(run_dir / "results.jsonl")
    first = {line["file_id"]: line for line in lines(run_dir / "provisional.jsonl")}
    assert len(results) == 200
    for line in results:
        assert ("other" in line) == (line["file_id"] in first)
        if "other" in line:
            provisional = first[line["file_id"]]
            assert line["other"] == {key: provisional[key] for key in line["other"]}
            assert (line["counts"], line["mode"], provisional["mode"]) == ("second", "MULTIMODAL", "FAST")
    classified = [line for line in results if line["type"] is not None]
    accepted = sum(line["confidence"] >= (0.95 if line["type"] == "letter" else 0.8) for line in classified)
    manifest = json.loads((run_dir / "manifest.json").read_text())
    assert manifest["triage"] == {
        "accepted": accepted,
        "review": len(classified) - accepted,
        "unmatched": 200 - len(classified),
        "failed": 0,
    }
    assert manifest["second_looks"] == len(first) > 0
    assert manifest["credits"] == {"reserved": 5 * 200 + 10 * len(first), "billed": None}
    status = command("status", run_dir)
    assert f"{accepted:,} accepted, {len(classified) - accepted:,} to review" in status.stdout
    assert f"second look {len(first):,} files" in status.stdout
    assert command("verify", run_dir).returncode == 0
    assert "complete already" in command("resume", run_dir).stderr

    damaged = (run_dir / "provisional.jsonl").read_bytes().replace(b"FAST", b"LAST", 1)
    (run_dir / "provisional.jsonl").write_bytes(damaged)
    verified = command("verify", run_dir)
    assert verified.returncode == 2
    assert "provisional.jsonl, lines 1 to" in verified.stdout + verified.stderr
