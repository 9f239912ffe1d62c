"""Commands that people paste: every path is one word of a shell."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from classify_batch.shell_words import command_of, quote_path


@pytest.mark.parametrize("path", ["/a b", "/it's", "/$(x)`y`", "/a\nb", "/x\u202ey", "/a\\b\n", "-x"], ids=ascii)
def test_a_path_is_one_word_of_a_shell(path: str) -> None:
    """What is shown to be pasted names the directory, whatever it is called, and holds no control character."""
    word = quote_path(path)
    assert word.isprintable()
    said = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout.decode()
    assert said == (f"./{path}" if path.startswith("-") else path)
    if path.isprintable():
        assert shlex.split(word) == [said]


def test_words_that_are_options_stay_options() -> None:
    """Only paths are kept from being taken for options."""
    words = command_of("resume", Path("-my run"), "--config", Path("a'b.toml"), "--retry-failed")
    assert shlex.split(words) == ["classify-batch", "resume", "./-my run", "--config", "a'b.toml", "--retry-failed"]
