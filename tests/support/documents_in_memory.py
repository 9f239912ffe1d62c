"""A folder whose documents are in memory, for runs in virtual time: hashing and reading never leave the event loop."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from classify_batch.inputs.folder import CONTENT_PREFIX, PATH_COLUMN
from classify_batch.inputs.formats.objects import ObjectReader
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.file_client import FileClient, Stored
from classify_batch.operations.documents import FolderDocuments
from classify_batch.ports import Clock, RunStore
from classify_batch.rundir.run_json import PlannedFolder

FOLDER = PlannedFolder("/inbox")


def content_id(content: bytes) -> str:
    """The file ID of a content."""
    return CONTENT_PREFIX + hashlib.sha256(content).hexdigest()


def rows_of_folder(folder: Mapping[str, bytes]) -> Sequence[str]:
    """The rows of a plan over documents, given as contents by path."""
    items = [{"file_id": content_id(content), PATH_COLUMN: path} for path, content in folder.items()]
    return ObjectReader(FOLDER.path, carry=(PATH_COLUMN,)).read_rows(enumerate(items, 1))


class DocumentsInMemory(FolderDocuments):
    """Brings documents as FolderDocuments does, but for the disk."""

    def __init__(self, folder: Mapping[str, bytes], client: ApiClient, store: RunStore, clock: Clock) -> None:
        super().__init__(Path(FOLDER.path), FileClient(client, clock), store, clock, len(folder))
        self._folder = folder

    async def _store_first_unchanged(self, digest: str, paths: Sequence[str]) -> Stored:
        path = next(each for each in paths if content_id(self._folder[each]) == CONTENT_PREFIX + digest)
        return await self._store_file(f"sha256-{digest}", path, lambda: io.BytesIO(self._folder[path]))
