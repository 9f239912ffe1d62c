"""The project's file list: `GET /api/v1/beta/files`, the same for both versions of the classifier."""

from __future__ import annotations

from typing import Any

import msgspec

from classify_batch.wire.shape import Shape, text

FILES_PATH = "/api/v1/beta/files"
PAGE_SIZE_MAX = 1000


class _File(msgspec.Struct):
    id: str


class _Page(msgspec.Struct):
    items: list[_File]
    next_page_token: Any = None


_FILES = Shape(_Page)


def read_file_page(data: bytes) -> tuple[list[str], str | None]:
    """The file IDs of a page and the token of the next. Raises ValueError for a body of another shape."""
    page = _FILES.read(data)
    return [file.id for file in page.items], text(page.next_page_token) or None
