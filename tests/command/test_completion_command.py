"""`classify-batch completion`: tried in a real shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import command, environment
from tests.support.start_command import COMMAND

BASH = """
eval "$(classify-batch completion bash)"
COMP_WORDS=({words}) COMP_CWORD={at}
_classify_batch_completion classify-batch
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the command, as an installation has it."""
    program = tmp_path / "classify-batch"
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("ver",), ["verify"]),
        (("files", "up"), ["upload"]),
        (("run", "--max-cr"), ["--max-credits"]),
        (("jobs", "create", "--file-i"), ["--file-id"]),
        (("completion", "z"), ["zsh"]),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_and_options(folder: Path, words: tuple[str, ...], completed: list[str]) -> None:
    """What the printed lines define is what bash calls at a tabulator."""
    script = BASH.format(words=" ".join(("classify-batch", *words)), at=len(words))
    path = f"{folder}:{environment()['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=environment(PATH=path), timeout=60, check=True
    )
    assert done.stdout.split() == completed
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_lines_that_call_the_command(shell: str) -> None:
    """They ask the command itself, so they stay true when it changes."""
    assert f"_CLASSIFY_BATCH_COMPLETE={shell}_complete" in command("completion", shell, status=0).stdout


def test_other_shells_are_refused() -> None:
    """With those that there are."""
    assert "'bash', 'zsh', 'fish'" in command("completion", "tcsh", status=2).stderr


@pytest.mark.parametrize(
    "environ",
    [
        {"_CLASSIFY_BATCH_COMPLETE": "bash_complete"},
        {"_CLASSIFY_BATCH_COMPLETE": "bash_complete", "COMP_WORDS": "classify-batch"},
        {"_CLASSIFY_BATCH_COMPLETE": "zsh_complete", "COMP_WORDS": "classify-batch", "COMP_CWORD": "x"},
        {"_CLASSIFY_BATCH_COMPLETE": "fish_complete"},
        {"_CLASSIFY_BATCH_COMPLETE": "ksh_complete", "COMP_WORDS": "classify-batch", "COMP_CWORD": "1"},
        {"_CLASSIFY_BATCH_COMPLETE": "1"},
    ],
)
def test_a_stray_variable_of_completions_is_refused(environ: dict[str, str]) -> None:
    """No shell asks: it was a bug of ours, or the command ended with 0 and did nothing."""
    done = command("config", "show", "absent.toml", environ=environ, status=2)
    assert f"_CLASSIFY_BATCH_COMPLETE in the environment is {environ['_CLASSIFY_BATCH_COMPLETE']!r}" in done.stderr
    assert "hint: unset _CLASSIFY_BATCH_COMPLETE" in done.stderr


def test_an_empty_variable_of_completions_is_an_unset_one() -> None:
    """The command is carried out."""
    done = command("config", "show", "absent.toml", environ={"_CLASSIFY_BATCH_COMPLETE": ""}, status=2)
    assert "config absent.toml can't be read" in done.stderr
