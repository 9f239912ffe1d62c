"""The project's files: lists them, looks them up, and uploads each content once.

The API knows a file by the SHA-256 of its content (`external_file_id`). Each attempt to upload one looks for it first,
so an upload whose response was lost is found again, and a command that is repeated uploads only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import BinaryIO, NamedTuple, TypeVar

from classify_batch.errors import ApiError, Verdict
from classify_batch.file_keys import file_key, file_keys
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.client import ApiClient, MultipartForm, wrong_shape_error
from classify_batch.llamacloud.raw_bodies import Body, make_body_reader
from classify_batch.llamacloud.single_calls import CALLS_MAX
from classify_batch.ports import Clock
from classify_batch.protocol import file_bodies as files
from classify_batch.protocol.requests import QueryParams, QueryValue, UploadFields
from classify_batch.protocol.url_parts import encode_query

Page = TypeVar("Page")

PURPOSE = "classify"

_SAME_ID_MAX = 100
"""How many files under one external ID are searched for one that has not expired; usually there is one file."""

UPLOAD_CALLS_MAX = 6
"""How often one file is tried: what the API can't do now it may do later."""

NOT_FOUND = 404

_CONTENT_PREFIX = "sha256-"
"""With which the external ID of whatever we upload begins."""

_UNFIT_STATUSES = frozenset({415})
"""Statuses by which a server may refuse one file and accept the next, beside 400, 413 and 422."""


LOOKUP_IDS_MAX = files.PAGE_SIZE_MAX
"""The most file IDs that one request asks for: their files fit on one page."""

LOOKUP_CALLS_MAX = 10

_QUERY_CHARACTERS_MAX = 50_000
"""httpx refuses URLs of more than 65,536 characters. What a server takes may be much less, and is found by halving."""

_TOO_MUCH_STATUSES = frozenset({400, 413, 414, 422, 431})
"""What a server may answer to a URL or a list of IDs that is too long for it."""

_REFUSED_ALONE_MAX = 100
"""How many IDs that the server refuses may be found by halving, which takes about twenty requests for each."""

_STALE_PAGES_MAX = 5
"""So many pages in a row without a new file are a list without end."""


class FileRefusedError(Exception):
    """The API refuses this file; it may take others."""


class Stored(NamedTuple):
    """A file that the API has, and whether this call uploaded it."""

    file: files.StoredFile
    sent: bool


class FileClient:
    """Calls about files. Every method raises ApiError."""

    def __init__(self, client: ApiClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def list_files(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        file_ids: tuple[str, ...] = (),
        file_name: str | None = None,
    ) -> Body:
        """One page of the file list, as the server sent it."""
        params: dict[str, QueryValue | None] = {
            "page_size": page_size,
            "page_token": page_token,
            "file_ids": list(file_ids) or None,
            "file_name": file_name,
        }
        given = {name: value for name, value in params.items() if value is not None}
        read = make_body_reader(files.read_file_ids_page, self._client.secrets)
        page = await retry_transient(
            partial(self._client.send_request, "files", "GET", files.FILES_PATH, read, params=given),
            calls_max=CALLS_MAX,
        )
        return page.body

    async def store_file(self, external_id: str, name: str, opened: Callable[[], BinaryIO]) -> Stored:
        """Uploads a file, unless the API has it. `opened` gives its content, from the start, for each attempt.

        Raises:
            FileRefusedError: the API refuses the file.
        """
        return await retry_transient(
            partial(self._find_or_upload, external_id, name, opened), calls_max=UPLOAD_CALLS_MAX
        )

    async def delete_file(self, file_id: str) -> bool:
        """Deletes a file. False: the project has none of this ID, or not any more.

        As the vendor's SDK does it: `DELETE /api/v1/beta/files/{file_id}`, answered by 204 without a body.

        Raises:
            FileRefusedError: the API refuses to delete it.
        """
        delete = partial(self._client.send_request, "delete", "DELETE", files.file_path(file_id), lambda _body: True)
        try:
            return await retry_transient(delete, calls_max=CALLS_MAX)
        except ApiError as error:
            if error.status == NOT_FOUND:  # also after a first call whose answer was lost: then it did the work
                return False
            if error.verdict is Verdict.REFUSED:
                raise FileRefusedError(str(error)) from None
            raise

    async def is_alive(self, file_id: str) -> bool:
        """Whether the project has a file of this ID that has not expired."""
        params: QueryParams = {"file_ids": [file_id], "page_size": 1}
        once = partial(
            self._client.send_request, "files", "GET", files.FILES_PATH, files.read_stored_files, params=params
        )
        found: Sequence[files.StoredFile] = await retry_transient(once, calls_max=UPLOAD_CALLS_MAX)
        # Compared by ID all the same: a server that ignores the filter answers with any file.
        return any(file_key(each.id) == file_key(file_id) and self._is_unexpired(each) for each in found)

    async def find_gone(self, file_ids: Sequence[str]) -> set[str]:
        """Those of at most `LOOKUP_IDS_MAX` file IDs that the project has no more, or that have expired; nothing where
        the server can't look files up."""
        try:
            found = await FileLookup(self._client).find_files(file_ids)
        except LookupRefusedError:
            return set()
        alive = {file_key(each.id) for each in found if self._is_unexpired(each)}
        return {file_id for file_id in file_ids if file_key(file_id) not in alive}

    def _is_unexpired(self, file: files.StoredFile) -> bool:
        """By the server's clock: ours may be wrong, and `expires_at` is the server's time."""
        now_s = self._clock.wall_s() + (self._client.clock_skew_s or 0.0)
        return file.expires_at_s is None or file.expires_at_s > now_s

    async def _find_or_upload(self, external_id: str, name: str, opened: Callable[[], BinaryIO]) -> Stored:
        found = await retry_transient(partial(self._find_by_external_id, external_id))
        if found is not None:
            return Stored(found, sent=False)
        with opened() as file:
            form = MultipartForm(UploadFields(PURPOSE, external_id)._asdict(), name, file)
            try:
                stored = await self._client.send_request(
                    "upload", "POST", files.FILES_PATH, files.read_stored_file, form=form
                )
            except ApiError as error:
                if error.verdict is Verdict.REFUSED or error.status in _UNFIT_STATUSES:
                    raise FileRefusedError(str(error)) from None
                raise
        if names_another_content(stored.external_file_id, external_id):
            # The answer to another upload: its file would be classified under this one's name.
            raise wrong_shape_error("upload", ValueError("another file's external_file_id"))
        return Stored(stored, sent=True)

    async def _find_by_external_id(self, external_id: str) -> files.StoredFile | None:
        """A file of that content that has not expired. Others are skipped: a server that ignores the filter lists
        them."""
        params: QueryParams = {"external_file_id": external_id, "page_size": _SAME_ID_MAX}
        found = await self._client.send_request(
            "files", "GET", files.FILES_PATH, files.read_stored_files, params=params
        )
        return next((each for each in found if each.external_file_id == external_id and self._is_unexpired(each)), None)


def names_another_content(shown: str | None, external_id: str) -> bool:
    """Whether an upload is shown with the external ID of another content. One in a form of the server's own says
    nothing, nor does one that it has cut, or added something to.

    >>> names_another_content("sha256-AB", "sha256-ab"), names_another_content("inbox/a.pdf", "sha256-ab")
    (False, False)
    >>> names_another_content("sha256-abcd", "sha256-abcdef"), names_another_content("sha256-abcd.pdf", "sha256-abcd")
    (False, False)
    >>> names_another_content("sha256-cd", "sha256-ab")
    True
    """
    plain = (shown or "").strip().lower()
    is_ours = plain.startswith(external_id) or external_id.startswith(plain)
    return plain.startswith(_CONTENT_PREFIX) and not is_ours


class LookupRefusedError(Exception):
    """This server can't look files up by their IDs; the message says why."""


class FileLookup:
    """Looks files up by their IDs, as many at once as the server takes.

    Attributes:
        refused: how many IDs the server refuses, though it looks others up: there can be no file of such an ID.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._ids_per_request = LOOKUP_IDS_MAX
        self._ever_served = False
        self._refused_alone = 0
        self.refused = 0

    async def find_files(self, file_ids: Sequence[str]) -> list[files.StoredFile]:
        """The files that the project has of these IDs, at most `LOOKUP_IDS_MAX` different ones.

        Raises:
            LookupRefusedError: the server refuses the filter, ignores it, or doesn't come to an end.
            ApiError: the API is down.
        """
        found: list[files.StoredFile] = []
        start = 0
        while start < len(file_ids):
            some = file_ids[start : start + self._ids_per_request]
            found += await self._find_files(some)
            start += len(some)
        return found

    async def _find_files(self, file_ids: Sequence[str]) -> list[files.StoredFile]:
        if not file_ids:
            return []
        # httpx raises for a longer URL, and that is no error of the API.
        if len(file_ids) > 1 and len(encode_query({"file_ids": file_ids})) > _QUERY_CHARACTERS_MAX:
            return await self._find_files_by_halves(file_ids)
        try:
            found = await self._read_all_pages(file_ids)
        except ApiError as error:
            if error.verdict in (Verdict.LATER, Verdict.BLOCKED, Verdict.DOWN, Verdict.NO_CREDIT):
                raise
            if named := set(error.file_indexes) & set(range(len(file_ids))):
                self.refused += len(named)
                return await self._find_files([each for at, each in enumerate(file_ids) if at not in named])
            if error.status not in _TOO_MUCH_STATUSES:
                raise LookupRefusedError(str(error)) from None
            if len(file_ids) > 1:
                return await self._find_files_by_halves(file_ids, learn=True)
            # A server that never served a lookup may refuse all of them: that is not about one ID.
            if not self._ever_served or self._refused_alone == _REFUSED_ALONE_MAX:
                raise LookupRefusedError(str(error)) from None
            self._refused_alone += 1
            self.refused += 1
            return []
        self._ever_served = True
        return found

    async def _find_files_by_halves(self, file_ids: Sequence[str], *, learn: bool = False) -> list[files.StoredFile]:
        """Looks up both halves.

        Args:
            learn: the whole was refused. If both halves are then served, it was too long, and from now on requests are
                no longer than half of it; else a single ID was refused.
        """
        half, refused = (len(file_ids) + 1) // 2, self.refused
        found = await self._find_files(file_ids[:half]) + await self._find_files(file_ids[half:])
        if learn and self.refused == refused:
            self._ids_per_request = min(self._ids_per_request, half)
        return found

    async def _read_all_pages(self, file_ids: Sequence[str]) -> list[files.StoredFile]:
        """All pages: a server may make them shorter than was asked for."""
        found: dict[str, files.StoredFile] = {}
        wanted, token, stale = frozenset(file_keys(file_ids)), "", 0
        while stale < _STALE_PAGES_MAX:
            params: QueryParams = {"file_ids": list(file_ids), "page_size": len(file_ids)}
            if token:
                params = {**params, "page_token": token}
            once = partial(
                self._client.send_request, "files", "GET", files.FILES_PATH, files.read_stored_files_page, params=params
            )
            page, next_token = await retry_transient(once, calls_max=LOOKUP_CALLS_MAX)
            keys = file_keys([file.id for file in page])  # the server may spell UUIDs in its own way
            # A server that ignores the filter would list the whole project, page by page.
            if not wanted.issuperset(keys):
                raise LookupRefusedError("the server ignores file_ids, and lists other files")
            known = len(found)
            found.update(zip(keys, page, strict=True))
            if next_token is None or len(found) == len(wanted):
                return list(found.values())
            token, stale = next_token, stale + 1 if len(found) == known else 0
        raise LookupRefusedError("the server's list of files does not come to an end")


async def find_project_of_file(client: ApiClient, file_id: str) -> str | None:
    """The project that has a file, as the file list says, which both versions share."""
    params: QueryParams = {"file_ids": [file_id], "page_size": 1}
    found = await client.send_request("files", "GET", files.FILES_PATH, files.read_stored_files, params=params)
    # A server that ignores the filter answers with any file: that would prove another project.
    here = (each.project_id for each in found if file_key(each.id) == file_key(file_id))
    return next(here, None)


class FileList:
    """The project's files, a page at a time."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def read_page(self, token: str | None) -> tuple[list[str], str | None]:
        """The file IDs of a page and the token of the next."""
        return await self._read_page(token, files.read_file_ids_page)

    async def read_objects(self, token: str | None) -> tuple[list[dict[str, object]], str | None]:
        """The files of a page, with everything that the server says about them, and the token of the next."""
        return await self._read_page(token, files.read_file_objects_page)

    async def _read_page(self, token: str | None, read_body: Callable[[bytes], Page]) -> Page:
        params: QueryParams = {"page_size": files.PAGE_SIZE_MAX}
        if token is not None:
            params = {**params, "page_token": token}
        return await self._client.send_request("files", "GET", files.FILES_PATH, read_body, params=params)
