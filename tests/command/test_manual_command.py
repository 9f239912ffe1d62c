"""`classify-batch manual`: pages that come with the package."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from classify_batch import Settings
from classify_batch.cli.manual import CONFIGS, PAGES

MANUAL = Path(__file__).parents[2] / "classify_batch" / "manual"
COMMAND = [sys.executable, "-m", "classify_batch", "manual"]


def manual(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, timeout=60, env={**os.environ, **environment}, check=False
    )


def on_a_terminal(*arguments: str, person: bool = False, **more: str) -> str:
    """What the command shows on a terminal of 100 columns. `person`: somebody sits at it, and could press a key."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm", "PYTHONUTF8": "1"} | more
    stdin = slave if person else subprocess.DEVNULL
    with subprocess.Popen([*COMMAND, *arguments], stdin=stdin, stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                block = os.read(master, 65_536)
            except OSError:  # how Linux says that nobody has the terminal any more
                break
            if not block:
                break
            shown += block
    os.close(master)
    assert process.returncode == 0
    return shown.decode()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_in_a_pipe_is_its_markdown(page: str) -> None:
    """In a pipe a page comes byte for byte, also where the terminal's encoding isn't UTF-8."""
    shown = manual(page, PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert shown.stdout == (MANUAL / f"{page}.md").read_bytes()


@pytest.mark.parametrize("config", CONFIGS)
def test_an_example_config_can_be_written_to_a_file(config: str, tmp_path: Path) -> None:
    """`classify-batch manual sandbox.toml > my.toml` makes a config that loads."""
    shown = manual(config)
    assert shown.returncode == 0
    (tmp_path / "my.toml").write_bytes(shown.stdout)
    assert Settings.load(tmp_path / "my.toml").job.rules


def test_a_page_on_a_terminal_is_rendered() -> None:
    """On a terminal headings and tables are drawn, and links are words, since nobody can follow them."""
    shown = on_a_terminal("exit-statuses")
    assert "\x1b[" in shown
    assert "Exit statuses" in shown
    assert "|---|" not in shown
    assert "](" not in shown


def test_a_long_page_is_shown_by_the_pager(tmp_path: Path) -> None:
    """Of 120 lines on a screen of 24 only the end would be seen; where nobody can turn pages, it is printed."""
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ncat > {tmp_path}/shown\n")
    pager.chmod(0o700)
    assert "What is needed" not in on_a_terminal("start", person=True, PAGER=str(pager))
    assert "What is needed" in (tmp_path / "shown").read_text()
    assert "What is needed" in on_a_terminal("start", PAGER=str(pager))
    assert "What is needed" in on_a_terminal("start", person=True, PAGER=str(pager), TERM="dumb")


def test_without_a_page_the_list_comes() -> None:
    """The list has a line for each page and config, short enough for a terminal of 80 columns."""
    lines = manual().stdout.decode().splitlines()
    assert [line.split()[0] for line in lines if line] == [*PAGES, *CONFIGS]
    assert [line for line in lines if len(line) > 95] == []
    assert [line for line in lines if line and len(line.split()) < 3] == []


def test_an_unknown_page_is_a_usage_error() -> None:
    """The hint names every page; nothing goes to stdout."""
    shown = manual("receipts")
    error, hint = shown.stderr.decode().splitlines()
    assert (shown.returncode, shown.stdout) == (2, b"")
    assert error == "error: the manual has no page 'receipts'"
    assert hint.startswith("hint: ")
    assert [page for page in (*PAGES, *CONFIGS) if page not in hint] == []


def test_a_page_without_rich_is_plain(tmp_path: Path) -> None:
    """Where rich isn't there, a terminal gets the Markdown."""
    (tmp_path / "rich.py").write_text("raise ImportError('rich is not installed')\n")
    shown = on_a_terminal("sources", PYTHONPATH=str(tmp_path))
    assert shown.replace("\r\n", "\n") == (MANUAL / "sources.md").read_text("utf-8")


def test_the_list_and_a_page_in_a_pipe_load_nothing_heavy() -> None:
    """Reading the manual is as quick as asking for help."""
    code = (
        "import runpy, sys\n"
        "sys.argv = ['classify-batch', 'manual', 'recipes']\n"
        "try: runpy.run_module('classify_batch', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stderr.split()) & {"rich", "pydantic", "anyio", "asyncio", "httpx", "msgspec"} == set()
