"""What all tests share: virtual time for what is asynchronous, and which tests are integration tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from trio.testing import MockClock

from classify_batch.engine import retry_failed
from classify_batch.operations import verify
from classify_batch.streams.spill import Limits

settings.register_profile("patient", deadline=None)  # how long an example takes on a busy machine is no fault
settings.load_profile("patient")

INTEGRATION = frozenset({"changed_answers", "crash", "explorer", "old_runs", "sandbox", "independent_server"})
"""Folders whose tests simulate whole runs, kill processes or start servers: for scripts/integration. So are tests that
are marked as driven by the vendor's SDK, or as slow. All others are for scripts/test."""


DISPLAY_VARIABLES = (
    "CI",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLUMNS",
    "FORCE_COLOR",
    "LINES",
    "NO_COLOR",
    "PAGER",
    "STY",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
    "XTERM_VERSION",
)
"""What decides, besides TERM, how commands show something; tests give those that they are about."""


def pytest_configure() -> None:
    """Tests see the same display everywhere, in CI too, and the commands that they start hear Ctrl-C."""
    for name in DISPLAY_VARIABLES:
        os.environ.pop(name, None)
    os.environ["TERM"] = "xterm"
    # A shell ignores SIGINT and SIGQUIT for all that it starts in the background, and nohup SIGHUP.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str | tuple[str, dict[str, Any]]:
    """Virtual time, in which waiting takes none; asyncio in real time for tests that are marked `real_time`: they use
    sockets, files in threads, or processes."""
    if request.node.get_closest_marker("real_time") is not None:
        return "asyncio"
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture
def few_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """For thousands of verifications: a run of a few files needs no 503 buckets."""
    monkeypatch.setattr(verify, "LIMITS", Limits(buckets=3))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a retry of a few files takes more than one line of its file."""
    monkeypatch.setattr(retry_failed, "PARTS_PER_BATCH", 1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of what must work on either event loop, in real time. In a file of such tests, `real_time` marks one that
    asyncio alone can run."""
    marked = metafunc.definition.get_closest_marker
    if marked("any_loop") is not None and marked("real_time") is None:
        metafunc.parametrize("anyio_backend", ["asyncio", "trio"])


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Each worker would import the folders of integration tests only to leave out their tests."""
    folder = collection_path.parent == Path(__file__).parent and collection_path.name in INTEGRATION
    return True if folder and config.option.markexpr == "not integration" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        marked = any(item.get_closest_marker(name) is not None for name in ("sdk", "slow"))
        if folder in INTEGRATION or marked:
            item.add_marker(pytest.mark.integration)
