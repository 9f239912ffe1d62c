"""`from classify_batch import Settings, run, arun`: the package as an ETL job imports it, on the embedded sandbox."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
import uvloop

from classify_batch import (
    ClassifyBatchError,
    ExitStatus,
    Progress,
    RunResult,
    Settings,
    UsageError,
    WorldError,
    arun,
    run,
)
from classify_batch.events import Event, FilesCommitted, JobSubmitted
from tests.support.leaving import EXIT_TIMEOUT_S, LeaveTimer


@pytest.fixture(params=["asyncio", "uvloop"], autouse=True)
def _event_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whoever imports the package runs either loop: uvicorn[standard], and so FastAPI, brings uvloop."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy() if request.param == "uvloop" else None)
    yield
    asyncio.set_event_loop_policy(None)


RULES = [{"type": "invoice", "description": "has an invoice number and a total"}]
IDS = [f"file-{number}" for number in range(25)]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLAMA_CLOUD_API_KEY", "LLAMA_CLOUD_API_KEY_FILE", "LLAMA_CLOUD_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def settings_with(**values: Any) -> Settings:
    """Settings for the embedded sandbox, in jobs of 10 files."""
    limits = {"requests_per_s": 500.0, "settle_s": 1.0}
    common = {"api": {"base_url": "sandbox"}, "job": {"rules": RULES}, "plan": {"files_per_job": 10}, "limits": limits}
    return Settings(**{**common, **values})


def outcome_ids(result: RunResult) -> list[str]:
    return sorted(outcome["file_id"] for outcome in (*result.results(), *result.failures()))


def generated() -> Iterator[str]:
    yield from IDS
    yield IDS[0]


async def generated_later() -> AsyncIterator[str]:
    for file_id in IDS:
        await asyncio.sleep(0)
        yield file_id


def in_a_file(folder: Path) -> Path:
    path = folder / "ids.jsonl"
    path.write_text("".join(json.dumps({"file_id": file_id}) + "\n" for file_id in IDS))
    return path


@pytest.mark.parametrize(
    "source",
    [
        lambda _: IDS,
        lambda _: generated(),
        lambda _: generated_later(),
        in_a_file,
        lambda folder: str(in_a_file(folder)),
    ],
    ids=["list", "generator", "async generator", "path", "path as text"],
)
def test_every_kind_of_source_gives_one_outcome_per_id(tmp_path: Path, source: Callable[[Path], Any]) -> None:
    """A list, a generator, an asynchronous one and a path all give one outcome per ID, and a result that says so."""
    result = run(settings_with(), source(tmp_path), tmp_path / "run")
    assert outcome_ids(result) == sorted(IDS)
    assert (result.state, result.exit_status, result.called) == ("complete", ExitStatus.COMPLETE, True)
    assert (result.reason, result.hint) == ("", "")
    assert result.counts == {
        "classified": result.types["invoice"],
        "unmatched": 25 - result.types["invoice"],
        "failed": 0,
    }
    assert result.manifest == json.loads((tmp_path / "run" / "manifest.json").read_text())


def test_results_are_read_lazily(tmp_path: Path) -> None:
    """Results and failures are iterators over the files, read when asked for and as often as asked for."""
    result = run(settings_with(), IDS, tmp_path / "run")
    lines = result.results()
    assert iter(lines) is lines
    assert next(lines)["outcome"] in ("classified", "unmatched")
    assert len(list(lines)) == 24
    assert len(list(result.results())) == 25
    assert list(result.failures()) == []


def test_failed_files_are_values_and_no_exceptions(tmp_path: Path) -> None:
    """Files that the project doesn't hold end in failures(), with a code and words, and no exception is raised."""
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "a.txt").write_text("an invoice")
    result = run(settings_with(sandbox={"documents": documents}), IDS[:3], tmp_path / "run")
    assert (result.state, result.exit_status) == ("complete", ExitStatus.FAILURES)
    assert {failure["file_id"]: failure["code"] for failure in result.failures()} == dict.fromkeys(IDS[:3], "rejected")
    assert all(failure["message"] for failure in result.failures())


def test_project_is_a_source(tmp_path: Path) -> None:
    """`project:` classifies all files of the project."""
    documents = tmp_path / "documents"
    documents.mkdir()
    for name in ("a.txt", "b.txt"):
        (documents / name).write_text("an invoice number and a total")
    result = run(settings_with(sandbox={"documents": documents}), "project:", tmp_path / "run")
    assert result.counts == {"classified": 2, "unmatched": 0, "failed": 0}


def test_a_complete_run_is_not_called_again(tmp_path: Path) -> None:
    """The same call on a complete run changes no byte and gives the same result, with or without the IDs."""
    first = run(settings_with(), IDS, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    for file_ids in (IDS, list(reversed(IDS)), generated(), None):
        again = run(settings_with(), file_ids, tmp_path / "run")
        assert (again.called, again.manifest) == (False, first.manifest)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before


def test_progress_is_reported(tmp_path: Path) -> None:
    """The observer hears of the run's end at the latest, with the final counts."""
    heard: list[Progress] = []
    result = run(settings_with(), IDS, tmp_path / "run", on_progress=heard.append)
    assert heard[-1].files == 25
    assert sum(heard[-1].outcomes.values()) == sum(result.counts.values()) == 25


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failing_display_does_not_end_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, asynchronous: bool
) -> None:
    """What `on_progress` raises is logged once, with its traceback, and the run goes on to its end."""
    calls = 0

    def fail(_progress: Progress) -> None:
        nonlocal calls
        calls += 1
        raise ZeroDivisionError("no terminal")

    async def fail_later(progress: Progress) -> None:
        await asyncio.sleep(0)
        fail(progress)

    result = run(settings_with(), IDS, tmp_path / "run", on_progress=fail_later if asynchronous else fail)
    assert (result.state, calls >= 2) == ("complete", True)
    records = [record for record in caplog.records if "on_progress" in record.getMessage()]
    assert len(records) == 1
    assert records[0].exc_info is not None


def test_an_asynchronous_on_progress_is_awaited(tmp_path: Path) -> None:
    """It hears of the end; one that never returns doesn't hold the run up."""
    heard: list[Progress] = []

    async def hear(progress: Progress) -> None:
        await asyncio.sleep(0)
        heard.append(progress)

    async def hang(_progress: Progress) -> None:
        await asyncio.sleep(3600)

    run(settings_with(), IDS, tmp_path / "run", on_progress=hear)
    assert sum(heard[-1].outcomes.values()) == 25
    assert run(settings_with(), IDS, tmp_path / "other", on_progress=hang).state == "complete"


@pytest.mark.parametrize("settings", ["job.toml", Path("job.toml"), {"api": {}}, None])
def test_what_is_no_settings_names_how_they_are_loaded(tmp_path: Path, settings: Any) -> None:
    """A path or a dict in their place is an error of the caller, and nothing is created."""
    for call in (run, lambda *arguments: asyncio.run(arun(*arguments))):
        with pytest.raises(UsageError, match="must be Settings") as caught:
            call(settings, IDS, tmp_path / "run")
        assert "Settings.load(" in caught.value.hint
        assert "Settings(api=" in caught.value.hint  # `load` needs a path
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("make", ["numpy.array", "pandas.Series"])
def test_a_column_of_a_table_is_a_source(tmp_path: Path, make: str) -> None:
    """NumPy's arrays and pandas' columns compare themselves with anything item by item."""
    module, _, name = make.partition(".")
    column = getattr(pytest.importorskip(module), name)(IDS)
    assert outcome_ids(run(settings_with(), column, tmp_path / "run")) == sorted(IDS)
    assert not run(settings_with(), column, tmp_path / "run").called


def test_rows_of_a_database_carry_their_columns(tmp_path: Path) -> None:
    """Mappings with the file ID under `column`; the same rows find their run again."""
    rows = [{"id": file_id, "path": f"in/{file_id}"} for file_id in IDS]
    settings = settings_with(plan={"files_per_job": 10, "carry": ["path"]})
    result = run(settings, iter(rows), tmp_path / "run", column="id")
    assert {each["file_id"]: each["carried"] for each in result.results()} == {
        file_id: {"path": f"in/{file_id}"} for file_id in IDS
    }
    assert not run(settings, rows, tmp_path / "run", column="id").called


INTERRUPTED = """
import sys
from classify_batch import Settings, run

def show(progress):
    if progress.jobs:
        print("running", flush=True)

settings = Settings(api={"base_url": "sandbox"}, job={"rules": [{"type": "a", "description": "any text at all"}]},
    plan={"files_per_job": 1}, limits={"jobs_in_flight": 1, "requests_per_s": 500.0})
try:
    run(settings, [f"file-{n}" for n in range(250)], sys.argv[1], on_progress=show)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_in_run_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    """It stops as the command does, within 4 s, and raises KeyboardInterrupt; the same call goes on."""
    (tmp_path / "script.py").write_text(INTERRUPTED)
    words = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "run")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        timer = LeaveTimer(process)
        process.send_signal(signal.SIGINT)
        assert timer.wait_s() < EXIT_TIMEOUT_S
        told, errors = process.communicate()
    assert told.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["state"] == "incomplete"
    assert manifest["jobs"] >= 1


SLOWLY_GIVEN = """
import sys, time
from classify_batch import Settings, run

def file_ids():
    print("asked", flush=True)
    for number in range(25):
        time.sleep(1)
        yield f"file-{number}"

settings = Settings(api={"base_url": "sandbox"}, job={"rules": [{"type": "a", "description": "any text at all"}]})
try:
    run(settings, file_ids(), sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_a_slow_generator(tmp_path: Path) -> None:
    """A generator that takes its time for each file ID is left within 4 s, too, and no job was created."""
    (tmp_path / "script.py").write_text(SLOWLY_GIVEN)
    words = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "run")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        timer = LeaveTimer(process)
        process.send_signal(signal.SIGINT)
        assert timer.wait_s() < EXIT_TIMEOUT_S
        told, errors = process.communicate()
    assert told == "interrupted\n"
    assert "Traceback" not in errors
    assert not (tmp_path / "run" / "run.json").exists()


def test_observers_are_given_every_event(tmp_path: Path) -> None:
    """Every job, and every file's end; one that fails doesn't reach the run."""

    class Kept:
        def __init__(self) -> None:
            self.events: list[Event] = []

        async def observe(self, event: Event) -> None:
            self.events.append(event)

    class Failing:
        async def observe(self, event: Event) -> None:
            raise OSError(f"nobody listens to {event}")

    kept = Kept()
    result = run(settings_with(), IDS, tmp_path / "run", observers=[Failing(), kept])
    assert result.exit_status == ExitStatus.COMPLETE
    submitted = [each for each in kept.events if isinstance(each, JobSubmitted)]
    committed = [each for each in kept.events if isinstance(each, FilesCommitted)]
    assert len(submitted) == len({each.job_id for each in submitted}) == len(committed) == -(-len(IDS) // 10)
    assert sum(sum(each.outcomes.values()) for each in committed) == len(IDS)


def test_arun_runs_inside_a_running_loop(tmp_path: Path) -> None:
    """`arun` runs beside other tasks of a loop that goes on."""
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    async def main() -> RunResult:
        heart = asyncio.create_task(beat())
        result = await arun(settings_with(), IDS, tmp_path / "run")
        heart.cancel()
        return result

    assert asyncio.run(main()).state == "complete"
    assert beats > 20


def test_run_refuses_a_running_loop_and_names_arun(tmp_path: Path) -> None:
    """`run` inside a running loop is refused in words that name `arun`, and nothing is made."""

    async def main() -> None:
        run(settings_with(), IDS, tmp_path / "run")

    with pytest.raises(UsageError) as caught:
        asyncio.run(main())
    assert "running event loop" in str(caught.value)
    assert "arun" in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_the_same_uuids_in_upper_case_are_the_same_run(tmp_path: Path) -> None:
    """A run goes on with its plan where the input spells its UUIDs otherwise, and still refuses other ones."""
    uuids = [str(uuid5(NAMESPACE_URL, file_id)) for file_id in IDS]
    run(settings_with(), uuids, tmp_path / "run")
    again = run(settings_with(), [uuid.upper() for uuid in uuids[::-1]], tmp_path / "run")
    assert not again.called
    assert outcome_ids(again) == sorted(uuids)
    other = str(uuid5(NAMESPACE_URL, "another")).upper()
    with pytest.raises(UsageError, match=rf"1 of the given ones are not in its plan \({other}\)"):
        run(settings_with(), [*uuids, other], tmp_path / "run")


@pytest.mark.parametrize("jobs_in_flight", [0, 2])
def test_a_cancelled_task_leaves_a_run_that_goes_on(tmp_path: Path, jobs_in_flight: int) -> None:
    """After `task.cancel()` the same call goes on where it was: every file has one outcome, and none was sent twice."""
    settings = settings_with(plan={"files_per_job": 1}, limits={"jobs_in_flight": 3, "requests_per_s": 500.0})

    async def main() -> None:
        def observe(seen: Progress) -> None:
            if seen.jobs >= jobs_in_flight:
                task.cancel()

        task = asyncio.create_task(arun(settings, IDS, tmp_path / "run", on_progress=observe))
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    if jobs_in_flight:
        assert json.loads((tmp_path / "run" / "manifest.json").read_text())["state"] == "incomplete"
    result = run(settings, IDS, tmp_path / "run")
    assert outcome_ids(result) == sorted(IDS)
    jobs = (tmp_path / "run" / "sandbox" / "jobs.jsonl").read_text()
    assert all(jobs.count(f'"{file_id}"') == 1 for file_id in IDS)


def test_two_runs_in_one_process_do_not_interfere(tmp_path: Path) -> None:
    """Two runs on two directories don't meet."""

    async def main() -> tuple[RunResult, RunResult]:
        return await asyncio.gather(
            arun(settings_with(), IDS, tmp_path / "one"),
            arun(settings_with(job={"rules": RULES, "mode": "MULTIMODAL"}), IDS[:7], tmp_path / "two"),
        )

    one, two = asyncio.run(main())
    assert (outcome_ids(one), outcome_ids(two)) == (sorted(IDS), sorted(IDS[:7]))
    assert {outcome["mode"] for outcome in one.results()} == {"FAST"}
    assert {outcome["mode"] for outcome in two.results()} == {"MULTIMODAL"}


def test_a_second_run_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    """Of two runs on one new directory one is refused, and the other's files stay untouched and complete."""

    async def main() -> list[RunResult | BaseException]:
        runs = (arun(settings_with(), IDS, tmp_path / "run") for _ in range(2))
        return await asyncio.gather(*runs, return_exceptions=True)

    refused, finished = sorted(asyncio.run(main()), key=lambda each: isinstance(each, RunResult))
    assert isinstance(refused, WorldError)
    assert refused.exit_status is ExitStatus.INCOMPLETE
    assert isinstance(finished, RunResult)
    assert outcome_ids(finished) == sorted(IDS)


@pytest.mark.parametrize(
    ("file_ids", "words"),
    [
        ([], "no file IDs"),
        (["a", ""], "empty"),
        (["a", "b c"], "space"),
        (["a", 3], "3"),
        (None, "holds no run"),
        ("absent.txt", "absent.txt"),
    ],
)
def test_a_bad_input_leaves_nothing_behind(tmp_path: Path, file_ids: Any, words: str) -> None:
    """An input that holds no file IDs raises one clear error with a hint, and makes no directory."""
    with pytest.raises(ClassifyBatchError) as caught:
        run(settings_with(), file_ids, tmp_path / "deep" / "run")
    assert isinstance(caught.value, UsageError)
    assert words in str(caught.value)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_source_reaches_the_caller(tmp_path: Path) -> None:
    """What a generator of the caller raises reaches the caller as it was raised, and makes no directory."""

    def broken() -> Iterator[str]:
        yield "a"
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        run(settings_with(), broken(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_span_ends_creating(tmp_path: Path) -> None:
    """`max_runtime_s` counts from the call, and leaves a run that goes on."""
    settings = settings_with(plan={"files_per_job": 5}, limits={"jobs_in_flight": 1, "requests_per_s": 500.0})
    first = run(settings, IDS, tmp_path / "run", max_runtime_s=0.001)
    assert (first.state, first.exit_status) == ("incomplete", ExitStatus.INCOMPLETE)
    assert "the time that was given is over" in first.reason
    assert run(settings, IDS, tmp_path / "run").state == "complete"
