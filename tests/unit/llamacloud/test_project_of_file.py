"""Which project a file is in, as the file list tells."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from classify_batch.clock import SystemClock
from classify_batch.limits import RequestGate
from classify_batch.llamacloud.access import ApiAccess
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.file_client import find_project_of_file

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

UUID = "0a6b7c1e-3d2f-4a5b-8c9d-0e1f2a3b4c5d"


class Listing(httpx.AsyncBaseTransport):
    """A server whose file list is always the same."""

    def __init__(self, files: list[dict[str, Any]]) -> None:
        self._files = files

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        data = json.dumps({"items": self._files, "next_page_token": None}).encode()
        return httpx.Response(200, stream=httpx.ByteStream(data))


@pytest.mark.parametrize(
    ("files", "project_id"),
    [
        ([], None),
        ([{"id": UUID, "project_id": "p"}], "p"),
        ([{"id": UUID.upper(), "project_id": "p"}], "p"),
        ([{"id": "another", "project_id": "q"}], None),
        ([{"id": "another", "project_id": "q"}, {"id": UUID, "project_id": "p"}], "p"),
        ([{"id": UUID}], None),
        ([{"id": UUID, "project_id": None}], None),
        ([{"id": UUID, "project_id": 7}], None),
    ],
)
async def test_a_project_is_taken_from_the_same_file_only(files: list[dict[str, Any]], project_id: str | None) -> None:
    """In whatever spelling the server lists it; another file's project, where the server ignores what it was asked
    for, and what is no project's name, say nothing."""
    async with RequestGate(requests_in_flight=1, requests_per_s=100.0) as gate:
        http = ApiClient(
            ApiAccess("https://api.test", SecretStr("key")),
            gate,
            SystemClock(),
            timeout_s=5.0,
            transport=lambda: Listing(files),
        )
        try:
            assert await find_project_of_file(http, UUID) == project_id
        finally:
            await http.aclose()
