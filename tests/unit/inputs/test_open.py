"""Which source stands behind which spec, and the sources that are no files."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from classify_batch.errors import SourceError
from classify_batch.inputs.iterables import BATCH_IDS
from classify_batch.inputs.open import SourceSpec, is_repeatable, open_source
from classify_batch.streams.closing import closing

pytestmark = [pytest.mark.anyio, pytest.mark.any_loop]


async def read(spec: SourceSpec, **options: Any) -> list[str]:
    return [file_id async for batch in open_source(spec, **options) for file_id in batch]


async def counted(stop: int) -> AsyncIterator[str]:
    for number in range(stop):
        yield f"f{number}"


# --- What the calling program holds -----------------------------------------------------------------------------


async def test_iterables_of_both_kinds_are_sources() -> None:
    """Lists, generators and asynchronous generators give the same IDs in the same order, over many batches."""
    expected = [f"f{number}" for number in range(2 * BATCH_IDS + 1)]
    assert await read(expected) == expected
    assert await read(iter(expected)) == expected
    assert await read(counted(len(expected))) == expected


@pytest.mark.parametrize("bad", ["", "a b", "a\n", "x" * 201, 7, None, b"a"])
async def test_faults_of_iterables_name_the_item(bad: Any) -> None:
    """Items are counted from 1 over all batches."""

    async def then_bad() -> AsyncIterator[str]:
        async for file_id in counted(BATCH_IDS):
            yield file_id
        yield bad

    for spec in (["f"] * BATCH_IDS + [bad], then_bad()):
        with pytest.raises(SourceError, match=f"the given file IDs, item {BATCH_IDS + 1}: ") as caught:
            await read(spec)
        assert str(caught.value).isprintable()


async def test_nothing_is_taken_before_it_is_asked_for() -> None:
    """A source pulls one batch ahead of its reader at the most, however long the iterable is."""
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"f{taken}"

    async with closing(open_source(endless())) as source:
        assert taken == 0
        await anext(source)
        assert taken == BATCH_IDS


@pytest.mark.parametrize("spec", [[], iter(())])
async def test_an_empty_iterable_is_refused(spec: Any) -> None:
    """A run over nothing is a mistake upstream."""
    with pytest.raises(SourceError, match="the given file IDs holds no file IDs"):
        await read(spec)


# --- Files ------------------------------------------------------------------------------------------------------


@pytest.mark.real_time
async def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    """Missing, a directory, an impossible name: one SourceError that shows the path without its control characters."""
    for path, reason in ((tmp_path / "no\x1bne", "No such file"), (tmp_path, "directory"), ("a\0", "null byte")):
        with pytest.raises(SourceError, match=reason) as caught:
            await read(path)
        assert str(caught.value).isprintable()


async def test_what_cannot_be_meant_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """Parquet, a column where there are none, and project: without the API fail at once, each with a hint."""
    for spec, column, told in (
        (tmp_path / "a.parquet", None, "Parquet is not supported"),
        (tmp_path / "a.txt", "id", "only .csv and .jsonl"),
        ("-", "id", "only .csv and .jsonl"),
        (["a"], "id", "only .csv and .jsonl"),
        ("project:", None, "needs the API"),
    ):
        with pytest.raises(SourceError, match=told) as caught:
            open_source(spec, column=column)
        assert caught.value.hint


async def test_only_what_can_be_read_again_is_repeatable(tmp_path: Path) -> None:
    """Stdin and the project's list may differ the next time; files and iterables are taken at their word."""
    assert [is_repeatable(spec) for spec in ("-", "project:", tmp_path, "a.txt", ["a"])] == [0, 0, 1, 1, 1]


# --- Stdin ------------------------------------------------------------------------------------------------------


async def test_stdin_is_text_that_may_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe is read to its end, also when a line arrives in two parts."""
    reading, writing = os.pipe()
    os.write(writing, b"\xef\xbb\xbfa\n# x\nb")
    with os.fdopen(reading, "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
        source = open_source("-")
        assert await anext(source) == ["a"]
        os.write(writing, b"b\r\n")
        os.close(writing)
        assert [batch async for batch in source] == [["bb"]]


async def test_stdin_may_be_anything_with_a_buffer_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replaced stdin without a descriptor is read; a closed one is reported; errors name the line of stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    assert await read("-") == ["a", "b"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb c\n")))
    with pytest.raises(SourceError, match="stdin, line 2: "):
        await read("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="stdin is closed"):
        await read("-")


# --- The project's list -----------------------------------------------------------------------------------------


async def test_the_project_is_read_page_by_page() -> None:
    """Tokens are handed back as they came, a page may be empty, and the page without a token is the last."""
    told = {None: (["a", "b"], "t1"), "t1": ([], "t2"), "t2": (["c"], None)}

    async def pages(token: str | None) -> tuple[list[str], str | None]:
        return told[token]

    assert await read("project:", pages=pages) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("file_id", "token", "told"),
    [
        ("f{0}", "same", "a next_page_token came twice"),
        ("f{0}", "t{1}", "a next_page_token came twice"),
        ("same", "t{0}", "the same page came twice"),
        (None, "t{0}", "pages in a row were empty"),
    ],
)
async def test_a_list_that_never_ends_is_recognised(file_id: str | None, token: str, told: str) -> None:
    """Tokens in a circle of one or of seven, the same page again, empty pages: each ends with an error that says so."""
    calls = 0

    async def pages(_: str | None) -> tuple[list[str], str | None]:
        nonlocal calls
        calls += 1
        page = [] if file_id is None else [file_id.format(calls)]
        return page, token.format(calls, calls % 7)

    with pytest.raises(SourceError, match=told):
        await read("project:", pages=pages)
    assert calls <= 102


async def test_what_the_server_calls_an_id_is_checked_too() -> None:
    """A server's ID that could not stand in a plan is a fault like any other."""

    async def pages(_: str | None) -> tuple[list[str], str | None]:
        return ["a", "b\x1b"], None

    with pytest.raises(SourceError, match="project:, item 2: "):
        await read("project:", pages=pages)
