"""Programs whose signal handlers raise, as the time limits of Celery and Airflow do."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from classify_batch import Progress, Settings, run, verify
from tests.support.command_line import environment

FILES = [f"file-{number}" for number in range(60)]
SETTINGS: dict[str, dict[str, object]] = {
    "api": {"base_url": "sandbox"},
    "job": {"rules": [{"type": "a", "description": "any text at all"}]},
    "plan": {"files_per_job": 1},
    "limits": {"jobs_in_flight": 1, "requests_per_s": 500.0},
}


class TimeLimitError(Exception):
    """A limit of the program's own."""


def raise_limit(_number: int, _frame: FrameType | None) -> None:
    raise TimeLimitError


@pytest.fixture
def limited() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, raise_limit)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("limited")
def test_what_a_handler_raises_stops_the_run_and_is_raised(tmp_path: Path) -> None:
    """Also where it comes just as a callback of the program's own runs; the same call goes on."""
    settings = Settings.model_validate(SETTINGS)

    def raise_in_the_middle(progress: Progress) -> None:
        if progress.jobs:
            signal.raise_signal(signal.SIGALRM)

    with pytest.raises(TimeLimitError):
        run(settings, FILES, tmp_path / "run", on_progress=raise_in_the_middle)
    assert signal.getsignal(signal.SIGALRM) is raise_limit
    assert not verify(tmp_path / "run").complete
    result = run(settings, FILES, tmp_path / "run")
    assert (result.state, result.manifest["jobs"]) == ("complete", len(FILES))


OFTEN = """
import random, signal, sys, threading
from classify_batch import Settings, run

class Limit(BaseException):
    pass

def raise_limit(*_):
    raise Limit

settings = Settings(api={"base_url": "sandbox"}, job={"rules": [{"type": "a", "description": "any text at all"}]},
    plan={"files_per_job": 1}, limits={"jobs_in_flight": 20, "requests_per_s": 200.0})
signal.signal(signal.SIGALRM, raise_limit)
moments = random.Random(1)
for number in range(25):
    signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.02, 1.2))
    try:
        run(settings, [f"file-{n}" for n in range(2000)], f"{sys.argv[1]}/{number}")
    except Limit:
        print("limited")
print([each.name for each in threading.enumerate()])
"""


@pytest.mark.slow
def test_a_program_whose_handlers_raise_comes_to_its_end(tmp_path: Path) -> None:
    """At whatever moment they do: no thread is left that keeps it."""
    (tmp_path / "script.py").write_text(OFTEN)
    words = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "limited\n" * 25 + "['MainThread']\n"), done.stderr
