"""The project's file list: `GET /api/v1/beta/files`, the same for both versions of the classifier."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from classify_batch.clock import from_iso
from classify_batch.protocol.json_shape import Shape, text_or_none

FILES_PATH = "/api/v1/beta/files"
PAGE_SIZE_MAX = 1000


class _FileId(msgspec.Struct):
    id: str


class _FileIdsPage(msgspec.Struct):
    items: list[_FileId]
    next_page_token: Any = None


class _ObjectsPage(msgspec.Struct):
    items: list[dict[str, Any]]
    next_page_token: Any = None


class StoredFile(msgspec.Struct, frozen=True):
    """A file as the API describes it; fields that a server may leave out are None."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    name: Any = None
    project_id: Any = None
    external_file_id: Any = None
    expires_at: Any = None

    @property
    def expires_at_s(self) -> float | None:
        """Seconds since the epoch; None where the file never expires or the server doesn't say."""
        moment = text_or_none(self.expires_at)
        return from_iso(moment) if moment else None


class _StoredPage(msgspec.Struct):
    items: list[StoredFile]
    next_page_token: Any = None


_FILES = Shape(_FileIdsPage)
_OBJECTS = Shape(_ObjectsPage)
_STORED = Shape(StoredFile)
_STORED_PAGE = Shape(_StoredPage)


def read_stored_file(data: bytes) -> StoredFile:
    """The answer to an upload. Raises ValueError for a body of another shape."""
    return _STORED.read(data)


def read_stored_files(data: bytes) -> list[StoredFile]:
    """The files of a page. Raises ValueError for a body of another shape."""
    return read_stored_files_page(data)[0]


def read_stored_files_page(data: bytes) -> tuple[list[StoredFile], str | None]:
    """The files of a page and the token of the next. Raises ValueError for a body of another shape."""
    page = _STORED_PAGE.read(data)
    return page.items, text_or_none(page.next_page_token) or None


def read_file_ids_page(data: bytes) -> tuple[list[str], str | None]:
    """The file IDs of a page and the token of the next. Raises ValueError for a body of another shape."""
    page = _FILES.read(data)
    return [file.id for file in page.items], text_or_none(page.next_page_token) or None


def read_file_objects_page(data: bytes) -> tuple[list[dict[str, Any]], str | None]:
    """The files of a page, whole, and the token of the next. Raises ValueError for a body of another shape."""
    page = _OBJECTS.read(data)
    return page.items, text_or_none(page.next_page_token) or None
