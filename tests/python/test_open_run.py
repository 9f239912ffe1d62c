"""`open_run`: a run directory as an object to read, whoever is at work in it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from classify_batch import ExitStatus, Outcome, Progress, RunHandle, UsageError, WorldError, arun, open_run, resume, run
from classify_batch.errors import DamagedError
from classify_batch.vocabulary import OutcomeKind
from tests.support.sandbox_settings import IDS, sandbox_settings, two_documents

needs_arrow = pytest.mark.skipif(find_spec("arro3") is None, reason="needs the extra arrow")

OLD_RUNS = Path(__file__).parent.parent / "old_runs"


def test_what_run_returns_is_read_like_what_open_run_opens(tmp_path: Path) -> None:
    """Both are handles, and say the same of the run."""
    result = run(sandbox_settings(), IDS, tmp_path / "run")
    opened = open_run(tmp_path / "run")
    assert isinstance(result, RunHandle)
    for name in ("state", "exit_status", "reason", "hint", "counts", "types", "run_dir"):
        assert getattr(opened, name) == getattr(result, name), name
    assert list(opened.outcomes()) == list(result.outcomes())
    assert opened.status == result.status


def test_an_outcome_is_a_dict_with_typed_attributes(tmp_path: Path) -> None:
    """Keys, JSON and equality are as before; attributes say the same, and a name that is none is an error."""
    result = run(two_documents(tmp_path / "documents"), [*IDS[:2], *map(str, document_ids())], tmp_path / "run")
    answered, failed = next(result.results()), next(result.failures())
    assert json.loads(json.dumps(answered)) == answered == dict(answered)
    assert (answered.file_id, answered.type, answered.confidence) == (
        answered["file_id"],
        answered["type"],
        answered["confidence"],
    )
    assert (answered.outcome, answered.failed, failed.failed) == (OutcomeKind.CLASSIFIED, False, True)
    assert (failed.code, failed.message, failed.type) == (failed["code"], failed["message"], None)
    assert (answered.ended_at, failed.ended_at) == (answered["classified_at"], failed["failed_at"])
    with pytest.raises(AttributeError):
        _ = answered.tpye  # type: ignore[attr-defined]  # which mypy tells, too


def document_ids() -> list[Any]:
    """The IDs of the documents of `two_documents`."""
    return [uuid5(NAMESPACE_URL, name) for name in ("a.txt", "b.txt")]


@pytest.mark.parametrize("only", ["classified", "unmatched", "failed", OutcomeKind.FAILED])
def test_outcomes_can_be_selected(tmp_path: Path, only: str) -> None:
    """`only` selects by outcome, and what it selects together is all."""
    result = run(two_documents(tmp_path / "documents"), [*IDS[:3], *map(str, document_ids())], tmp_path / "run")
    selected = list(result.outcomes(only))
    assert len(selected) == result.counts[only]
    assert all(each.outcome == only for each in selected)
    assert len(list(result.outcomes())) == 5


def test_a_selection_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    """A mistyped word, or a triage that the run hasn't: refused by the call, and not by the first step."""
    run(sandbox_settings(), IDS[:1], tmp_path / "run")
    with pytest.raises(UsageError, match="'clasified'") as caught:
        open_run(tmp_path / "run").outcomes("clasified")
    assert "classified, unmatched, failed, accepted, review" in caught.value.hint
    with pytest.raises(UsageError, match="triage"):
        open_run(tmp_path / "run").outcomes("review")


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    """`open_run` says at once that there is no run."""
    with pytest.raises(UsageError, match="holds no run"):
        open_run(tmp_path)


@pytest.mark.parametrize("name", [path.parent.parent.name for path in sorted(OLD_RUNS.glob("*/run/run.json"))])
def test_runs_of_older_versions_open(tmp_path: Path, name: str) -> None:
    """What 0.2 wrote is read: as many outcomes as the journal counts, each file once, also after a kill."""
    directory = shutil.copytree(OLD_RUNS / name / "run", tmp_path / name)
    opened = open_run(directory)
    outcomes = list(opened.outcomes())
    assert len({each.file_id for each in outcomes}) == len(outcomes) == sum(opened.counts.values())
    for kind, count in opened.counts.items():
        assert len(list(opened.outcomes(kind))) == count
    if find_spec("arro3") is not None:
        assert opened.to_arrow().num_rows == len(outcomes)


def test_a_run_that_is_on_is_read_whole_line_by_whole_line(tmp_path: Path) -> None:
    """While a run is on, what is committed is read, and the status names who holds the run."""
    seen: list[tuple[str, int, int]] = []

    def look(progress: Progress) -> None:
        if progress.jobs:
            opened = open_run(tmp_path / "run")
            status = opened.status
            seen.append((status["state"], len(list(opened.outcomes())), len(progress.outcomes)))
            assert "holder" in status

    settings = sandbox_settings(plan={"files_per_job": 1}, limits={"jobs_in_flight": 1, "requests_per_s": 500.0})
    asyncio.run(arun(settings, IDS, tmp_path / "run", on_progress=look))
    assert any(state == "running" and 0 < count < len(IDS) for state, count, _ in seen)


def test_what_is_not_committed_is_not_read(tmp_path: Path) -> None:
    """Half a line behind the committed ones, as a killed process leaves it, is no outcome; a changed one is damage."""
    run(sandbox_settings(), IDS, tmp_path / "run")
    results = tmp_path / "run" / "results.jsonl"
    whole = results.read_bytes()
    results.write_bytes(whole + b'{"file_id":"half')
    assert len(list(open_run(tmp_path / "run").outcomes())) == len(IDS)
    results.write_bytes(whole.replace(b'"type":"invoice"', b'"type":"receipt"', 1))
    with pytest.raises(DamagedError, match=r"results\.jsonl"):
        list(open_run(tmp_path / "run").outcomes())


def test_failures_are_those_since_the_last_retry(tmp_path: Path) -> None:
    """After a retry each file has one outcome, and an iterator that a retry overtakes says so."""
    settings = two_documents(tmp_path / "documents")
    run(settings, IDS[:3], tmp_path / "run")
    overtaken = open_run(tmp_path / "run").outcomes("failed")
    resume(tmp_path / "run", settings, retry_failed=True)
    assert len(list(open_run(tmp_path / "run").outcomes())) == 3
    with pytest.raises(WorldError, match="took its failed files up again"):
        list(overtaken)


def test_resume_goes_on_with_what_the_directory_says(tmp_path: Path) -> None:
    """It needs neither settings nor input, and ends the run."""
    settings = sandbox_settings(plan={"files_per_job": 5}, limits={"jobs_in_flight": 1, "requests_per_s": 500.0})
    assert run(settings, IDS, tmp_path / "run", max_runtime_s=0.001).exit_status is ExitStatus.INCOMPLETE
    assert resume(tmp_path / "run").state == "complete"
    assert len(list(open_run(tmp_path / "run").outcomes())) == len(IDS)


def test_a_run_shows_itself_in_a_notebook(tmp_path: Path) -> None:
    """The HTML names state and counts, escapes what comes from outside, and a report can be made inside a loop."""
    rules = [{"type": "invoice", "description": "has an invoice number and a total"}]
    run(sandbox_settings(job={"rules": rules}), IDS, tmp_path / "<run>")
    opened = open_run(tmp_path / "<run>")
    html = opened._repr_html_()
    assert "25 of 25 have their outcome" in html
    assert "complete" in html
    assert "&lt;run&gt;" in html
    assert "<run>" not in html

    async def in_a_notebook() -> Path:
        return opened.report(tmp_path / "page.html")

    assert asyncio.run(in_a_notebook()).read_text().startswith("<!")


# --- Arrow ------------------------------------------------------------------------------------------------------------


@needs_arrow
def test_outcomes_are_an_arrow_table(tmp_path: Path) -> None:
    """Typed columns, a row for each file, with what is carried; also the failed ones."""
    settings = two_documents(tmp_path / "documents", plan={"carry": ["path", "type"]})
    rows = [{"file_id": each, "path": f"in/{each}", "type": 7} for each in [*IDS[:2], *map(str, document_ids())]]
    result = run(settings, rows, tmp_path / "run")
    table = result.to_arrow()
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    outcomes = list(result.outcomes())
    assert columns["file_id"] == [each.file_id for each in outcomes]
    assert columns["confidence"] == [each.confidence for each in outcomes]
    assert columns["path"] == [f"in/{each}" for each in columns["file_id"]]
    assert set(columns["carried.type"]) == {"7"}
    assert [moment and moment.isoformat()[:19] for moment in columns["failed_at"]] == [
        each["failed_at"][:19] if each.failed else None for each in outcomes
    ]
    assert result.to_arrow("failed").num_rows == 2


@needs_arrow
def test_an_empty_run_has_its_columns(tmp_path: Path) -> None:
    """A run without outcomes is a table without rows, and with all columns of one that has some."""
    settings = sandbox_settings(plan={"files_per_job": 5}, limits={"jobs_in_flight": 1, "requests_per_s": 500.0})
    run(settings, IDS, tmp_path / "empty", max_runtime_s=0.001)
    empty = open_run(tmp_path / "empty").to_arrow()
    full = run(sandbox_settings(), IDS, tmp_path / "full").to_arrow()
    assert (empty.num_rows, full.num_rows) == (0, len(IDS))
    assert empty.schema == full.schema


@needs_arrow
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "duckdb"])
def test_tables_read_a_run(tmp_path: Path, library: str) -> None:
    """pandas, polars, pyarrow and DuckDB take the run itself, by Arrow's stream."""
    module = pytest.importorskip(library)
    result = run(sandbox_settings(), IDS, tmp_path / "run")
    expected = [each.file_id for each in result.outcomes()]
    match library:
        case "pandas":
            pytest.importorskip("pyarrow")
            pytest.importorskip("pandas", "3.0")
            assert list(module.DataFrame.from_arrow(result)["file_id"]) == expected
        case "polars":
            frame = module.DataFrame(result)
            assert frame["file_id"].to_list() == expected
            assert frame["confidence"].dtype == module.Float64
        case "pyarrow":
            assert module.table(result)["file_id"].to_pylist() == expected
        case "duckdb":
            rows = module.sql("select file_id from result").fetchall()
            assert [file_id for (file_id,) in rows] == expected


def test_without_arro3_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without the extra is shown which one it needs; everything else of a handle works."""
    result = run(sandbox_settings(), IDS, tmp_path / "run")
    monkeypatch.setitem(sys.modules, "arro3.core", None)
    monkeypatch.delitem(sys.modules, "classify_batch.operations.arrow_table", raising=False)
    for read in (result.to_arrow, result.__arrow_c_stream__):
        with pytest.raises(UsageError) as caught:
            read()
        assert "classify-batch[parquet]" in caught.value.hint
    assert len(list(result.outcomes())) == len(IDS)


def test_outcomes_read_as_objects() -> None:
    """An outcome matches by its attributes."""
    match Outcome(file_id="a", outcome="failed", code="rejected"):
        case Outcome(failed=True, code="rejected", file_id=file_id):
            assert file_id == "a"
        case _:
            pytest.fail("no match")
