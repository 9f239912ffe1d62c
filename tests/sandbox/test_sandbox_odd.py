"""Odd calls, names and options: the sandbox answers as the API documents it, and never with a fault of its own."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
import pytest

from classify_batch.errors import SettingsError
from classify_batch.protocol.requests import UPLOAD_PURPOSES
from classify_batch.sandbox import Documents, Faults
from classify_batch.sandbox.server.uploads import UPLOADS_SUFFIX
from tests.support.sandbox_client import run_script

FILES = "/api/v1/beta/files"
JOBS = "/api/v1/classifier/jobs"
ODD = b"caf\xe9/r\xe9sum\xe9.txt"
RULES = [{"type": "invoice", "description": "an invoice with line items and a total"}]

CONFIG = """
[api]
base_url = "sandbox"

[job]
rules = [{ type = "invoice", description = "an invoice with line items and a total" }]

[sandbox]
documents = "inbox"
"""


def faults_of(response: httpx.Response) -> list[tuple[list[str], str]]:
    assert response.status_code == 422
    return [(fault["loc"], fault["msg"]) for fault in response.json()["detail"]]


# --- Names that are no text -------------------------------------------------------------------------------------------


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A folder with files whose names are Latin-1, UTF-8 and plain."""
    folder = tmp_path / "inbox"
    for name in (ODD, b"caf\xe9/r\xe8sum\xe9.txt", "Grüße.txt".encode(), b"a/plain.txt"):
        path = os.path.join(os.fsencode(folder), name)  # noqa: PTH118 - bytes
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(b"an invoice with line items and a total")
    return folder


def test_files_with_undecodable_names_are_served(inbox: Path) -> None:
    """Their files are listed, each with an ID of its own that stays the same, and classified by what they hold."""
    documents = Documents(inbox)
    by_name = {entry.name: entry.file_id for entry in documents.files}
    assert sorted(by_name) == ["Grüße.txt", "a/plain.txt", "caf?/r?sum?.txt"]
    assert len({entry.file_id for entry in documents.files}) == 4
    for name in ("Grüße.txt", "a/plain.txt"):
        assert by_name[name] == str(uuid5(NAMESPACE_URL, name))
    assert {UUID(entry.file_id).version for entry in documents.files} == {5}
    assert [entry.file_id for entry in Documents(inbox).files] == [entry.file_id for entry in documents.files]

    async def script(client: httpx.AsyncClient) -> Any:
        items = (await client.get(FILES)).json()["items"]
        job = await client.post(JOBS, json={"file_ids": [each["id"] for each in items], "rules": RULES})
        results = await client.get(f"{JOBS}/{job.json()['id']}/results")
        return [each["name"] for each in items], [each["result"]["type"] for each in results.json()["items"]]

    names, types = run_script(script, documents=inbox, job_duration_s=0.0)
    assert (len(names), types) == (4, ["invoice"] * 4)


def test_a_run_over_undecodable_names_ends_well(inbox: Path) -> None:
    """The embedded sandbox takes them, and so does the command by itself."""
    (inbox.parent / "job.toml").write_text(CONFIG)
    told = {name: value for name, value in os.environ.items() if not name.startswith(("CLASSIFY_", "LLAMA_"))}
    asked = [sys.executable, "-m", "classify_batch", "run", "job.toml", "--input", "project:", "--run-dir", "run"]
    done = subprocess.run(
        [*asked, "--json"], cwd=inbox.parent, env=told, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["counts"]["classified"] == 4


# --- The list of files ------------------------------------------------------------------------------------------------


def test_the_list_is_ordered_as_asked() -> None:
    """By name or ID ascending, by time the newest first, over pages and with uploads; any other order is refused."""

    async def script(client: httpx.AsyncClient) -> Any:
        plain = [each["id"] for each in (await client.get(FILES)).json()["items"]]
        for name in ("b.txt", "zz.txt", "a.txt"):
            await client.post(FILES, data={"purpose": "classify"}, files={"file": (name, b"x")})
        found = {}
        for order in ("name", "id", "created_at"):
            items: list[dict[str, str]] = []
            token: str | None = ""
            while token is not None:
                page = await client.get(FILES, params={"order_by": order, "page_size": 2, "page_token": token})
                items += page.json()["items"]
                token = page.json()["next_page_token"]
            found[order] = [(each["name"], each["id"]) for each in items]
        other = [await client.get(FILES, params={"order_by": order}) for order in ("size", "name desc", "name,id", "")]
        first = (await client.get(FILES, params={"order_by": "name", "page_size": 2})).json()["next_page_token"]
        crossed = await client.get(FILES, params={"order_by": "id", "page_token": first})
        return plain, found, other, crossed

    plain, found, other, crossed = run_script(script, files=3)
    names = [name for name, _ in found["name"]]
    assert names == sorted(names)
    assert (names[0], names[-1], len(names)) == ("a.txt", "zz.txt", 6)
    file_ids = [file_id for _, file_id in found["id"]]
    assert file_ids == sorted(file_ids)
    assert len(file_ids) == 6
    assert [name for name, _ in found["created_at"]][:3] == ["a.txt", "zz.txt", "b.txt"]
    assert [file_id for _, file_id in found["created_at"]][3:] == plain[::-1]
    assert [faults_of(each)[0][0] for each in other] == [["query", "order_by"]] * 4
    assert faults_of(crossed)[0][0] == ["query", "page_token"]


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("-1", "Input should be greater than or equal to 1"),
        ("0", "Input should be greater than or equal to 1"),
        ("--1", "Input should be a valid integer"),
        ("-", "Input should be a valid integer"),
        ("1.5", "Input should be a valid integer"),
        ("1001", "Input should be less than or equal to 1000"),
    ],
)
def test_a_malformed_page_size_is_422(size: str, words: str) -> None:
    """What is wrong with it is said: a negative number is an integer."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await client.get(FILES, params={"page_size": size})

    assert faults_of(run_script(script)) == [(["query", "page_size"], words)]


# --- Uploads ----------------------------------------------------------------------------------------------------------


def test_an_upload_has_a_purpose(tmp_path: Path) -> None:
    """One of those that the API documents: none, or another, is refused with its place, and nothing is kept."""

    async def script(client: httpx.AsyncClient) -> Any:
        file = {"file": ("a.txt", b"x")}
        none = await client.post(FILES, files=file)
        other = await client.post(FILES, data={"purpose": "fun"}, files=file)
        neither = await client.post(FILES, files={"no_file": ("a", b"x")})
        kept = (await client.get(FILES)).json()["total_size"]
        sound = [await client.post(FILES, data={"purpose": each}, files=file) for each in UPLOAD_PURPOSES]
        return none, other, neither, kept, [each.json()["purpose"] for each in sound]

    none, other, neither, kept, sound = run_script(script, ledger=tmp_path / "ledger")
    assert faults_of(none) == [(["body", "purpose"], "Field required")]
    assert faults_of(other)[0][0] == ["body", "purpose"]
    assert [where for where, _ in faults_of(neither)] == [["body", "file"], ["body", "purpose"]]
    assert (kept, sound) == (0, list(UPLOAD_PURPOSES))


def test_the_uploads_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """What is kept beside the ledger has the ledger's mode, whatever the umask."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await client.post(FILES, data={"purpose": "classify"}, files={"file": ("a.txt", b"x")})

    before = os.umask(0o022)
    try:
        assert run_script(script, ledger=tmp_path / "ledger").status_code == 200
    finally:
        os.umask(before)
    paths = (tmp_path / "ledger", tmp_path / f"ledger{UPLOADS_SUFFIX}")
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o600, 0o600]


# --- Methods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", FILES),
        ("DELETE", JOBS),
        ("POST", f"{JOBS}/x/results"),
        ("PATCH", "/api/v2/classify"),
        ("POST", "/sandbox/stats"),
    ],
)
def test_a_wrong_method_is_refused_in_json(method: str, path: str) -> None:
    """405 with a `detail`, as JSON, and which ones are allowed."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await client.request(method, path)

    refused = run_script(script)
    assert (refused.status_code, refused.json()) == (405, {"detail": "Method Not Allowed"})
    assert refused.headers["content-type"] == "application/json"
    assert method not in refused.headers["allow"].split(", ")


# --- Faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["foreign", "poison", "rejected_vaguely"])
def test_a_fault_takes_file_ids_as_text_or_list(name: str) -> None:
    """With commas between them or as a list, on a command line as in a file; what is neither is refused."""
    for told in ("B,C", " B , C ", '["B", "C"]', ' ["B","C",]', "['B', 'C']", ["B", "C"]):
        assert getattr(Faults.from_values({name: told}, "here"), name) == {"B", "C"}
    assert getattr(Faults.from_values({name: '["[1]"]'}, "here"), name) == {"[1]"}
    for bad in ("[B]", '["B"', '["B"] x', "[1]"):
        with pytest.raises(SettingsError, match=name):
            Faults.from_values({name: bad}, "here")


def test_a_fault_takes_a_list_on_the_command_line(tmp_path: Path) -> None:
    """It does what it says: the create that holds one of the IDs is refused, and names it."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await client.post(JOBS, json={"file_ids": ["A", "B"], "rules": RULES})

    refused = run_script(script, faults=Faults.from_values({"foreign": '["B"]'}, "--fault"))
    assert (refused.status_code, "File ID B" in refused.json()["detail"]) == (400, True)
