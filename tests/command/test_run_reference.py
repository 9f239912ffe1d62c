"""`classify-batch run`: every mode, language, parameter and status of the API's reference, on both versions of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from classify_batch.sandbox.jobs.ledger import read_jobs
from tests.support.api_reference import LANGUAGES, MODES, RULES
from tests.support.command_line import HEADER, KEY, Call, Done, calling, mirror, sandbox

VERSIONS = ("v1", "v2")


class Runs:
    """Runs of one file or more by configs that say only what matters."""

    def __init__(self, call: Call, folder: Path) -> None:
        self._call, self._folder = call, folder

    def __call__(self, base_url: str, name: str, version: str, *job: str, files: int = 1) -> Done:
        """A run in the directory `name`; `job` are lines of the config's [job] section."""
        [rule] = RULES
        rules = f'rules = [{{ type = "{rule["type"]}", description = "{rule["description"]}" }}]'
        lines = ["[api]", f'version = "{version}"', "[job]", rules, *job]
        (self._folder / f"{name}.toml").write_text("\n".join(lines) + "\n")
        (self._folder / "ids.txt").write_text("".join(f"file-{number}\n" for number in range(files)))
        return self._call(base_url, f"{name}.toml", "--input", "ids.txt", "--run-dir", name)

    def outcomes(self, name: str) -> list[dict[str, Any]]:
        """What became of the files of a run, in their order."""
        lines = [
            json.loads(line)
            for file in ("results.jsonl", "failures.jsonl")
            for line in (self._folder / name / file).read_text().splitlines()
        ]
        return sorted(lines, key=lambda each: str(each["file_id"]))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    """`classify-batch run`, in this process; bad jobs are not tried again."""
    return Runs(calling(capsys, monkeypatch, tmp_path, "run", settle_s="0.1", attempts="1"), tmp_path)


# --- What is shown --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_every_language_code_reaches_the_api(run: Runs, tmp_path: Path, version: str) -> None:
    """Each of the 86 codes of the reference reaches the API in a run of its own; on v2 with the limit of 5 pages."""
    with sandbox("--ledger", str(tmp_path / "ledger"), "--job-duration-s", "0") as base_url:
        for language in LANGUAGES:
            done = run(base_url, language, version, f'parsing_configuration = {{ lang = "{language}" }}')
            assert done.status == 0, done.err
    told = [job.config.parsing_configuration for job in read_jobs(tmp_path / "ledger")]
    assert [parsing and parsing.lang for parsing in told] == LANGUAGES
    assert {parsing and parsing.max_pages for parsing in told} == {5 if version == "v2" else None}
    assert len(set(LANGUAGES)) == 86


@pytest.mark.parametrize(("version", "mode"), [("v1", "FAST"), ("v1", "MULTIMODAL"), ("v2", "FAST")])
def test_every_mode_reaches_the_api_and_the_results(run: Runs, tmp_path: Path, version: str, mode: str) -> None:
    """It reaches the API, and stands in each result."""
    with sandbox("--ledger", str(tmp_path / "ledger")) as base_url:
        assert run(base_url, "run", version, f'mode = "{mode}"', files=3).status == 0
    assert {job.mode for job in read_jobs(tmp_path / "ledger")} == {mode}
    assert [each["mode"] for each in run.outcomes("run")] == [mode] * 3
    assert mode in MODES


def test_a_mode_that_v2_does_not_have_is_refused(run: Runs, tmp_path: Path) -> None:
    """It is refused with its line, before anything is sent or written."""
    with mirror() as server:
        done = run(server.base_url, "run", "v2", 'mode = "MULTIMODAL"')
        assert server.paths == []
    assert (done.status, "run.toml, line 5: job.mode: v2 of the API knows FAST only" in done.err) == (2, True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("parsing", "v1", "v2"),
    [
        (None, None, {"max_pages": 5}),
        ('lang = "de"', {"lang": "de"}, {"lang": "de", "max_pages": 5}),
        ("max_pages = 7", {"max_pages": 7}, {"max_pages": 7}),
        ("target_pages = [0, 3, 4]", {"target_pages": [0, 3, 4]}, {"max_pages": 5, "target_pages": "1,4-5"}),
        (
            "target_pages = [0, 1, 2, 3, 4, 5, 8]",
            {"target_pages": [0, 1, 2, 3, 4, 5, 8]},
            {"max_pages": 7, "target_pages": "1-6,9"},
        ),
    ],
)
def test_a_create_sends_what_the_config_says(run: Runs, parsing: str | None, v1: Any, v2: Any) -> None:
    """On the wire stands what the config says, in the words of the version; v2 is always sent a limit."""
    job = [] if parsing is None else [f"parsing_configuration = {{ {parsing} }}"]
    with mirror() as server:
        for version in VERSIONS:
            assert run(server.base_url, version, version, *job).status == 0
    first, second = server.bodies
    assert first == {
        "file_ids": ["file-0"],
        "rules": RULES,
        "mode": "FAST",
        **({} if v1 is None else {"parsing_configuration": v1}),
    }
    assert len(second.pop("transaction_id")) == 64
    assert second == {
        "file_input": "file-0",
        "configuration": {"rules": RULES, "mode": "FAST", "parsing_configuration": v2},
    }


@pytest.mark.parametrize("refuse", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_webhooks_reach_the_api_and_their_headers_stay_secret(
    run: Runs, tmp_path: Path, version: str, refuse: bool
) -> None:
    """They reach the API as they were given, and header values are in no output and in no file of the run directory,
    also where the API repeats them in its answer, or in its refusal."""
    webhook = (
        '{ webhook_url = "https://hooks.example/x", webhook_events = ["parse.success"], '
        f'webhook_headers = {{ Authorization = "{HEADER}" }} }}'
    )
    with mirror(refuse=refuse, error_message=f"told {HEADER}") as server:
        done = run(server.base_url, "run", version, f"webhook_configurations = [{webhook}]")
    assert done.status == int(refuse), done.err
    assert server.bodies[0]["webhook_configurations"] == [
        {
            "webhook_url": "https://hooks.example/x",
            "webhook_events": ["parse.success"],
            "webhook_headers": {"Authorization": HEADER},
        }
    ]
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        assert b"s3cr3t" not in path.read_bytes(), path
    assert KEY not in done.out + done.err


# --- Every status ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "fault", "statuses"),
    [
        ("v1", None, {"classified": 10}),
        ("v1", "partial=1", {"classified": 9, "not_answered": 1}),
        ("v1", "error=1", {"job_error": 10}),
        ("v1", "cancelled=1", {"job_cancelled": 10}),
        ("v1", "stuck=1", {"overdue": 10}),
        ("v2", None, {"classified": 10}),
        ("v2", "null_result=1", {"not_answered": 10}),
        ("v2", "error=1", {"job_error": 10}),
        ("v2", "cancelled=1", {"job_cancelled": 10}),
        ("v2", "stuck=1", {"overdue": 10}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_final_status_of_a_job_has_its_outcome(
    run: Runs, monkeypatch: pytest.MonkeyPatch, version: str, fault: str | None, statuses: dict[str, int]
) -> None:
    """SUCCESS, PARTIAL_SUCCESS, ERROR, CANCELLED and a PENDING that never ends on v1; COMPLETED with and without an
    answer, FAILED, CANCELLED and a RUNNING that never ends on v2: each file has one outcome, and why."""
    monkeypatch.setenv("CLASSIFY_BATCH_LIMITS__JOB_TIMEOUT_S", "1")
    with sandbox(*(("--fault", fault) if fault else ())) as base_url:
        done = run(base_url, "run", version, files=10)
    assert done.status == (1 if fault else 0), done.err
    words = [each.get("code") or each["outcome"].replace("unmatched", "classified") for each in run.outcomes("run")]
    assert {word: words.count(word) for word in words} == statuses
    if fault == "error=1":
        assert {"TIMEOUT" in each["message"] for each in run.outcomes("run")} == {True}
