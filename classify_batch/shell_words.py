"""Commands to paste into a shell, whatever their paths hold."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

PROGRAM = "classify-batch"


def quote_for_shell(word: str) -> str:
    """One word of a shell, also with bytes that can't be printed: those need `$'…'` (bash, zsh, ksh)."""
    if word.isprintable():
        return shlex.quote(word)
    signs = (chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{''.join(signs)}'"


def quote_path(path: str) -> str:
    """A path as one word, which is never taken for an option."""
    return quote_for_shell(f"./{path}" if path.startswith("-") else path)


def command_of(*words: str | Path) -> str:
    """A command of this program. Each `Path` is quoted as a path, each other word as it is."""
    return " ".join(
        [PROGRAM, *(quote_path(str(word)) if isinstance(word, Path) else quote_for_shell(word) for word in words)]
    )
