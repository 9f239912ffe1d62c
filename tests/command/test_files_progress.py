"""`files upload` and `files list` on a terminal and off it: progress on stderr, and only the output on stdout."""

import json
import os
import pty
import select
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import PATIENCE_S, command_process, environment, sandbox
from tests.support.folder_run import make_inbox
from tests.support.start_command import COMMAND, CommandProcess

WORDS = {
    "upload": ("files", "upload", "--recursive", "inbox"),
    "list": ("files", "list", "--all", "--page-size", "1"),
}
SHOWN = {"upload": "files uploaded, ", "list": "of 4 files listed"}


def with_stderr_on_a_terminal(folder: Path, *words: str) -> tuple[str, str]:
    """What a command writes into a pipe as its stdout, and to a terminal as its stderr."""
    ours, theirs = pty.openpty()
    values = environment(TERM="xterm", COLUMNS="80", LINES="24", CI=None)
    values.pop("CI", None)
    with CommandProcess(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=theirs, cwd=folder, env=values, text=True
    ) as process:
        os.close(theirs)
        seen = b""
        while select.select([ours], [], [], PATIENCE_S)[0]:
            try:
                block = os.read(ours, 4096)
            except OSError:
                break
            seen += block
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0, seen
    return out, seen.decode()


@pytest.mark.parametrize("verb", WORDS)
def test_progress_stands_on_the_terminal_and_not_in_the_pipe(tmp_path: Path, verb: str) -> None:
    """stdout is JSON lines alone, the same as where nothing is a terminal; there no progress is said at all."""
    make_inbox(tmp_path)
    (tmp_path / "inbox" / "d.txt").write_text("a fourth content")
    with sandbox() as server:
        address = ("--base-url", server)
        if verb == "list":
            command_process(*WORDS["upload"], *address, folder=tmp_path, status=0)
        out, seen = with_stderr_on_a_terminal(tmp_path, *WORDS[verb], *address)
        assert SHOWN[verb] in seen
        assert "\x1b[" in seen
        assert all(isinstance(json.loads(line), dict) for line in out.splitlines())
        plain = command_process(*WORDS[verb], *address, folder=tmp_path, status=0)
        assert len(plain.stdout.splitlines()) == len(out.splitlines()) == (5 if verb == "upload" else 4)
        assert "\x1b" not in plain.stdout + plain.stderr
        assert "listed" not in plain.stderr
