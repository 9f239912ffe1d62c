"""Run directories whose names can't be: refused by every command with 2, and with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import command

CONFIG = """
[api]
base_url = "sandbox"
[job]
rules = [{ type = "invoice", description = "has line items and a total" }]
"""

NAME = "NAME"
PLAN = ("c.toml", "--input", "ids", "--run-dir")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "c.toml").write_text(CONFIG)
    (tmp_path / "ids").write_text("a\n")
    (tmp_path / "circle").symlink_to("circle")
    return tmp_path


@pytest.mark.parametrize("name", ["x" * 256, "circle", "é" * 128])
@pytest.mark.parametrize(
    "words",
    [
        ("run", *PLAN),
        ("plan", *PLAN),
        ("resume",),
        ("status",),
        ("verify",),
        ("tune", "--pause"),
        ("diff", NAME),
        ("run", *PLAN, "run", "--reuse"),
    ],
    ids=lambda words: words[0],
)
def test_a_name_that_can_not_be_is_refused_with_2(folder: Path, name: str, words: tuple[str, ...]) -> None:
    """It said 70, or that the same command goes on later, which it never does."""
    done = command(*[name if word == NAME else word for word in words], name, folder=folder, status=2)
    assert name in done.stderr
    assert "hint: " in done.stderr
    assert not (folder / "run").exists()


def test_an_export_beside_such_a_name_is_refused_with_2(folder: Path) -> None:
    """The run's directory is named before the target."""
    assert "can't be a run directory" in command("export", "x" * 256, "out.csv", folder=folder, status=2).stderr
