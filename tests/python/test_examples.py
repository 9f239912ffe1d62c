"""The examples of the manual's page about Python: each is a file here, is type-checked strictly, and runs."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest
from arro3.core import Array, DataType, Table
from arro3.io import read_parquet, write_parquet

import classify_batch
from tests.support.command_line import KEY, sandbox
from tests.support.s3_server import serving_s3
from tests.support.sandbox_settings import RULES

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path for path in (Path(__file__).parent / "examples").glob("*.py") if path.stem != "__init__")
PAGE = (ROOT / "classify_batch" / "manual" / "python.md").read_text()

ON_S3 = "a_night_on_s3"
"""An example that needs a server, and a test of its own."""

STARTED_BY_NAME = {"inside_an_event_loop": "classify"}
"""Examples that only define what a running loop awaits."""

CALL = """
import asyncio, runpy, sys
asyncio.run(runpy.run_path(sys.argv[1])[sys.argv[2]](["file-1", "file-2"]))
"""


def test_the_page_has_every_example_and_no_other_code() -> None:
    """Each Python block of the page is an example here, word by word, and the other way round."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.DOTALL)
    assert sorted(blocks) == sorted(path.read_text() for path in EXAMPLES)


def write_config(folder: Path, base_url: str) -> None:
    """The config of all examples."""
    rules = "\n".join(f"  {{ type = {each['type']!r}, description = {each['description']!r} }}," for each in RULES)
    (folder / "my.toml").write_text(
        f'[api]\nbase_url = "{base_url}"\n[job]\nrules = [\n{rules}\n]\n[limits]\nrequests_per_s = 500.0\n'
    )


def make_workplace(folder: Path, base_url: str) -> None:
    """What the examples find: a config, inputs, a database, and runs of earlier nights."""
    write_config(folder, base_url)
    for name in ("ids", "invoices", "contracts"):
        (folder / f"{name}.txt").write_text(f"{name}-1\n{name}-2\n")
    config = classify_batch.Settings.load(folder / "my.toml")
    for name in ("today", "monday", "tuesday", "from-python"):
        classify_batch.run(config, ["file-1", "file-2"], folder / "runs" / name)
    with sqlite3.connect(folder / "documents.db") as database:
        database.execute("create table documents (file_id, name)")
        database.execute("create table outcomes (file_id primary key, outcome, type, confidence, code)")
        database.executemany("insert into documents values (?, ?)", [("file-1", "a.pdf"), ("file-2", "b.pdf")])
    database.close()


def run_program(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, in which every warning is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.slow
def test_every_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends well, as a program of its own, against a sandbox; the night's outcomes are in its table."""
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", KEY)
    with sandbox() as base_url:
        make_workplace(tmp_path, base_url)
        for path in EXAMPLES:
            if path.stem == ON_S3 or (path.stem == "tables" and find_spec("polars") is None):
                continue
            name = STARTED_BY_NAME.get(path.stem)
            words = [str(path)] if name is None else ["-c", CALL, str(path), name]
            done = run_program(*words, folder=tmp_path)
            assert done.returncode == 0, f"{path.name}: {done.stderr}"
    database = sqlite3.connect(tmp_path / "documents.db")
    assert database.execute("select count(*), count(type) from outcomes").fetchone() == (2, 2)
    database.close()


@pytest.mark.slow
def test_two_nights_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The author of an ETL job in at most 40 lines: IDs from an object, events in the own log, outcomes in polars while
    they come, failures in a table, a partition a night; and the second night pays for what is new only."""
    pytest.importorskip("polars")
    script = Path(__file__).parent / "examples" / f"{ON_S3}.py"
    assert len(script.read_text().splitlines()) <= 40
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", KEY)
    (tmp_path / "documents").mkdir()
    names = [f"{number}.txt" for number in range(8)]
    for name in names:
        (tmp_path / "documents" / name).write_text("an invoice number, line items and a total")
    ids = [str(uuid5(NAMESPACE_URL, name)) for name in names]
    with serving_s3() as store, sandbox("--documents", str(tmp_path / "documents")) as base_url:
        for name, value in store.environ.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        write_config(tmp_path, base_url)
        for date, known in (("2026-11-22", ids[:5]), ("2026-11-23", ids)):
            store.put("inbox.parquet", parquet_of([*known, "stranger"]))
            done = run_program(str(script), date, folder=tmp_path)
            assert done.returncode == 1, done.stderr  # a file failed, and none is tolerated
            assert "INFO:nightly:JobSubmitted(" in done.stderr
            assert "('invoice', " in done.stderr
            run_dir = tmp_path / "runs" / date
            run_id = json.loads((run_dir / "run.json").read_text())["run_id"]
            table = read_parquet(BytesIO(store.get(f"outcomes/dt={date}/{run_id}.parquet"))).read_all()
            assert sorted(table.column("file_id").to_pylist()) == sorted([*known, "stranger"])
        assert json.loads((run_dir / "manifest.json").read_text())["reused"] == 5
    database = sqlite3.connect(tmp_path / "nightly.db")
    failed = database.execute("select file_id, date, code from failed").fetchall()
    database.close()
    assert failed == [("stranger", "2026-11-23", "rejected")]


def parquet_of(ids: list[str]) -> bytes:
    """A Parquet file with a column of IDs."""
    file = BytesIO()
    write_parquet(Table.from_pydict({"id": Array(ids, type=DataType.string())}), file)
    return file.getvalue()


@pytest.mark.slow
def test_pyright_accepts_the_examples_and_finds_a_mistyped_attribute(tmp_path: Path) -> None:
    """In its strict mode, as mypy does at every check; and a mistake in a name is an error."""
    pytest.importorskip("pyright")
    (tmp_path / "wrong.py").write_text(
        "from classify_batch import open_run\n\nprint([each.tpye for each in open_run('runs').outcomes()])\n"
    )
    config = {
        "include": [str(Path(__file__).parent / "examples"), str(tmp_path / "wrong.py")],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "reportMissingImports": "none" if find_spec("polars") is None else "error",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    words = [
        sys.executable,
        "-m",
        "pyright",
        "--outputjson",
        "--project",
        str(tmp_path),
        "--pythonpath",
        sys.executable,
    ]
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False, env=environment)
    errors = [
        (Path(each["file"]).name, each["message"])
        for each in json.loads(done.stdout)["generalDiagnostics"]
        if find_spec("polars") is not None or Path(each["file"]).stem not in ("tables", ON_S3)
    ]
    assert {name for name, _ in errors} == {"wrong.py"}, errors
    assert any("tpye" in message for _, message in errors)


def test_importing_the_package_takes_no_time() -> None:
    """Less than 10 ms of CPU time beyond what Python itself takes, and nothing but the package's own file."""
    script = (
        "import sys, typing, collections.abc, time; before = set(sys.modules); began = time.process_time()\n"
        "import classify_batch\n"
        "print(time.process_time() - began, *(set(sys.modules) - before))"
    )
    words = [sys.executable, "-c", script]
    runs = [subprocess.run(words, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    assert min(float(seconds) for seconds, *_ in runs) < 0.010
    assert {name for _, *names in runs for name in names} == {"classify_batch"}
