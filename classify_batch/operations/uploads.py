"""Files of this machine brought to the project, and the project's files listed.

What goes up is known by the SHA-256 of its content: hashed, looked for, and sent only if it isn't there. So the same
command goes on after an interruption, and nothing has to be remembered on this side.
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
from classify_batch.llamacloud.file_client import FileClient, FileRefusedError, Stored
from classify_batch.llamacloud.raw_bodies import Body
from classify_batch.operations.jobs.single_calls import connected, ending
from classify_batch.operations.own_task import in_own_task
from classify_batch.protocol.file_bodies import PAGE_SIZE_MAX, StoredFile
from classify_batch.protocol.sanitize import clean
from classify_batch.settings import Settings

PAGES_MAX = 1_000_000

_NAMED_MAX = 10

_KNOWN_MAX = 10_000
"""So many contents are remembered: copies among them cost no request. Older ones are looked for again."""


class Uploaded(NamedTuple):
    """A file that is in the project now.

    Attributes:
        sent: whether it was sent, or had been there already.
    """

    path: Path
    stored: StoredFile
    external_file_id: str
    sent: bool

    def line(self) -> str:
        """A line of JSON: an `--input` of a run."""
        name = self.stored.name if isinstance(self.stored.name, str) else self.path.name
        told = {"path": str(self.path), "file_id": self.stored.id, "external_file_id": self.external_file_id}
        return json.dumps({**told, "name": name})


class NotUploaded(NamedTuple):
    """A file that can't be had, or that the API won't have."""

    path: Path
    reason: str


class _Content(NamedTuple):
    """What a file held when it was hashed."""

    path: Path
    external_id: str
    size: int
    changed_ns: int

    def open(self) -> BinaryIO:
        """The same content again. Raises OSError, also where it is another one."""
        file = self.path.open("rb")
        try:
            self.check(os.fstat(file.fileno()))
        except OSError:
            file.close()
            raise
        return file

    def check(self, found: os.stat_result) -> None:
        if (found.st_size, found.st_mtime_ns) != (self.size, self.changed_ns):
            raise OSError(0, "it changed while it was sent")


async def upload(
    settings: Settings,
    paths: Sequence[Path],
    *,
    recursive: bool,
    concurrency: int,
    tell: Callable[[Uploaded | NotUploaded], None],
) -> None:
    """Brings files to the project; `tell` hears of each as it ends, in no order.

    Args:
        paths: files, and with `recursive` folders: all in them but what is hidden. Links to folders aren't followed.
        concurrency: files at once; none is ever held in memory.

    Raises:
        UsageError: a path is not there, or a folder that was not asked for; nothing was sent.
        ApiError: the API is down, or a person must act. What `tell` heard of is done.
    """
    refuse_paths(paths, recursive=recursive)

    async def work() -> None:
        async with connected(settings) as http:
            uploads = _Uploads(FileClient(http, SystemClock()), tell)
            async with anyio.create_task_group() as tasks:
                give, take = anyio.create_memory_object_stream[Path | NotUploaded]()
                async with give, take:
                    for _ in range(concurrency):
                        tasks.start_soon(uploads.work, take.clone())
                    for path in find(paths):
                        await give.send(path)

    await in_own_task(work)


async def list_files(
    settings: Settings,
    *,
    page_size: int | None = None,
    page_token: str | None = None,
    file_ids: tuple[str, ...] = (),
    file_name: str | None = None,
) -> Body:
    """One page of the project's files, as the API tells it."""

    async def work() -> Body:
        async with connected(settings) as http:
            return await FileClient(http, SystemClock()).list_files(
                page_size=page_size, page_token=page_token, file_ids=file_ids, file_name=file_name
            )

    return await in_own_task(work)


async def each_page(
    settings: Settings,
    tell: Callable[[Body], None],
    *,
    page_size: int | None = None,
    page_token: str | None = None,
    file_ids: tuple[str, ...] = (),
    file_name: str | None = None,
) -> None:
    """All pages from the one behind `page_token` on; `tell` gets each as it comes."""

    async def work() -> None:
        async with connected(settings) as http:
            read = partial(
                FileClient(http, SystemClock()).list_files,
                page_size=page_size or PAGE_SIZE_MAX,
                file_ids=file_ids,
                file_name=file_name,
            )
            async for page in _pages(lambda token: read(page_token=token), page_token):
                tell(page)

    await in_own_task(work)


async def _pages(read: Callable[[str | None], Awaitable[Body]], token: str | None) -> AsyncIterator[Body]:
    """Pages of a server that is not trusted to come to an end."""
    tokens: set[str] = set()
    while len(tokens) < PAGES_MAX:
        page = await read(token)
        yield page
        token = page.get("next_page_token")
        if not token:
            return
        if token in tokens:
            break
        tokens.add(token)
    raise SourceError(
        "the server's list of files does not come to an end: a next_page_token came twice",
        hint="read it page by page, with --page-token",
    )


# --- What goes up ---------------------------------------------------------------------------------------------------


def refuse_paths(paths: Sequence[Path], *, recursive: bool) -> None:
    """Names everything that a person got wrong, before anything is sent."""
    missing = [path for path in paths if not path.exists()]
    folders = [] if recursive else [path for path in paths if path.is_dir()]
    if missing:
        raise UsageError(f"there is no {_named(missing)}", hint="nothing was sent; check the paths")
    if folders:
        raise UsageError(f"{_named(folders)} is a folder", hint="--recursive takes all files in folders")


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(clean(str(path)) for path in paths[:_NAMED_MAX]) + (", …" if len(paths) > _NAMED_MAX else "")


def find(paths: Sequence[Path]) -> Iterator[Path | NotUploaded]:
    """The files that are meant, in an order that is the same each time; what can't be read is told, too."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        unread: list[OSError] = []
        for folder, folders, names in os.walk(path, onerror=unread.append):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
            yield from (NotUploaded(Path(error.filename), _reason(error)) for error in unread)
            unread.clear()
        yield from (NotUploaded(Path(error.filename), _reason(error)) for error in unread)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def read_content(path: Path) -> _Content:
    """Hashes a file, in bounded memory. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe would be waited for
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is no regular file")
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _Content(path, f"sha256-{digest}", found.st_size, found.st_mtime_ns)


class _Uploads:
    """What the workers share."""

    def __init__(self, files: FileClient, tell: Callable[[Uploaded | NotUploaded], None]) -> None:
        self._files = files
        self._tell = tell
        self._known: OrderedDict[str, StoredFile] = OrderedDict()
        self._busy: dict[str, anyio.Event] = {}

    async def work(self, paths: MemoryObjectReceiveStream[Path | NotUploaded]) -> None:
        """One after the other, until there is none left."""
        async with paths:
            async for path in paths:
                if isinstance(path, NotUploaded):
                    self._tell(path)
                    continue
                with ending():
                    self._tell(await self._bring(path))

    async def _bring(self, path: Path) -> Uploaded | NotUploaded:
        try:
            content = await anyio.to_thread.run_sync(read_content, path, abandon_on_cancel=True)
            stored = await self._store(content)
            if stored.sent:
                content.check(path.stat())
        except OSError as error:
            return NotUploaded(path, _reason(error))
        except FileRefusedError as error:
            return NotUploaded(path, str(error))
        return Uploaded(path, stored.file, content.external_id, stored.sent)

    async def _store(self, content: _Content) -> Stored:
        """Copies of one content wait for the first of them: nothing is sent twice at the same time."""
        external_id = content.external_id
        while (busy := self._busy.get(external_id)) is not None:
            await busy.wait()
        if (known := self._known.get(external_id)) is not None:
            return Stored(known, sent=False)
        self._busy[external_id] = anyio.Event()
        try:
            stored = await self._files.store_file(external_id, _file_name(content.path), content.open)
        finally:
            self._busy.pop(external_id).set()
        self._known[external_id] = stored.file
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return stored


def _file_name(path: Path) -> str:
    """The name as text: a name on disk is bytes, and need not be any."""
    return path.name.encode("utf-8", "replace").decode()
