"""The manual can be read: its pages, its links, its tables of contents, its sentences; and its map is the code's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from classify_batch.cli.manual import CONFIGS, PAGES

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "classify_batch"
MANUAL = PACKAGE / "manual"
TEXTS = [ROOT / "README.md", *sorted(MANUAL.glob("*.md"))]

README_BYTES_MAX = 24_000
PARAGRAPH_LINES_MAX = 6
LINE_CHARACTERS_MAX = 120
LONG_BYTES = 5_000
"""A page that is longer wants a table of contents."""


def prose(text: Path) -> str:
    """What a text says outside of its code blocks."""
    return re.sub(r"^```.*?^```$", "", text.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def headings(text: Path, level: str = "#+") -> list[str]:
    return re.findall(rf"^{level} (.*)$", prose(text), re.MULTILINE)


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def paragraphs(text: Path) -> list[list[str]]:
    """Paragraphs and items of lists, as lines; a row of a table and a heading is neither."""
    found: list[list[str]] = [[]]
    for line in prose(text).splitlines():
        apart = not line.strip() or line.startswith(("|", "#", "!"))
        if apart or re.match(r"(- |\d+\. )", line):
            found.append([])
        if not apart:
            found[-1].append(line)
    return [lines for lines in found if lines]


def test_the_command_has_every_page() -> None:
    """Each page and each config of the manual is one that the command shows, and the README's table has each page."""
    assert sorted(PAGES) == sorted(path.stem for path in MANUAL.glob("*.md"))
    assert sorted(CONFIGS) == sorted(path.name for path in MANUAL.glob("*.toml"))
    readme = (ROOT / "README.md").read_text("utf-8")
    assert tuple(re.findall(r"^\| \[([\w-]+)\]\(classify_batch/manual/\1\.md\)", readme, re.MULTILINE)) == PAGES


def test_the_readme_is_read_in_five_minutes() -> None:
    """The README stays short; what is more belongs into the manual."""
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES_MAX


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_paragraphs_are_short(text: Path) -> None:
    """No paragraph is over six lines of 120 characters."""
    assert [lines[0] for lines in paragraphs(text) if len(lines) > PARAGRAPH_LINES_MAX] == []
    too_long = [line for lines in paragraphs(text) for line in lines if len(line) > LINE_CHARACTERS_MAX]
    assert [line for line in too_long if " " in line.strip()] == []


@pytest.mark.parametrize("page", PAGES)
def test_long_pages_have_a_table_of_contents(page: str) -> None:
    """A long page has a table of contents; where there is one, it has each section, in their order."""
    path = MANUAL / f"{page}.md"
    title, *sections = headings(path, "#{1,2}")
    has_contents = sections[:1] == ["Contents"]
    assert has_contents or len(path.read_bytes()) <= LONG_BYTES, title
    if has_contents:
        listed = re.findall(r"^- \[(.*)\]\(#(.*)\)$", prose(path), re.MULTILINE)
        assert listed == [(section, anchor(section)) for section in sections[1:]]


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(text: Path) -> None:
    """Each link of a text goes to a file that is there, and to a heading that it has."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        name, _, heading = target.partition("#")
        path = text.parent / name if name else text
        if not path.exists() or (heading and heading not in map(anchor, headings(path))):
            broken.append(target)
    assert broken == []


def layers() -> list[str]:
    """The rooms, from the command line down, as the import contract has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [room for row in rows if not row.startswith("(") for room in row.split(" | ")]


def test_the_map_has_every_room() -> None:
    """The map in the manual names each room of the import contract once, from the top down."""
    table = re.search(r"^## The map\n(.*?)^## ", prose(MANUAL / "architecture.md"), re.MULTILINE | re.DOTALL)
    assert table is not None
    named = [
        name for row in re.findall(r"^\| (`.*?) \|", table[1], re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    assert [name for name in named if name != "manual"] == layers()


def test_a_file_ids_way_names_what_is_there() -> None:
    """Each step of a file ID's way through the program names a room and a function or class that the room has."""
    way = re.search(r"^## A file ID's way\n(.*?)^## ", prose(MANUAL / "architecture.md"), re.MULTILINE | re.DOTALL)
    assert way is not None
    steps = re.findall(r"^\d+\. \*\*`(\w+)`\*\*, `([\w.]+)`", way[1], re.MULTILINE)
    steps += re.findall(r"\(`(\w+)`, `([\w.]+)`\)", way[1])
    assert 10 <= len(re.findall(r"^\d+\. ", way[1], re.MULTILINE)) <= 15
    assert len(steps) > 15
    lost = []
    for room, name in steps:
        source = "\n".join(path.read_text("utf-8") for path in (PACKAGE / room).rglob("*.py"))
        lost += [
            (room, part)
            for part in name.split(".")
            if not re.search(rf"^\s*(?:async )?(?:def|class) {part}\b", source, re.M)
        ]
    assert lost == []
