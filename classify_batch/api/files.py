"""The project's files: listed in the server's own words, and sent there so that nothing is sent twice.

A file is known to the API by the SHA-256 of its content (`external_file_id`). Each attempt to send one looks for it
first, so an upload whose answer was lost is found again, and a command that is given again sends only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import BinaryIO, NamedTuple

from classify_batch.api.http import Form, Http
from classify_batch.api.jobs import TRIES, Body, reader
from classify_batch.backoff import patiently
from classify_batch.errors import ApiError, Verdict
from classify_batch.ports import Clock
from classify_batch.wire import files

PURPOSE = "classify"

_SAME_ID_MAX = 100
"""So many files under one external id are looked at; usually there is one."""

UPLOAD_TRIES = 6
"""So often one file is sent while the API answers everything else: what it can't do now it will do later."""

_UNFIT_STATUSES = frozenset({415})
"""Beside 400, 413 and 422, what a server may say of one file and not of the next."""


class FileRefusedError(Exception):
    """The API said no to this file; others may do."""


class Stored(NamedTuple):
    """A file that the API has, and whether this call brought it there."""

    file: files.StoredFile
    sent: bool


class Files:
    """Calls about files. Every method raises ApiError."""

    def __init__(self, http: Http, clock: Clock) -> None:
        self._http = http
        self._clock = clock

    async def list_page(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        file_ids: tuple[str, ...] = (),
        file_name: str | None = None,
    ) -> Body:
        """One page of the file list, in the server's own words."""
        params = {
            "page_size": page_size,
            "page_token": page_token,
            "file_ids": list(file_ids) or None,
            "file_name": file_name,
        }
        given = {name: value for name, value in params.items() if value is not None}
        read = reader(files.read_file_page)
        return await patiently(
            partial(self._http.call, "files", "GET", files.FILES_PATH, read, params=given), tries=TRIES
        )

    async def store(self, external_id: str, name: str, opened: Callable[[], BinaryIO]) -> Stored:
        """Brings a file to the API unless it is there. `opened` gives its content, from the start, for each attempt.

        Raises:
            FileRefusedError: the API won't have it.
        """
        return await patiently(partial(self._attempt, external_id, name, opened), tries=UPLOAD_TRIES)

    async def _attempt(self, external_id: str, name: str, opened: Callable[[], BinaryIO]) -> Stored:
        found = await patiently(partial(self._find, external_id))
        if found is not None:
            return Stored(found, sent=False)
        with opened() as file:
            form = Form({"purpose": PURPOSE, "external_file_id": external_id}, name, file)
            try:
                stored = await self._http.call("upload", "POST", files.FILES_PATH, files.read_stored_file, form=form)
            except ApiError as error:
                if error.verdict is Verdict.REFUSED or error.status in _UNFIT_STATUSES:
                    raise FileRefusedError(str(error)) from None
                raise
        return Stored(stored, sent=True)

    async def _find(self, external_id: str) -> files.StoredFile | None:
        """A file of that content. A server that doesn't know the filter lists others, and they are passed over."""
        params = {"external_file_id": external_id, "page_size": _SAME_ID_MAX}
        found = await self._http.call("files", "GET", files.FILES_PATH, files.read_stored_files, params=params)
        now_s = self._clock.wall_s() + (self._http.clock_skew_s or 0.0)
        return next(
            (
                each
                for each in found
                if each.external_file_id == external_id and (each.expires_at_s is None or each.expires_at_s > now_s)
            ),
            None,
        )
