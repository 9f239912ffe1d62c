"""Brings a folder's documents to the project: each content once for as long as its file lives there.

Whatever is brought is a line of `uploads.jsonl`: `{"at", "file_id", "paths", "sent_id", "expires_at", "sent"}`, where
`file_id` is the content, `sent_id` its file in the project, and `sent` whether this run uploaded it. A line may be lost
with its process; then the content is found in the project by its external ID.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread

from classify_batch.clock import to_iso
from classify_batch.errors import ApiError, NotUploadableError, Verdict
from classify_batch.inputs.folder import (
    CONTENT_PREFIX,
    hash_document,
    open_document,
    refuse_gone_folder,
    why_unfit,
)
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.file_client import FileClient, FileRefusedError, Stored
from classify_batch.model import Uploads
from classify_batch.operations.uploads import printable_file_name
from classify_batch.ports import Clock, RunStore
from classify_batch.rundir.outcome_lines import encode_line
from classify_batch.rundir.run_json import RunFile
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import Log

_REMEMBERED_MAX = 100_000

_THROTTLED_ROUNDS_MAX = 20
"""429s say nothing about a document: an upload that meets them is tried for longer."""

_TOO_MANY_REQUESTS = 429

CHANGED = "it changed since the run was planned; a new run takes it as it is now"


class FolderDocuments:
    """The documents of a folder behind ports.Documents."""

    def __init__(self, root: Path, files: FileClient, store: RunStore, clock: Clock, total: int) -> None:
        """`total`: contents of the plan that are sent."""
        self._total = total
        self._brought = self._sent_bytes = 0
        self._root = root
        self._files = files
        self._store = store
        self._clock = clock
        self._known: OrderedDict[str, str] = OrderedDict()
        self._accepted = 0

    async def open(self) -> None:
        """Reads what earlier processes brought, and lets uploads.jsonl go on behind its last whole line."""
        end, rest = 0, b""
        if await self._store.size(Log.UPLOADS) is not None:
            async with closing(self._store.stream(Log.UPLOADS)) as blocks:
                async for block in blocks:
                    *lines, rest = (rest + block).split(b"\n")
                    end += sum(len(line) + 1 for line in lines)
                    for line in lines:
                        self._take_line(line)
        await self._store.open_log(Log.UPLOADS, end)

    def _take_line(self, line: bytes) -> None:
        try:
            upload = json.loads(line)
            self._remember(str(upload["file_id"]), str(upload["sent_id"]))
        except (ValueError, LookupError, TypeError):
            return  # nothing rests on it: the project is asked in any case

    def _remember(self, file_id: str, sent_id: str) -> None:
        self._brought += file_id not in self._known
        self._known[file_id] = sent_id
        self._known.move_to_end(file_id)
        if len(self._known) > _REMEMBERED_MAX:
            self._known.popitem(last=False)

    async def bring(self, file_id: str, paths: Sequence[str]) -> str:
        """The project's ID of a content. Raises NotUploadableError, ApiError, StoreError."""
        if (known := self._known.get(file_id)) is not None and await self._files.is_alive(known):
            return known
        if not file_id.startswith(CONTENT_PREFIX):
            raise NotUploadableError("it could not be read when the run was planned; a new run takes it")
        stored = await self._store_first_unchanged(file_id.removeprefix(CONTENT_PREFIX), paths)
        upload = {
            "at": to_iso(self._clock.wall_s()),
            "file_id": file_id,
            "paths": list(paths),
            "sent_id": stored.file.id,
            "expires_at": stored.file.expires_at,
            "sent": stored.sent,
        }
        self._store.append(Log.UPLOADS, encode_line(upload))
        self._remember(file_id, stored.file.id)
        return stored.file.id

    async def _store_first_unchanged(self, digest: str, paths: Sequence[str]) -> Stored:
        """Uploads the content from the first of its paths that still has it."""
        why = CHANGED
        for each in paths:
            try:
                found, size = await anyio.to_thread.run_sync(hash_document, self._root, each, abandon_on_cancel=True)
                if found != digest:
                    continue
                if (unfit := why_unfit(size)) is not None:
                    raise NotUploadableError(unfit)
                opened = partial(open_as_hashed, self._root, each, digest, size)
                stored = await self._store_file(f"sha256-{digest}", printable_file_name(Path(each)), opened)
                self._sent_bytes += size if stored.sent else 0
                return stored
            except OSError as error:
                await anyio.to_thread.run_sync(refuse_gone_folder, self._root)
                why = CHANGED if error.strerror == CHANGED else f"{each}: {error.strerror or error}"
            except FileRefusedError as error:
                raise NotUploadableError(f"the API refuses it: {error}") from None
        raise NotUploadableError(why)

    async def _store_file(self, external_id: str, name: str, opened: Callable[[], BinaryIO]) -> Stored:
        """Uploads a content. One that the API answers with errors again and again, while it takes others, is at fault
        itself: else it would end the run each time that it comes to it.

        Raises:
            NotUploadableError: it is at fault.
            ApiError: the API takes no uploads.
        """
        accepted = self._accepted
        for round_number in range(1, _THROTTLED_ROUNDS_MAX + 1):
            try:
                stored = await self._files.store_file(external_id, name, opened)
            except ApiError as error:
                if error.verdict is not Verdict.LATER:
                    raise
                if error.status == _TOO_MANY_REQUESTS and round_number < _THROTTLED_ROUNDS_MAX:
                    continue
                if error.call != "upload" or self._accepted == accepted:
                    raise
                raise NotUploadableError(f"the API takes other documents, and not this one: {error}") from None
            self._accepted += stored.sent
            return stored
        raise AssertionError("the last round returns or raises")

    @property
    def uploads(self) -> Uploads:
        """How far they are."""
        return Uploads(min(self._brought, self._total), self._total, self._accepted, self._sent_bytes)

    async def gone(self, sent_ids: Sequence[str]) -> set[str]:
        """Those of the project's file IDs that it has no more, or that have expired. Raises ApiError."""
        return await self._files.find_gone(sent_ids)


async def open_documents(run: RunFile, client: ApiClient, store: RunStore, clock: Clock) -> FolderDocuments | None:
    """The documents of a run whose input is a folder; None for any other run."""
    if run.folder is None:
        return None
    documents = FolderDocuments(Path(run.folder), FileClient(client, clock), store, clock, run.files - run.reused_files)
    await documents.open()
    return documents


def open_as_hashed(root: Path, path: str, digest: str, size: int) -> BinaryIO:
    """Opens a document of a known content. Whoever reads it to its end gets that content, or OSError before the last
    block: what changed meanwhile never arrives whole."""
    return CheckedFile(open_document(root, path), digest, size)


class CheckedFile(io.FileIO):
    """A file that is hashed again while it is read."""

    def __init__(self, descriptor: int, digest: str, size: int) -> None:
        super().__init__(descriptor, "rb")
        self._expected = digest
        self._size = size
        self._read = 0
        self._hash = hashlib.sha256()

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. Raises OSError where the content isn't what it was."""
        block = super().read(-1 if size is None else size) or b""
        self._hash.update(block)
        self._read += len(block)
        ends = self._read >= self._size or not block
        if self._read > self._size or (ends and self._hash.hexdigest() != self._expected):
            raise OSError(0, CHANGED)
        return block

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves in the file; to its beginning, hashing begins anew."""
        place = super().seek(offset, whence)
        if place == 0:
            self._hash, self._read = hashlib.sha256(), 0
        return place
