"""pyproject.toml asks for what the package imports, and for no more. `scripts/versions` shows that its lower bounds are
true."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOR_PEOPLE = ("otel", "parquet", "pdf", "ray", "s3", "zstd")
"""The extras; the others are for those who work on the package."""

IMPORTED_AS = {"arro3-core": "arro3", "arro3-io": "arro3", "opentelemetry-api": "opentelemetry"}
IMPORTED_BY_NAME = {"zstandard"}
FROM_OTHERS = {
    "IPython",  # shows progress in a notebook
    "_typeshed",  # is there for type checkers only
    "boto3",  # signs in where somebody has it
    "pydantic_core",  # is a part of pydantic
}
"""What is used where it is there, and never asked for."""


def imported_names() -> set[str]:
    """The first names of all that the package imports, wherever it does, from outside of Python and of itself."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "classify_batch").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"classify_batch"}


def requirements() -> list[str]:
    extras = PROJECT["optional-dependencies"]
    return [*PROJECT["dependencies"], *(each for name in FOR_PEOPLE for each in extras[name])]


def test_what_is_imported_is_asked_for() -> None:
    """An installation with nothing else in it misses nothing, and brings nothing that nobody needs."""
    asked = {re.split(r"[<>=;]", each)[0] for each in requirements()}
    expected = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in asked - IMPORTED_BY_NAME}
    assert imported_names() - FROM_OTHERS == expected


def test_each_requirement_has_a_lower_bound() -> None:
    """Each is a name with the lowest version; before a 1.0 an upper bound may follow, and no version is left out."""
    for each in requirements():
        assert re.fullmatch(r"[\w.-]+>=[\d.]+(,<[\d.]+)?(; .+)?", each), each
