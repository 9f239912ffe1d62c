"""The vendor's SDKs as judges: scripts that run in their environments, against a sandbox with three documents.

Each SDK lives in an environment of its own at the project's root, so that what it needs never meets what this package
needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

ROOT = Path(__file__).parents[2]
SDK_BODIES = ROOT / "tests" / "conformance" / "sdk_bodies"

RULES = """
rules = [{"type": "invoice", "description": "an invoice with line items and a total amount"},
         {"type": "contract", "description": "a contract between parties with obligations"}]
"""
"""What the documents are judged by: the first is an invoice, the second a contract, the third nothing."""


def python_of(name: str, requirement: str) -> Path:
    """The interpreter of an environment with these requirements, which is made if it isn't there."""
    environment = ROOT / name
    python, stamp = environment / "bin" / "python", environment / "complete"
    environment.mkdir(exist_ok=True)
    with FileLock(environment / "lock"):
        if not stamp.exists():  # where it was left half made, both commands go on
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
            pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirement.split()]
            subprocess.run(pip, check=True)
            stamp.write_text(requirement + "\n")
    return python


@contextmanager
def documents_served(folder: Path, *options: str) -> Iterator[str]:
    """A sandbox whose project holds three documents; gives its base URL."""
    (folder / "1.txt").write_text("Invoice 17: line items, total amount 30 EUR")
    (folder / "2.txt").write_text("This contract binds both parties to their obligations")
    (folder / "3.txt").write_text("A walk along the river")
    quick = () if "--job-duration-s" in options else ("--job-duration-s", "0.05")
    kind = ["--documents", str(folder), *quick, *options]
    command = [sys.executable, "-m", "classify_batch", "sandbox", *kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def printed(python: Path, text: str, base_url: str, key: str, flags: Sequence[str] = ()) -> Any:
    """What a script printed last, as JSON; it knows `rules`."""
    environment = {**os.environ, "LLAMA_CLOUD_API_KEY": key, "LLAMA_CLOUD_BASE_URL": base_url}
    environment.pop("PYTHONPATH", None)
    command = [str(python), *flags, "-c", RULES + text]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def recorded_now(python: Path, version: str) -> Any:
    """What the SDK of an environment sends and reads today, as `tests/conformance/sdk_bodies` records it."""
    command = [str(python), "-W", "ignore", str(SDK_BODIES / "record_bodies.py"), version]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def recorded_before(version: str) -> Any:
    """What is kept of it, and judges the models that client and sandbox share."""
    return json.loads((SDK_BODIES / f"{version}.json").read_text())
