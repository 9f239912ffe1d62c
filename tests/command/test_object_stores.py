"""Objects as inputs and targets, as a user meets them: the real command and a store on a socket that can fail."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import pytest
import zstandard
from arro3.core import Array, DataType, Table
from arro3.io import read_parquet, write_parquet

from classify_batch import UsageError, aexport, export, open_run, report
from classify_batch.errors import ObjectStoreError
from classify_batch.object_store import connect, read, write
from classify_batch.store import disk
from tests.support.command_line import PATIENCE_S, command, environment
from tests.support.complete_run import write_complete_run
from tests.support.leaving import EXIT_TIMEOUT_S, LeaveTimer
from tests.support.object_server import HANG, NO_STORE, SECRET, ObjectServer, serving_objects
from tests.support.start_command import COMMAND, CommandProcess

CONFIG = """
[api]
base_url = "sandbox"
[job]
rules = [{ type = "invoice", description = "has line items and a total" }]
[limits]
settle_s = 0.5
requests_per_s = 500
"""
IDS = [f"file-{number}" for number in range(1, 41)]
LINES = "".join(f"{each}\n" for each in IDS).encode()
CSV = "id,name\n" + "".join(f"{each},n-{each}\n" for each in IDS)


def text(values: list[str]) -> Array:
    return Array(values, type=DataType.string())


def parquet() -> bytes:
    file = BytesIO()
    write_parquet(Table.from_pydict({"id": text(IDS), "name": text([f"n-{each}" for each in IDS])}), file)
    return file.getvalue()


INPUTS: dict[str, bytes] = {
    "ids.txt": LINES,
    "ids.csv": CSV.encode(),
    "a b%20ü.jsonl": "".join(json.dumps({"id": each, "name": f"n-{each}"}) + "\n" for each in IDS).encode(),
    "ids.json": json.dumps([{"id": each, "name": "n"} for each in IDS]).encode(),
    "ids.csv.gz": gzip.compress(CSV.encode()),
    "no-suffix": zstandard.compress(CSV.encode()),
    "ids.parquet": parquet(),
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """A store whose variables are set, for this process and the commands that it starts."""
    with serving_objects() as server:
        for name, value in server.environ.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        monkeypatch.setitem(connect.RETRIES, "max_retries", 1)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a config and a complete run."""
    (tmp_path / "c.toml").write_text(CONFIG)
    write_complete_run(tmp_path / "run", 3_000, 100)
    return tmp_path


def planned(run_dir: Path) -> list[str]:
    lines = (run_dir / "plan.jsonl").read_text().splitlines()
    return [each for line in lines for each in json.loads(line)["file_ids"]]


def refused(folder: Path, *words: object, status: int) -> str:
    """What is said, and no secret with it."""
    said = command(*words, folder=folder, status=status).stderr
    assert said.splitlines()[-1].startswith("hint: "), said
    assert SECRET not in said
    assert "an-access-key" not in said
    return said


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
@pytest.mark.parametrize("name", INPUTS)
def test_an_object_is_an_input(folder: Path, server: ObjectServer, scheme: str, name: str) -> None:
    """In every format, compressed or not, in every kind of store; run.json keeps how it was read."""
    server.objects[f"/bucket/{name}"] = INPUTS[name]
    url = f"{scheme}://bucket/{name}"
    columns = () if name == "ids.txt" else ("--column", "id", "--carry", "name")
    command("plan", "c.toml", "--input", url, "--run-dir", "planned", *columns, folder=folder, status=0)
    assert planned(folder / "planned") == IDS
    kept = json.loads((folder / "planned" / "run.json").read_text())
    assert [each["source"] for each in kept["inputs"]] == [url]
    assert SECRET not in json.dumps(kept)


def test_an_input_is_read_in_ranges(folder: Path, server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a request of its own, and none is larger than a range."""
    monkeypatch.setattr(read, "RANGE_BYTES", 100)
    server.objects["/bucket/ids.txt"] = LINES
    command("plan", "c.toml", "--input", "s3://bucket/ids.txt", "--run-dir", "p", folder=folder, status=0)
    assert planned(folder / "p") == IDS
    assert len(server.asked) == -(-len(LINES) // 100)


def test_an_object_that_changes_while_it_is_read_is_no_input(
    folder: Path, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of one and half of another would be a set that nobody meant: 75, and the same command reads it again."""
    monkeypatch.setattr(read, "RANGE_BYTES", 100)

    def change(_method: str, _path: str) -> None:
        server.objects["/bucket/ids.txt"] = LINES if len(server.asked) < 2 else LINES.upper()

    server.fault = change
    plan = ("plan", "c.toml", "--input", "s3://bucket/ids.txt", "--run-dir", "p")
    assert "was changed while it was read" in refused(folder, *plan, status=75)
    assert not (folder / "p" / "run.json").exists()
    command(*plan, folder=folder, status=0)


def test_a_run_over_an_object_goes_on(folder: Path, server: ObjectServer) -> None:
    """The same command compares the object with the plan, as it does a file: the same IDs, and others."""
    server.objects["/bucket/ids.txt"] = LINES
    run = ("run", "c.toml", "--input", "s3://bucket/ids.txt", "--run-dir", "r")
    command("plan", *run[1:], folder=folder, status=0)
    command(*run, folder=folder, status=None)
    assert command(*run, "--json", folder=folder).stdout
    server.objects["/bucket/ids.txt"] = b"file-1\nanother\n"
    assert "holds a run of other file IDs" in refused(folder, *run, status=2)
    command("verify", "r", folder=folder, status=0)


def test_check_reports_what_is_wrong_with_an_object(folder: Path, server: ObjectServer) -> None:
    """As a finding, with the exit status that a run would have."""
    check = ("check", "c.toml", "--input", "s3://bucket/ids.txt", "--json")
    server.objects["/bucket/ids.txt"] = LINES
    assert json.loads(command(*check, folder=folder).stdout)["files"] == 40
    for fault, status, words in (
        ((403, "AccessDenied"), 77, "access is denied"),
        ((503, "SlowDown"), 75, "in trouble"),
        ((404, "NoSuchKey"), 2, "no such object"),
    ):
        server.fault = lambda _method, _path, fault=fault: fault  # type: ignore[misc]
        done = command(*check, folder=folder, status=status)
        found = [each for each in json.loads(done.stdout)["findings"] if each["code"] == "input"]
        assert [words in each["message"] for each in found] == [True], found


FAULTS: list[tuple[tuple[int, str], int, str]] = [
    ((404, "NoSuchKey"), 2, "there is no such object"),
    ((404, "NoSuchBucket"), 2, "there is no bucket bucket"),
    ((403, "AccessDenied"), 77, "access is denied (403 AccessDenied)"),
    ((403, "InvalidAccessKeyId"), 77, "access is denied"),
    ((401, "Unauthorized"), 77, "access is denied"),
    ((400, "ExpiredToken"), 77, "access is denied (400 ExpiredToken)"),
    ((301, "PermanentRedirect"), 2, "the bucket is in another region"),
    ((400, "AuthorizationHeaderMalformed"), 2, "the bucket is in another region"),
    ((400, "KeyTooLongError"), 2, "the store refuses it (400 KeyTooLongError)"),
    ((500, "InternalError"), 75, "the store is in trouble (500"),
    ((503, "SlowDown"), 75, "the store is in trouble (503"),
    ((429, "TooManyRequests"), 75, "the store is in trouble"),
]


@pytest.mark.parametrize(("fault", "status", "words"), FAULTS, ids=[fault[1] for fault, _, _ in FAULTS])
def test_a_refusal_says_whose_fault_it_is(
    folder: Path, server: ObjectServer, fault: tuple[int, str], status: int, words: str
) -> None:
    """For an input and for a target: the URL, the status, a hint, and no word of the text of the answer."""
    server.fault = lambda _method, _path: fault
    plan = ("plan", "c.toml", "--input", "s3://bucket/ids.txt", "--run-dir", "p")
    said = refused(folder, *plan, status=status)
    assert f"error: s3://bucket/ids.txt: {words}" in said
    wanted = "there is no bucket bucket" if fault[0] == 404 else words
    said = refused(folder, "export", "run", "s3://bucket/out.csv", status=status)
    assert f"error: s3://bucket/out.csv: {wanted}" in said
    assert server.objects == {}


def test_a_store_that_is_out_of_reach_is_tried_later(
    folder: Path, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens, nobody answers, no such name: 75, with the URL and where the store's address comes from."""
    plan = ("plan", "c.toml", "--input", "s3://bucket/ids.txt", "--run-dir", "p")
    server.fault = lambda _method, _path: (HANG, "")
    monkeypatch.setenv("AWS_TIMEOUT", "300ms")
    assert "can't be reached: it doesn't answer in time" in refused(folder, *plan, status=75)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    said = refused(folder, *plan, status=75)
    assert "s3://bucket/ids.txt: the store can't be reached: the connection is refused" in said
    assert "AWS_ENDPOINT_URL" in said
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.invalid")
    assert "can't be reached" in refused(folder, "export", "run", "s3://bucket/out.csv", status=75)


def test_settings_that_can_not_be_are_usage_errors(
    folder: Path, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint without TLS that nobody allowed, one that is none, no credentials, no storage account."""
    plan = ("plan", "c.toml", "--run-dir", "p", "--input")
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    assert "AWS_ALLOW_HTTP=true allows it" in refused(folder, *plan, "s3://bucket/ids.txt", status=2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    assert "AWS_ENDPOINT_URL is no http://" in refused(folder, *plan, "s3://bucket/ids.txt", status=2)
    for name, value in NO_STORE.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
    assert "there are no credentials" in refused(folder, *plan, "s3://bucket/ids.txt", status=77)
    assert "there is no storage account" in refused(folder, *plan, "az://bucket/ids.txt", status=2)


def test_a_url_that_may_be_signed_is_never_shown(folder: Path) -> None:
    """Neither by the commands that take objects nor by those that take paths."""
    signed, keyed = f"s3://bucket/k.csv?X-Amz-Signature={SECRET}", f"s3://id:{SECRET}@bucket/k.csv"
    for url in (signed, keyed):
        for words in (
            ("plan", "c.toml", "--run-dir", "p", "--input", url),
            ("run", "c.toml", "--run-dir", "p", "--input", url),
            ("export", "run", url),
            ("report", "run", "--output", url),
            ("status", url),
            ("run", "c.toml", "--input", "ids.txt", "--run-dir", url),
        ):
            refused(folder, *words, status=2)


@pytest.mark.parametrize("name", ["ids.csv", "out.jsonl"])
def test_without_the_extra_the_error_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """For an input and for a target."""
    for module in ("obstore", "obstore.store"):
        monkeypatch.setitem(sys.modules, module, None)
    words = ("plan", "c.toml", "--run-dir", "p", "--input") if name == "ids.csv" else ("export", "run")
    said = refused(folder, *words, f"s3://bucket/{name}", status=2)
    assert said.splitlines()[-1] == "hint: pip install 'classify-batch[s3]'"


@pytest.mark.parametrize("parts", [False, True], ids=["one request", "many parts"])
@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet", "out.arrow"])
def test_an_export_to_an_object_is_the_file(
    folder: Path, server: ObjectServer, monkeypatch: pytest.MonkeyPatch, name: str, parts: bool
) -> None:
    """Byte for byte, by one request or by an upload in parts, in place of what was there."""
    if parts:
        monkeypatch.setattr(write, "PART_BYTES", 5_000)
    server.objects[f"/bucket/a/{name}"] = b"old"
    exported = export(folder / "run", f"s3://bucket/a/{name}")
    assert (exported.files, exported.path, exported.url) == (3_000, None, f"s3://bucket/a/{name}")
    export(folder / "run", folder / name)
    assert server.objects[f"/bucket/a/{name}"] == (folder / name).read_bytes()
    assert any(each.startswith("POST") for each in server.asked) is parts
    assert server.uploads == {}


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_other_stores_are_written_alike(folder: Path, server: ObjectServer, scheme: str) -> None:
    """What fits into one request."""
    export(folder / "run", f"{scheme}://bucket/out.csv")
    export(folder / "run", folder / "out.csv")
    assert list(server.objects.values()) == [(folder / "out.csv").read_bytes()]
    assert list(server.objects) == ["/bucket/out.csv"]


def test_a_partition_and_nothing_at_all_are_objects(folder: Path, server: ObjectServer) -> None:
    """The key of a partition has the name of the run; an export without outcomes is an empty object."""
    done = command(
        "export", "run", "s3://bucket/table/", "--partition", "dt=2026-11-22", "--json", folder=folder, status=0
    )
    assert json.loads(done.stdout)["target"] == "s3://bucket/table/dt=2026-11-22/r.parquet"
    table = read_parquet(BytesIO(server.objects["/bucket/table/dt=2026-11-22/r.parquet"])).read_all()
    assert table.num_rows == 3_000
    assert export(folder / "run", "s3://bucket", partition=["dt=1"]).url == "s3://bucket/dt=1/r.parquet"
    export(folder / "run", "s3://bucket/none.jsonl", only="failed")
    assert server.objects["/bucket/none.jsonl"] == b""


def test_a_report_is_an_object(folder: Path, server: ObjectServer) -> None:
    """From the command and from Python; a browser can't be shown one."""
    assert report(folder / "run", "s3://bucket/a.html") == "s3://bucket/a.html"
    assert open_run(folder / "run").report("s3://bucket/b.html") == "s3://bucket/b.html"
    done = command("report", "run", "--output", "s3://bucket/c.html", folder=folder, status=0)
    assert done.stdout == "s3://bucket/c.html\n"
    assert [b"</html>" in each for each in server.objects.values()] == [True] * 3
    assert "--open shows a file" in refused(
        folder, "report", "run", "--output", "s3://bucket/d.html", "--open", status=2
    )


def test_a_target_that_is_no_format_is_refused_before_anything_is_asked(folder: Path, server: ObjectServer) -> None:
    """A suffix that is none, a folder without a partition."""
    assert "by the suffix of its name" in refused(folder, "export", "run", "s3://bucket/out.txt", status=2)
    assert "names no object" in refused(folder, "export", "run", "s3://bucket/out/", status=2)
    assert "a page of HTML" in refused(folder, "report", "run", "--output", "s3://bucket/out.csv", status=2)
    assert server.asked == []
    with pytest.raises(UsageError, match="was made a Path"):
        export(folder / "run", Path("s3://bucket/out.csv"))


# --- Whole or not at all ----------------------------------------------------------------------------------------------


def test_a_damaged_run_leaves_the_old_object(
    folder: Path, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found at the end of a run ends an upload that has begun: it is aborted, and no part is left."""
    monkeypatch.setattr(write, "PART_BYTES", 10_000)
    server.objects["/bucket/out.jsonl"] = b"old"
    results = folder / "run" / "results.jsonl"
    data = bytearray(results.read_bytes())
    data[-20] ^= 1
    results.write_bytes(data)
    assert "results.jsonl" in refused(folder, "export", "run", "s3://bucket/out.jsonl", status=2)
    assert server.objects == {"/bucket/out.jsonl": b"old"}
    assert any(each.startswith("POST") for each in server.asked)
    assert server.uploads == {}


@pytest.mark.parametrize("nth", [1, 3])
def test_a_part_that_is_refused_ends_the_upload(
    folder: Path, server: ObjectServer, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """The error is the store's, and nothing is left of the upload."""
    monkeypatch.setattr(write, "PART_BYTES", 10_000)
    server.objects["/bucket/out.jsonl"] = b"old"
    parts: list[str] = []

    def refuse_a_part(method: str, path: str) -> tuple[int, str] | None:
        parts.extend([path] if method == "PUT" else [])
        return (403, "AccessDenied") if method == "PUT" and len(parts) >= nth else None

    server.fault = refuse_a_part
    assert "access is denied" in refused(folder, "export", "run", "s3://bucket/out.jsonl", status=77)
    assert server.objects == {"/bucket/out.jsonl": b"old"}
    assert server.uploads == {}


def start(folder: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    values = environment(**variables)
    return CommandProcess([*COMMAND, *words], cwd=folder, env=values, stderr=subprocess.PIPE, text=True)


def hang_at_second_part(server: ObjectServer) -> None:
    parts: list[str] = []

    def hang(method: str, path: str) -> tuple[int, str] | None:
        parts.extend([path] if method == "PUT" else [])
        return (HANG, "") if method == "PUT" and len(parts) >= 2 else None

    server.fault = hang


def large_run(folder: Path) -> None:
    """A run whose export takes three parts."""
    write_complete_run(folder / "large", 100_000, 1_000)


def test_a_killed_export_leaves_the_old_object(folder: Path, server: ObjectServer) -> None:
    """SIGKILL while a part is on its way: the upload was never completed."""
    large_run(folder)
    server.objects["/bucket/out.jsonl"] = b"old"
    hang_at_second_part(server)
    with start(folder, "export", "large", "s3://bucket/out.jsonl") as process:
        assert server.hanging.wait(PATIENCE_S)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert server.objects == {"/bucket/out.jsonl": b"old"}


def test_a_stopped_export_leaves_the_old_object_in_time(folder: Path, server: ObjectServer) -> None:
    """SIGTERM while a store hangs: 75 within 4 seconds."""
    large_run(folder)
    server.objects["/bucket/out.jsonl"] = b"old"
    hang_at_second_part(server)
    with start(folder, "export", "large", "s3://bucket/out.jsonl") as process:
        assert server.hanging.wait(PATIENCE_S)
        timer = LeaveTimer(process)
        process.terminate()
        took_s = timer.wait_s()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, "Traceback" in said) == (75, False), said
    assert took_s < EXIT_TIMEOUT_S
    assert server.objects == {"/bucket/out.jsonl": b"old"}


@pytest.mark.parametrize("words", [["plan"], ["run"], ["check"]], ids=lambda each: str(each[0]))
def test_a_stop_while_an_input_hangs_ends_in_time(folder: Path, server: ObjectServer, words: list[str]) -> None:
    """SIGTERM: 75 within 4 seconds, and no run."""
    server.fault = lambda _method, _path: (HANG, "")
    place = [] if words == ["check"] else ["--run-dir", "p"]
    with start(folder, *words, "c.toml", "--input", "s3://bucket/ids.txt", *place) as process:
        assert server.hanging.wait(PATIENCE_S)
        timer = LeaveTimer(process)
        process.terminate()
        took_s = timer.wait_s()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, "Traceback" in said) == (75, False), said
    assert took_s < EXIT_TIMEOUT_S
    assert not (folder / "p" / "run.json").exists()


@pytest.mark.anyio
@pytest.mark.real_time
async def test_a_cancelled_export_aborts_its_upload(
    folder: Path, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is cancelled in the middle leaves no parts that would be paid for."""
    monkeypatch.setattr(write, "PART_BYTES", 10_000)
    # Else three blocks are the whole export, all of them taken before the first part is answered.
    monkeypatch.setattr(disk, "BLOCK_BYTES", 10_000)
    server.objects["/bucket/out.jsonl"] = b"old"
    scope = anyio.CancelScope()
    loop, cancelled = asyncio.get_running_loop(), threading.Event()

    def cancel_scope() -> None:
        scope.cancel()
        cancelled.set()

    def cancel(method: str, _path: str) -> Any:
        if method == "PUT":
            loop.call_soon_threadsafe(cancel_scope)
            assert cancelled.wait(PATIENCE_S)  # no part is answered before, so the object can't be whole

    server.fault = cancel
    with scope:
        await aexport(folder / "run", "s3://bucket/out.jsonl")
    assert scope.cancelled_caught
    assert server.objects == {"/bucket/out.jsonl": b"old"}
    assert server.uploads == {}
    server.fault = lambda _method, _path: (503, "SlowDown")
    with pytest.raises(ObjectStoreError, match="in trouble"):
        await aexport(folder / "run", "s3://bucket/out.jsonl")
