"""Several API keys: each sees its own project, its jobs and its files."""

from typing import Any

import anyio
import httpx
import pytest

from classify_batch.errors import SettingsError
from classify_batch.sandbox import Options
from classify_batch.sandbox.documents.project import PROJECT_ID
from tests.support import sandbox_client_v2 as v2
from tests.support.sandbox_client import RULES

FILES = "/api/v1/beta/files"
OTHER = {"Authorization": "Bearer other-key"}
KEYS = {"other-key": "other-project", "third-key": "third-project"}
OPTIONS = {"further_keys": KEYS, "files_of_project": "ours-"}
PATHS = pytest.mark.parametrize("path", [v2.V1_JOBS, v2.JOBS])


def body(path: str, file_id: str) -> dict[str, Any]:
    return v2.create_body(file_id) if path == v2.JOBS else {"file_ids": ["a", file_id], "rules": RULES}


@PATHS
def test_a_further_key_sees_its_own_jobs_only(path: str) -> None:
    """In the list and by their IDs; the job that it creates is in its project, and there for no other key."""

    async def script(client: httpx.AsyncClient) -> Any:
        ours = (await client.post(path, json=body(path, "a"))).json()["id"]
        theirs = (await client.post(path, json=body(path, "a"), headers=OTHER)).json()["id"]
        await anyio.sleep(10)
        ends = ["", "/results"] if path == v2.V1_JOBS else [""]
        seen = []
        for headers in ({}, OTHER, {"Authorization": "Bearer third-key"}):
            listed = [job["id"] for job in (await client.get(path, headers=headers)).json()["items"]]
            found = [
                {(await client.get(f"{path}/{job_id}{end}", headers=headers)).status_code for end in ends}
                for job_id in (ours, theirs)
            ]
            seen.append((listed, *found))
        return ours, theirs, seen

    ours, theirs, seen = v2.run_script(script, **OPTIONS)
    assert seen == [([ours], {200}, {404}), ([theirs], {404}, {200}), ([], {404}, {404})]


@PATHS
def test_a_further_key_may_name_its_own_project_only(path: str) -> None:
    """Naming another is 403 in every call; naming its own is as naming none. The main key may name any."""

    async def script(client: httpx.AsyncClient) -> Any:
        made = (await client.post(path, json=body(path, "a"), headers=OTHER)).json()
        told = body(path, "a")
        calls = [("POST", path, told), ("GET", path, None), ("GET", f"{path}/{made['id']}", None), ("GET", FILES, None)]
        seen = {}
        for name, headers in {"other-project": OTHER, PROJECT_ID: OTHER, "": OTHER, "any": {}}.items():
            query = {"project_id": name}
            seen[name] = [
                (await client.request(method, at, params=query, headers=headers, json=content)).status_code
                for method, at, content in calls
            ]
        return seen

    assert v2.run_script(script, **OPTIONS) == {
        "other-project": [200] * 4,
        PROJECT_ID: [403] * 4,
        "": [200] * 4,
        "any": [200, 200, 404, 200],
    }


@PATHS
def test_files_of_the_default_project_are_unknown_in_others(path: str) -> None:
    """A create with one is 400 and names it with the project; the same create in the default project is taken."""

    async def script(client: httpx.AsyncClient) -> Any:
        told = body(path, "ours-1")
        refused = [await client.post(path, json=told, headers=OTHER)]
        refused.append(await client.post(path, json=told, params={"project_id": "named"}))
        return refused, (await client.post(path, json=told)).status_code, (await client.get(path)).json()["total_size"]

    refused, accepted, jobs = v2.run_script(script, **OPTIONS)
    assert [answer.status_code for answer in refused] == [400, 400]
    assert [answer.json()["detail"] for answer in refused] == [
        f"File ID ours-1 is not in Project ID {project_id}" for project_id in ("other-project", "named")
    ]
    assert (accepted, jobs) == (200, 1)


def test_a_transaction_belongs_to_one_project() -> None:
    """The same one by another key makes another job."""

    async def script(client: httpx.AsyncClient) -> Any:
        told = v2.create_body("a", transaction_id="t")
        return [(await client.post(v2.JOBS, json=told, headers=key)).json()["id"] for key in ({}, OTHER, {}, OTHER)]

    first, second, *again = v2.run_script(script, **OPTIONS)
    assert first != second
    assert again == [first, second]


def test_the_file_list_shows_the_files_of_the_keys_project() -> None:
    """Asked for by ID or not, made up or brought: each key sees what its project has."""

    async def script(client: httpx.AsyncClient) -> Any:
        purpose, file = {"purpose": "classify"}, {"file": ("a.txt", b"x")}
        brought = (await client.post(FILES, headers=OTHER, data=purpose, files=file)).json()
        asked = ["ours-1", "theirs-1", brought["id"]]
        seen = []
        for headers in ({}, OTHER):
            page = (await client.get(FILES, params={"file_ids": asked}, headers=headers)).json()
            seen.append([[item["id"], item["project_id"]] for item in page["items"]])
            assert page["total_size"] == len(page["items"])
            seen.append((await client.get(FILES, headers=headers)).json()["total_size"])
        taken = [
            await client.post(v2.V1_JOBS, json=body(v2.V1_JOBS, brought["id"]), headers=key) for key in ({}, OTHER)
        ]
        return brought, seen, taken

    brought, seen, taken = v2.run_script(script, files=3, **OPTIONS)
    assert brought["project_id"] == "other-project"
    assert seen == [
        [["ours-1", PROJECT_ID], ["theirs-1", PROJECT_ID]],
        3,
        [["theirs-1", "other-project"], [brought["id"], "other-project"]],
        4,
    ]
    assert [answer.status_code for answer in taken] == [400, 200]
    assert taken[0].json()["detail"] == f"File ID {brought['id']} is not in Project ID {PROJECT_ID}"


def test_made_up_files_can_be_of_the_default_project() -> None:
    """Then others don't list them."""

    async def script(client: httpx.AsyncClient) -> Any:
        ours = (await client.get(FILES)).json()["items"]
        theirs = (await client.get(FILES, headers=OTHER)).json()["items"]
        return [item["id"] for item in ours], [item["id"] for item in theirs]

    everything, shared = v2.run_script(script, files=3, further_keys=KEYS)
    assert everything == shared
    prefix = everything[0][:8]
    assert v2.run_script(script, files=3, further_keys=KEYS, files_of_project=prefix) == (everything, everything[1:])


@pytest.mark.parametrize("key", ["other", "other-key ", "sandbox2", "sandbox other-key", ""])
def test_an_unknown_key_is_401(key: str) -> None:
    """As ever; and the further keys are no part of an error or of what options print."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await client.get(v2.JOBS, headers={"Authorization": f"Bearer {key}!"})

    assert v2.run_script(script, **OPTIONS).status_code == 401
    assert "other-key" not in repr(Options.from_values(**OPTIONS))


@pytest.mark.parametrize("keys", [{"sandbox": "p"}, {"": "p"}, {"a b": "p"}, {"a": ""}])
def test_impossible_further_keys_are_refused(keys: dict[str, str]) -> None:
    """The main key again, none, one with a space, or none of a project."""
    with pytest.raises(SettingsError, match="further_keys"):
        Options.from_values(further_keys=keys)
