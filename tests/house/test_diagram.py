"""The manual's pictures are drawn from the tables in the code."""

from __future__ import annotations

import re
from pathlib import Path

from classify_batch.lifecycle import ENDS, MOVES
from classify_batch.vocabulary import State

ARCHITECTURE = (Path(__file__).parents[2] / "classify_batch" / "manual" / "architecture.md").read_text("utf-8")


def test_the_diagram_of_a_chunks_life_is_the_table_of_moves() -> None:
    """Every move of the table is an arrow of the diagram, and every arrow a move."""
    drawn = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", ARCHITECTURE, re.DOTALL)
    assert drawn is not None
    arrows = {line.strip() for line in drawn[1].splitlines()}
    moves = {f"{state} --> {after}: {kind}" for (state, kind), after in MOVES.items()}
    ends = {f"{state} --> [*]" for state in ENDS}
    assert arrows == moves | ends | {f"[*] --> {State.PLANNED}"}
