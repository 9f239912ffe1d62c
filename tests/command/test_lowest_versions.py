"""The declared lower bounds are true: each direct dependency in its lowest version, installed in an environment of its
own, in which the real command runs. `scripts/versions` runs all command tests in such an environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.support.command_line import environment, sandbox
from tests.support.object_server import serving_objects

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIG = """
[job]
rules = [{ type = "invoice", description = "has line items and a total" }]
parsing_configuration = { lang = "de", max_pages = 3 }
[plan]
files_per_job = 50
[limits]
settle_s = 0.5
accept_s = 0
[triage]
accept_above = 0.8
"""


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    dependencies: list[str] = project["dependencies"]
    return dependencies


def requirements_of_extras() -> list[str]:
    """What tables and object stores need: each version may change what is called, so there is an upper bound, too."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return [*extras["parquet"], *extras["s3"]]


def lowest_of_extra(requirement: str) -> str:
    """The lowest version of a requirement that has both bounds."""
    found = re.fullmatch(r"([\w.-]+)>=([\w.]+),<[\w.]+", requirement)
    assert found is not None, requirement
    return f"{found[1]}=={found[2]}"


def lowest(requirement: str) -> str:
    """A requirement's lowest version alone."""
    found = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement)
    assert found is not None, f"{requirement}: each direct dependency has a lower bound, and nothing else"
    return f"{found[1]}=={found[2]}"


def python_with(name: str, python: str, versions: list[str]) -> Path:
    """The interpreter of an environment with these versions, which is made anew where others are asked for."""
    home = ROOT / name
    home.mkdir(exist_ok=True)
    with FileLock(home / "lock"):
        stamp, wanted = home / "complete", "\n".join(versions)
        if not stamp.exists() or stamp.read_text() != wanted:
            subprocess.run([python, "-m", "venv", str(home)], check=True, timeout=300)
            pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *versions]
            subprocess.run(pip, check=True, timeout=900)
            stamp.write_text(wanted)
    return home / "bin" / "python"


def python_3_13() -> str | None:
    """The interpreter, where this machine has it."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [*filter(None, [shutil.which("python3.13")]), *map(str, root.glob("versions/3.13.*/bin/python3.13"))]
    for each in found:  # pyenv's shims are there for versions that aren't
        if subprocess.run([each, "--version"], capture_output=True, check=False).returncode == 0:
            return each
    return None


def test_the_command_runs_with_the_lowest_versions(tmp_path: Path) -> None:
    """Every direct dependency as low as pyproject.toml allows: each command does what it should."""
    versions = [*map(lowest, requirements()), *map(lowest_of_extra, requirements_of_extras())]
    python = python_with(".venv-lowest-tests", sys.executable, versions)
    each_command_works(python, tmp_path)


def test_the_command_runs_with_python_3_13(tmp_path: Path) -> None:
    """The newest dependencies on a newer Python."""
    python = python_3_13()
    if python is None:
        pytest.skip("this machine has no Python 3.13")
    each_command_works(python_with(".venv-3.13-tests", python, [*requirements(), *requirements_of_extras()]), tmp_path)


def each_command_works(python: Path, folder: Path) -> None:
    """A run of each version of the API on a sandbox, and then every command about it."""
    (folder / "c.toml").write_text(CONFIG)
    (folder / "ids.csv").write_text(
        "file_id,name\n" + "".join(f"file-{number},{number}.pdf\n" for number in range(120))
    )
    (folder / "documents").mkdir()
    (folder / "documents" / "one.txt").write_text("an invoice with a total")

    def call(*words: str, status: int | None = 0, **variables: str) -> str:
        command = [str(python), "-W", "error::DeprecationWarning:classify_batch", "-m", "classify_batch", *words]
        values = environment(PYTHONPATH=str(ROOT), **variables)
        done = subprocess.run(command, cwd=folder, env=values, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == status or (status is None and done.returncode in (0, 1)), (words, done.stderr)
        return done.stdout

    def call_json(*words: str) -> Any:
        return json.loads(call(*words).splitlines()[-1])

    with sandbox() as base_url:
        at = ("--base-url", base_url)
        call("plan", "c.toml", "--input", "ids.csv", "--run-dir", "planned", *at)
        call("check", "c.toml", "--input", "ids.csv", *at)
        for version in ("v1", "v2"):
            run = ("run", "c.toml", "--input", "ids.csv", "--run-dir", version, "--carry", "name", "--json", *at)
            manifest = json.loads(call(*run, CLASSIFY_BATCH_API__VERSION=version).splitlines()[-1])
            assert manifest["state"] == "complete"
            assert call_json("status", version, "--json")["files"] == 120
            call("verify", version)
            call("export", version, f"{version}.csv")
        call("diff", "v1", "v2", status=None)  # the answers are random
        call("run", "c.toml", "--input", "ids.csv", "--run-dir", "again", "--reuse", "v1", *at)
        call("resume", "planned", *at)
        call("tune", "planned", "--jobs-in-flight", "3", status=2)  # it is complete
        call("jobs", "list", "--json", *at)
        call("files", "upload", "documents/one.txt", *at)
        call("files", "list", "--json", *at)
        call("run", "c.toml", "--input", "absent.txt", "--run-dir", "absent", status=2)
    call("run", "c.toml", "--input", "ids.csv", "--run-dir", "embedded", "--base-url", "sandbox")
    with serving_objects() as store:
        here: dict[str, Any] = {name: value for name, value in store.environ.items() if value is not None}
        for name in ("out.csv", "out.parquet", "out.arrow", "out.html"):
            url = f"s3://bucket/{name}"
            words = ("report", "v1", "--output", url) if name == "out.html" else ("export", "v1", url)
            call(*words, status=0, **here)
        for name in ("out.csv", "out.parquet", "out.arrow"):
            call("plan", "c.toml", "--input", f"s3://bucket/{name}", "--run-dir", f"from-{name}", status=0, **here)
        call("plan", "c.toml", "--input", "s3://bucket/absent", "--run-dir", "from-absent", status=2, **here)
    call("--help")
    call("manual", "settings")
