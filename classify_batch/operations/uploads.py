"""Uploads local files to the project, and lists the project's files.

A file is identified by the SHA-256 of its content, which is its external ID in the project: it is hashed, looked up,
and sent only if the project doesn't have it. So the same command goes on after an interruption, without local state.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream

from classify_batch.clock import SystemClock
from classify_batch.errors import SourceError, UsageError
from classify_batch.inputs.folder import Protected
from classify_batch.llamacloud.file_client import FileClient, FileRefusedError, Stored
from classify_batch.llamacloud.raw_bodies import Body
from classify_batch.operations.jobs.single_calls import connect_client, ending_single_call
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.protocol.file_bodies import PAGE_SIZE_MAX, StoredFile
from classify_batch.protocol.json_shape import page_token_or_none
from classify_batch.protocol.sanitize import printable_line
from classify_batch.settings import Settings
from classify_batch.settings.api_key import key_files
from classify_batch.streams.closing import closing

PAGES_MAX = 1_000_000

_NAMED_MAX = 10

_KNOWN_MAX = 10_000
"""So many uploaded contents are remembered: their copies cost no request. Older ones are looked up again."""


class Uploaded(NamedTuple):
    """A file that the project holds now.

    Attributes:
        sent: True if this command sent it; False if the project had it already.
        size: of the file, in bytes.
    """

    path: Path
    stored: StoredFile
    external_file_id: str
    sent: bool
    size: int

    def to_json_line(self) -> str:
        """A line of JSON, as `run --input` takes it."""
        name = self.stored.name if isinstance(self.stored.name, str) else self.path.name
        values = {"path": str(self.path), "file_id": self.stored.id, "external_file_id": self.external_file_id}
        return json.dumps({**values, "name": name})


class NotUploaded(NamedTuple):
    """A file that can't be read, or that the API refuses."""

    path: Path
    reason: str


class HashedFile(NamedTuple):
    """A file as it was when it was hashed."""

    path: Path
    external_id: str
    size: int
    changed_ns: int

    def open_unchanged(self) -> BinaryIO:
        """Opens the file. Raises OSError, also where it changed since it was hashed."""
        file = self.path.open("rb")
        try:
            self.check_unchanged(os.fstat(file.fileno()))
        except OSError:
            file.close()
            raise
        return file

    def check_unchanged(self, found: os.stat_result) -> None:
        if (found.st_size, found.st_mtime_ns) != (self.size, self.changed_ns):
            raise OSError(0, "it changed while it was uploaded")


async def upload_files(
    settings: Settings,
    paths: Sequence[Path],
    *,
    recursive: bool,
    concurrency: int,
    on_end: Callable[[Uploaded | NotUploaded], None],
) -> None:
    """Uploads files; calls `on_end` with the end of each, in no particular order.

    Args:
        paths: files, and with `recursive` folders: all files in them, except hidden ones; links to folders aren't
            followed.
        concurrency: files in flight; none is ever held in memory as a whole.

    Raises:
        UsageError: a path doesn't exist, or is a folder without `recursive`; nothing was sent.
        ApiError: the API is down, or a person must act. What `on_end` was called with is done.
    """
    refuse_bad_paths(paths, recursive=recursive)

    async def run_workers() -> None:
        async with connect_client(settings) as client:
            workers = UploadWorkers(FileClient(client, SystemClock()), on_end, key_files(settings.accounts))
            async with anyio.create_task_group() as tasks:
                give, take = anyio.create_memory_object_stream[Path | NotUploaded]()
                async with give, take:
                    for _ in range(concurrency):
                        tasks.start_soon(workers.upload_all, take.clone())
                    for path in find_files(paths):
                        await give.send(path)

    await run_in_own_task(run_workers)


async def list_files(
    settings: Settings,
    *,
    page_size: int | None = None,
    page_token: str | None = None,
    file_ids: tuple[str, ...] = (),
    file_name: str | None = None,
) -> Body:
    """One page of the project's files, as the API answers."""

    async def call_list() -> Body:
        async with connect_client(settings) as client:
            return await FileClient(client, SystemClock()).list_files(
                page_size=page_size, page_token=page_token, file_ids=file_ids, file_name=file_name
            )

    return await run_in_own_task(call_list)


async def for_each_page(
    settings: Settings,
    on_page: Callable[[Body], None],
    *,
    page_size: int | None = None,
    page_token: str | None = None,
    file_ids: tuple[str, ...] = (),
    file_name: str | None = None,
) -> None:
    """Calls `on_page` with each page, from the one behind `page_token` on."""

    async def read_pages() -> None:
        async with connect_client(settings) as client:
            read_page = partial(
                FileClient(client, SystemClock()).list_files,
                page_size=page_size or PAGE_SIZE_MAX,
                file_ids=file_ids,
                file_name=file_name,
            )
            async with closing(iterate_pages(lambda token: read_page(page_token=token), page_token)) as pages:
                async for page in pages:
                    on_page(page)

    await run_in_own_task(read_pages)


async def iterate_pages(read_page: Callable[[str | None], Awaitable[Body]], token: str | None) -> AsyncIterator[Body]:
    """All pages. A server whose list never ends, or turns in a circle, is an error."""
    tokens: set[str] = set()
    while len(tokens) < PAGES_MAX:
        page = await read_page(token)
        yield page
        token = page_token_or_none(page.get("next_page_token"))
        if token is None:
            return
        if token in tokens:
            break
        tokens.add(token)
    raise SourceError(
        "the server's list of files does not come to an end: a next_page_token came twice",
        hint="read it page by page, with --page-token",
    )


# --- Which files ---------------------------------------------------------------------------------------------------


def refuse_bad_paths(paths: Sequence[Path], *, recursive: bool) -> None:
    """Raises UsageError that names all wrong paths, before anything is sent."""
    # Path's own tests raise for a name that is too long.
    missing = [path for path in paths if not os.path.exists(path)]  # noqa: PTH110 - a broken link, too
    folders = [] if recursive else [path for path in paths if os.path.isdir(path)]  # noqa: PTH112
    if missing:
        raise UsageError(f"there is no {format_paths(missing)}", hint="nothing was sent; check the paths")
    if folders:
        raise UsageError(f"{format_paths(folders)} is a folder", hint="--recursive takes all files in folders")


def format_paths(paths: Sequence[Path]) -> str:
    """The first few paths, for a message."""
    return ", ".join(printable_line(str(path)) for path in paths[:_NAMED_MAX]) + (
        ", …" if len(paths) > _NAMED_MAX else ""
    )


def find_files(paths: Sequence[Path]) -> Iterator[Path | NotUploaded]:
    """The files to upload, always in the same order; among them what can't be read."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        unread: list[OSError] = []
        for folder, folders, names in os.walk(path, onerror=unread.append):
            # Assigned in place: os.walk goes only into the folders that are left in the list.
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
            yield from (NotUploaded(Path(error.filename), error_reason(error)) for error in unread)
            unread.clear()
        yield from (NotUploaded(Path(error.filename), error_reason(error)) for error in unread)


def error_reason(error: OSError) -> str:
    return error.strerror or str(error)


def hash_file(path: Path) -> HashedFile:
    """Hashes a file, in bounded memory. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # else opening a pipe blocks
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is not a regular file")
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return HashedFile(path, f"sha256-{digest}", found.st_size, found.st_mtime_ns)


class UploadWorkers:
    """The workers of one upload, and what they share: the contents that are known, and those on their way."""

    def __init__(
        self, files: FileClient, on_end: Callable[[Uploaded | NotUploaded], None], protected: Sequence[Path] = ()
    ) -> None:
        self._files = files
        self._protected = Protected(protected)
        self._on_end = on_end
        self._known: OrderedDict[str, StoredFile] = OrderedDict()
        self._uploading: dict[str, anyio.Event] = {}

    async def upload_all(self, paths: MemoryObjectReceiveStream[Path | NotUploaded]) -> None:
        """One worker: uploads one file after the other, until there is none left."""
        async with paths:
            async for path in paths:
                if isinstance(path, NotUploaded):
                    self._on_end(path)
                    continue
                with ending_single_call():
                    self._on_end(await self._upload_file(path))

    async def _upload_file(self, path: Path) -> Uploaded | NotUploaded:
        try:
            content = await anyio.to_thread.run_sync(self._hash_unprotected, path, abandon_on_cancel=True)
            stored = await self._store_once(content)
            # What was sent must be what was hashed, or the external ID would name another content.
            if stored.sent:
                content.check_unchanged(path.stat())
        except OSError as error:
            return NotUploaded(path, error_reason(error))
        except FileRefusedError as error:
            return NotUploaded(path, str(error))
        return Uploaded(path, stored.file, content.external_id, stored.sent, content.size)

    def _hash_unprotected(self, path: Path) -> HashedFile:
        if self._protected.is_protected(path, path.stat()):
            raise OSError(0, "it holds the API key, which never leaves")
        return hash_file(path)

    async def _store_once(self, content: HashedFile) -> Stored:
        """Copies of a content wait for the first of them: nothing is sent twice, not even at the same time."""
        external_id = content.external_id
        while (uploading := self._uploading.get(external_id)) is not None:
            await uploading.wait()
        if (known := self._known.get(external_id)) is not None:
            return Stored(known, sent=False)
        self._uploading[external_id] = anyio.Event()
        try:
            stored = await self._files.store_file(
                external_id, printable_file_name(content.path), content.open_unchanged
            )
        finally:  # also after an error: then the next copy tries
            self._uploading.pop(external_id).set()
        self._known[external_id] = stored.file
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return stored


def printable_file_name(path: Path) -> str:
    """The file's name as text. On disk a name is bytes, which need not be valid UTF-8."""
    return path.name.encode("utf-8", "replace").decode()
