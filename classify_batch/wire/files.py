"""The project's file list: `GET /api/v1/beta/files`, the same for both versions of the classifier."""

from __future__ import annotations

from collections.abc import Mapping

from classify_batch.wire.v1 import read_page

FILES_PATH = "/api/v1/beta/files"
PAGE_SIZE_MAX = 1000


def read_file_page(body: object) -> tuple[list[str], str | None]:
    """The file IDs of a page and the token of the next. Raises ValueError for JSON of another shape."""
    items, token = read_page(body)
    file_ids: list[str] = []
    for item in items:
        file_id = item.get("id") if isinstance(item, Mapping) else None
        if not isinstance(file_id, str):
            raise ValueError("a file has an id")
        file_ids.append(file_id)
    return file_ids, token
