"""Where the bench runs: environments, the server, the cores, and what a command costs.

The server is pinned to the last core and everything else to the first, so that a client that works harder never takes
time from the server. What a command costs is what the kernel says of its process (`wait4`). The kernel counts the
starter's memory at the fork as the child's, too: so the bench itself stays small, and leaves big work to children.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).parent
KEY = "bench-key-0123456789"

ENVIRONMENTS = {
    "ours": ("--editable", f"{ROOT}[parquet]"),  # as a user installs it: what the tests need costs memory and time
    "sdk": ("llama-cloud==1.6.0",),
    "llamaclassify": ("llama-cloud-services==0.6.94",),
    "tools": ("uvloop>=0.19", "altair>=5.4", "vl-convert-python>=1.6"),
}
"""What is installed where; each is an environment of its own, since what they need doesn't go together."""


def environment(name: str) -> Path:
    """The interpreter of an environment beside this folder, which is made at its first use."""
    folder = ROOT / f".venv-bench-{name}"
    python, stamp = folder / "bin" / "python", folder / "complete"
    wanted = "\n".join(ENVIRONMENTS[name]) + "\n"
    if name == "ours":
        wanted += sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest() + "\n"
    if not stamp.exists() or stamp.read_text() != wanted:  # where it was left half made, both commands go on
        print(f"making {folder.name}: {', '.join(ENVIRONMENTS[name])}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *ENVIRONMENTS[name]]
        subprocess.run(pip, check=True)
        stamp.write_text(wanted)
    return python


def pin_clients() -> int | None:
    """Leaves the last core to the server; gives its number, or None where there is but one."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    os.sched_setaffinity(0, {cores[0]})
    return cores[-1]


def spread_clients(core: int | None) -> None:
    """Gives them the server's core as well, where nobody asks the server."""
    if core is not None:
        os.sched_setaffinity(0, {*os.sched_getaffinity(0), core})


class Server:
    """The bench server in a process of its own, for as long as the block lasts."""

    def __init__(self, python: Path, core: int | None) -> None:
        pin = [] if core is None else ["--core", str(core)]
        self._command = [str(python), str(SCRIPTS / "server.py"), "--key", KEY, *pin]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def reset(self, options: Mapping[str, Any]) -> None:
        data = json.dumps({"key": KEY, **options}).encode()
        request = urllib.request.Request(f"{self.base_url}/bench/reset", data, method="POST")
        with urllib.request.urlopen(request) as answer:
            answer.read()

    def stats(self, slots: int) -> dict[str, Any]:
        figures: dict[str, Any] = self._get(f"stats?slots={slots}")
        return figures

    def first_s(self) -> float | None:
        """When the first request came, by the monotonic clock that all processes of a machine share."""
        moment: float | None = self._get("first")
        return moment

    def _get(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.base_url}/bench/{what}") as answer:
            return json.load(answer)


class NoServer(Server):
    """For commands that ask nobody."""

    def __init__(self) -> None:
        self.base_url = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took, from its start to its end, by the kernel's books."""

    wall_s: float
    cpu_s: float
    rss_mib: float
    stdout: str


@dataclass(frozen=True, slots=True)
class Lab:
    """What every measurement needs.

    Attributes:
        tree: another checkout whose package is measured instead of this one's.
    """

    server: Server
    tree: Path | None = None

    def classify_batch(self, *words: object) -> list[str]:
        return [str(environment("ours").parent / "classify-batch"), *map(str, words)]

    def cost(self, command: Sequence[object], statuses: Iterable[int] = (0,)) -> Cost:
        """Runs a command to its end. Leaves the bench where it ends with any other status."""
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            began_s = time.monotonic()
            process = self.start(command, stdout, stderr)
            try:
                _, status, used = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
            wall_s = time.monotonic() - began_s
            process.returncode = os.waitstatus_to_exitcode(status)
            stdout.seek(0)
            if process.returncode not in statuses:
                stderr.seek(0)
                sys.exit(f"{' '.join(map(str, command))}\nended with {process.returncode}:\n{stderr.read()[-4000:]}")
            return Cost(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / _MAXRSS_PER_MIB, stdout.read())

    def start(self, command: Sequence[object], stdout: IO[str], stderr: IO[str]) -> subprocess.Popen[str]:
        told = {"LLAMA_CLOUD_API_KEY": KEY, "LLAMA_CLOUD_BASE_URL": self.server.base_url}
        others = {name: value for name, value in os.environ.items() if not name.startswith("CLASSIFY_BATCH_")}
        # What a user runs was compiled once: a checkout that compiles at each start would measure the compiler.
        others.pop("PYTHONDONTWRITEBYTECODE", None)
        trees = [] if self.tree is None else [self.tree]
        others["PYTHONPATH"] = os.pathsep.join(map(str, [*trees, SCRIPTS.parent]))  # clients import from this suite
        words = [str(word) for word in command]
        return subprocess.Popen(words, stdout=stdout, stderr=stderr, env=others | told, text=True)


_MAXRSS_PER_MIB = 1024 if sys.platform == "linux" else 1024 * 1024
