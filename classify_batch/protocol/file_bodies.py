"""The project's files: `/api/v1/beta/files`, the same for both versions of the classifier."""

from __future__ import annotations

from typing import TypedDict

from classify_batch.protocol.answers import AnswerModel, AnswerReader, Identity, Lenient, Page, Text, parse_time_s
from classify_batch.protocol.url_parts import quote_step

FILES_PATH = "/api/v1/beta/files"
PAGE_SIZE_MAX = 1000


def file_path(file_id: str) -> str:
    """The path of a file."""
    return f"{FILES_PATH}/{quote_step(file_id)}"


class FileBody(TypedDict):
    """A file as the server writes it."""

    id: str
    name: str
    project_id: str
    external_file_id: str | None
    file_type: str | None
    file_size: int
    purpose: str | None
    expires_at: str | None
    last_modified_at: str | None


class StoredFile(AnswerModel):
    """A file as it is read; fields that a server may leave out are None."""

    id: Identity
    name: Lenient[Text] = None
    project_id: Lenient[Text] = None
    external_file_id: Lenient[Text] = None
    expires_at: Lenient[Text] = None

    @property
    def expires_at_s(self) -> float | None:
        """Seconds since the epoch; None where the file never expires or the server doesn't say."""
        return parse_time_s(self.expires_at)


class FileId(AnswerModel):
    """A file of the list of which only the ID is read: a project may have millions."""

    id: Text


_FILE = AnswerReader(StoredFile)
_FILES = AnswerReader(Page[StoredFile])
_FILE_IDS = AnswerReader(Page[FileId])
_OBJECTS = AnswerReader(Page[dict[Text, object]])


def read_stored_file(data: bytes) -> StoredFile:
    """The answer to an upload. Raises ValueError for a body of another shape."""
    return _FILE.read(data)


def read_stored_files(data: bytes) -> list[StoredFile]:
    """The files of a page. Raises ValueError for a body of another shape."""
    return read_stored_files_page(data)[0]


def read_stored_files_page(data: bytes) -> tuple[list[StoredFile], str | None]:
    """The files of a page and the token of the next. Raises ValueError for a body of another shape."""
    page = _FILES.read(data)
    return page.items, page.next_token


def read_file_ids_page(data: bytes) -> tuple[list[str], str | None]:
    """The file IDs of a page and the token of the next. Raises ValueError for a body of another shape."""
    page = _FILE_IDS.read(data)
    return [file.id for file in page.items], page.next_token


def read_file_objects_page(data: bytes) -> tuple[list[dict[str, object]], str | None]:
    """The files of a page, whole, and the token of the next. Raises ValueError for a body of another shape."""
    page = _OBJECTS.read(data)
    return page.items, page.next_token
