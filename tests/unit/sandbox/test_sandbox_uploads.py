"""What the sandbox makes of an upload, called in process; a real client on a real socket is in tests/command."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from classify_batch.sandbox import Faults
from classify_batch.sandbox.server import upload_form as module
from classify_batch.sandbox.server.responses import Refusal
from classify_batch.sandbox.server.upload_form import FIELD_BYTES_MAX, FIELDS_MAX, UploadForm
from classify_batch.sandbox.server.uploads import read_uploads
from tests.support import sandbox_client

FILES = "/api/v1/beta/files"
run_script = partial(sandbox_client.run_script, real_time=True)
CONTENT = b"\r\n--x\r\n\r\n--\r\n" * 9 + bytes(range(256))


async def send(client: httpx.AsyncClient, name: str = "a.txt", external_id: str = "e", **params: str) -> httpx.Response:
    fields = {"purpose": "classify", "external_file_id": external_id}
    return await client.post(FILES, data=fields, files={"file": (name, CONTENT)}, params=params)


def test_an_upload_is_listed_and_classified(tmp_path: Path) -> None:
    """It has the documented fields, is found by each filter, in its own project only, and also after a restart."""

    async def script(client: httpx.AsyncClient) -> Any:
        file = (await send(client)).json()
        await send(client, "b.txt", "f", project_id="other")
        filters: tuple[dict[str, str], ...] = (
            {},
            {"external_file_id": "e"},
            {"file_name": "a.txt"},
            {"file_ids": file["id"]},
            {"external_file_id": "f"},
            {"project_id": "other"},
        )
        return file, [(await client.get(FILES, params=each)).json() for each in filters]

    async def look(client: httpx.AsyncClient) -> Any:
        return (await client.get(FILES)).json()["items"]

    file, pages = run_script(script, files=3, ledger=tmp_path / "ledger")
    assert {"id", "name", "project_id", "external_file_id", "file_type", "expires_at", "purpose"} <= set(file)
    assert (file["name"], file["external_file_id"], file["file_type"], file["purpose"]) == (
        *("a.txt", "e", "txt", "classify"),
    )
    assert [page["total_size"] for page in pages] == [4, 1, 1, 1, 0, 4]
    assert all(file in page["items"] for page in pages[:4])
    assert file not in pages[5]["items"]
    assert run_script(look, files=3, ledger=tmp_path / "ledger")[3] == file
    assert [(each.size_bytes, each.sha256) for each in read_uploads(tmp_path / "ledger")] == [
        (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    ] * 2


def test_a_file_that_a_create_accepts_is_found_by_its_id(tmp_path: Path) -> None:
    """Without documents any ID is known, listed or not, each once; with documents only theirs."""

    async def script(client: httpx.AsyncClient) -> Any:
        uploaded = (await send(client)).json()["id"]
        listed = [each["id"] for each in (await client.get(FILES)).json()["items"]]
        asked = [*listed, "any", "any"]
        found = (await client.get(FILES, params={"file_ids": asked})).json()
        return uploaded, set(asked), found["total_size"], {each["id"] for each in found["items"]}

    uploaded, asked, total, found = run_script(script, files=2)
    assert (total, found) == (4, asked)
    (tmp_path / "a.txt").write_text("a")
    uploaded, asked, total, found = run_script(script, documents=tmp_path)
    assert (total, found) == (2, asked - {"any"})
    assert uploaded in found


def test_the_file_list_shows_uploads_behind_the_project_files() -> None:
    """Each file once, whatever the size of a page."""

    async def script(client: httpx.AsyncClient) -> Any:
        for number in range(4):
            await send(client, f"{number}.txt")
        found = []
        for size in (1, 2, 3, 5, 9):
            names: list[str] = []
            token: str | None = ""
            while token is not None:
                page = (await client.get(FILES, params={"page_size": size, "page_token": token})).json()
                names += [each["name"] for each in page["items"]]
                token = page["next_page_token"]
            found.append(names)
        return found

    for names in run_script(script, files=3):
        assert len(set(names)) == len(names) == 7


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50, 10_000])
def test_an_upload_is_parsed_in_blocks_of_any_size(step: int) -> None:
    """The content is the same wherever it is cut."""
    request = httpx.Request("POST", "http://x", data={"purpose": "p", "empty": ""}, files={"file": ("ñ", CONTENT)})
    body = request.read()
    form = UploadForm(request.headers["content-type"])
    for start in range(0, len(body), step):
        form.feed_block(body[start : start + step])
    form.feed_block(b"what follows the end")
    assert form.is_complete
    assert (form.file_name, form.field_text("purpose"), form.field_text("empty")) == ("ñ", "p", "")
    assert form.field_text("file") is form.field_text("nothing") is None
    assert (form.size_bytes, form.digest.digest()) == (len(CONTENT), hashlib.sha256(CONTENT).digest())


def part(head: str, content: bytes = b"") -> bytes:
    return b"--b\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"no delimiter",
        b"--other\r\n",
        part('Content-Disposition: form-data; name="purpose"', b"x" * (FIELD_BYTES_MAX + 1)),
        part("X: " + "x" * (FIELD_BYTES_MAX + 1)),
        b"".join(part(f'Content-Disposition: form-data; name="{number}"') for number in range(FIELDS_MAX + 1)),
        b"--b\r\nno colon\r\n\r\n",
    ],
    ids=["no delimiter", "another delimiter", "a long field", "a long head", "many fields", "a bad head"],
)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    """400, in the words of the vendor's framework; nothing grows without a limit."""
    form = UploadForm("multipart/form-data; boundary=b")
    with pytest.raises(Refusal) as caught:
        form.feed_block(body)
    assert caught.value.response.status_code == 400
    assert caught.value.response.body == b'{"detail":"There was an error parsing the body"}'


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=b"],
)
def test_another_media_type_is_refused(content_type: str) -> None:
    """422, as it says that a form was expected."""
    with pytest.raises(Refusal) as caught:
        UploadForm(content_type)
    assert caught.value.response.status_code == 422


def test_a_malformed_upload_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another media type, no file, half a body: 422. Too large: 413. No key: 401."""
    monkeypatch.setattr(module, "UPLOAD_BYTES_MAX", len(CONTENT) - 1)

    async def script(client: httpx.AsyncClient) -> Any:
        other = await client.post(FILES, json={})
        fields = {"purpose": "classify"}
        nothing = await client.post(FILES, data=fields, files={"no_file": ("a", b"x")})
        whole = client.build_request("POST", FILES, data=fields, files={"file": ("a", b"x")})
        half = await client.post(
            FILES, content=whole.read()[:-10], headers={"Content-Type": whole.headers["content-type"]}
        )
        large = await send(client)
        wrong_key = await client.post(FILES, headers={"Authorization": "Bearer no"})
        return [each.status_code for each in (other, nothing, half, large, wrong_key)]

    assert run_script(script) == [422, 422, 422, 413, 401]


def test_a_slow_upload_keeps_its_body() -> None:
    """A fault that reads the request first leaves its body to be read by the handler."""

    async def script(client: httpx.AsyncClient) -> Any:
        return (await send(client)).json()["name"]

    assert run_script(script, faults=Faults.from_values({"files.before.slow": 1, "slow_s": 0.01}, "here")) == "a.txt"
