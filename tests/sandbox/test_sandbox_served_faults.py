"""What a client sees of every fault, on a real socket."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from classify_batch.protocol.v1 import CreateBody
from classify_batch.sandbox import App, Faults, Options, open_sandbox, serve_in_loop
from classify_batch.sandbox.faults.request_faults import SLOW, WHATS
from classify_batch.sandbox.jobs.create_request import parse_create_request
from tests.support.sandbox_client import AT_ONCE_S, HELD_UP_S, hold_up_stops

JOBS = "/api/v1/classifier/jobs"
HEADERS = {"Authorization": "Bearer sandbox"}
BODY = {"file_ids": ["a", "b"], "rules": [{"type": "letter", "description": "has a salutation"}]}
BODY_BYTES_MIN = 20
GIVE_UP_S = 120.0
CALLS = ("create", "list", "get", "results", "files")

STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504)
SEEN = {
    SLOW: "200",
    "hang": "ReadTimeout",
    "close": "RemoteProtocolError",
    "reset": "ReadError",
    "cut": "RemoteProtocolError",
    "reset_midway": "ReadError",
    "html": "200",
    "garbage": "200",
    "other_shape": "200",
    "plan_full": "429",
    **{str(status): str(status) for status in STATUSES},
}
"""What a client sees of whatever can happen."""

Script = Callable[[httpx.AsyncClient, App], Awaitable[Any]]


def talk(script: Script, faults: dict[str, Any], **options: Any) -> Any:
    """Runs a script against a served sandbox with these faults."""

    async def main() -> Any:
        async with asyncio.timeout(GIVE_UP_S), served(faults, **options) as (client, app):
            return await script(client, app)

    return asyncio.run(main())


@asynccontextmanager
async def served(
    faults: dict[str, Any], wall_s: Callable[[], float] = time.time, **options: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, App]]:
    told = Options(seed=1, **{"job_duration_s": 0.0, **options}, faults=Faults.from_values(faults, "faults"))
    with open_sandbox(told, wall_s) as app:
        async with serve_in_loop(app) as base_url, httpx.AsyncClient(base_url=base_url, headers=HEADERS) as client:
            yield client, app


async def create(client: httpx.AsyncClient, *file_ids: str, **over: Any) -> httpx.Response:
    return await client.post(JOBS, json={**BODY, **({"file_ids": file_ids} if file_ids else {}), **over})


async def call(client: httpx.AsyncClient, name: str, job_id: str, **options: Any) -> httpx.Response:
    if name == "create":
        return await client.post(JOBS, json=BODY, **options)
    paths = {
        "list": JOBS,
        "get": f"{JOBS}/{job_id}",
        "results": f"{JOBS}/{job_id}/results",
        "files": "/api/v1/beta/files",
    }
    return await client.get(paths[name], **options)


async def make_job(app: App) -> str:
    """A job that is there without any request."""
    order = parse_create_request(CreateBody.model_validate(BODY))
    return app.job_table.add_job(app.job_table.draft_job(order, app.options.project_id, 0.0)).job_id


async def raw(client: httpx.AsyncClient, name: str, job_id: str) -> tuple[bytes, bool]:
    """What comes over the socket until its end, and whether that was a reset."""
    request = {
        "create": client.build_request("POST", JOBS, json=BODY),
        "get": client.build_request("GET", f"{JOBS}/{job_id}"),
    }[name]
    head = "".join(f"{key}: {value}\r\n" for key, value in request.headers.items())
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(f"{request.method} {request.url.path} HTTP/1.1\r\n{head}\r\n".encode() + request.content)
    got = bytearray()
    try:
        while part := await reader.read(65536):
            got += part
    except ConnectionResetError:
        return bytes(got), True
    finally:
        writer.close()
    return bytes(got), False


# --- Every call, every moment -----------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("name", CALLS)
def test_every_call_can_meet_every_fault(name: str, moment: str) -> None:
    """Whatever happens to whichever call, the client sees it, the work is done or not as its name says, and the next
    works."""
    assert WHATS.keys() < SEEN.keys()

    async def meet(what: str) -> tuple[str, int]:
        faults = {f"{name}.{moment}.{what}": 1, "slow_s": 0.001}
        async with asyncio.timeout(GIVE_UP_S), served(faults) as (client, app):
            job_id = await make_job(app)
            try:
                timeout = httpx.Timeout(GIVE_UP_S, read=0.1 if what == "hang" else GIVE_UP_S)
                seen = str((await call(client, name, job_id, timeout=timeout)).status_code)
            except httpx.TransportError as error:
                seen = type(error).__name__
            while what == "hang" and app.meter.requests.total() == 0:  # a busy machine serves it after that moment
                await client.get("/sandbox/stats")
            return seen, (await client.get("/sandbox/stats")).json()["creates_accepted"]

    async def meet_all() -> list[tuple[str, int]]:
        return await asyncio.gather(*map(meet, expected))

    is_done = (name, moment) == ("create", "after")
    expected = {what: (seen, 2 if is_done else 1) for what, seen in SEEN.items()}
    if name == "create":
        expected[SLOW] = ("200", 2)
    assert dict(zip(expected, asyncio.run(meet_all()), strict=True)) == expected


@pytest.mark.parametrize("status", sorted(set(STATUSES) - {502, 504}))
def test_statuses_come_in_the_documented_shape(status: int) -> None:
    """A refusal has a `detail`; a 422 says where, what and of which type."""

    async def script(client: httpx.AsyncClient, app: App) -> Any:
        return (await create(client)).json()["detail"], (await client.get(JOBS)).json()["detail"]

    for detail in talk(script, {f"any.before.{status}": 1}):
        if status == 422:
            assert set(detail[0]) == {"loc", "msg", "type"}
        else:
            assert isinstance(detail, str)
            assert detail


def test_the_two_kinds_of_429_differ_in_their_message() -> None:
    """One is for the rate, the other for a count of the plan; `Retry-After` comes with both, if it is set."""

    async def script(client: httpx.AsyncClient, app: App) -> httpx.Response:
        return await create(client)

    rate, plan = (talk(script, {f"create.before.{what}": 1, "retry_after_s": 2}) for what in ("429", "plan_full"))
    assert rate.json()["detail"].startswith("Rate limit exceeded")
    assert "already reached the maximum number of" in plan.json()["detail"]
    assert rate.headers["retry-after"] == plan.headers["retry-after"] == "2"


# --- What it looks like on the wire -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["create", "get"])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("what", "half", "rst"), [
    ("close", False, False), ("reset", False, True), ("cut", True, False), ("reset_midway", True, True),
])  # fmt: skip
def test_connections_break_as_the_fault_is_named(name: str, moment: str, what: str, half: bool, rst: bool) -> None:
    """FIN and RST are what they say; half of an answer comes with the length of the whole."""

    async def script(client: httpx.AsyncClient, app: App) -> tuple[bytes, bool]:
        return await raw(client, name, await make_job(app))

    got, was_reset = talk(script, {f"{name}.{moment}.{what}": 1})
    assert was_reset == rst
    assert bool(got) == half
    if half:
        head, _, body = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert length > BODY_BYTES_MIN
        assert len(body) == (length + 1) // 2


def test_a_200_can_hold_something_else_than_an_answer() -> None:
    """HTML says that it is HTML; garbage is neither JSON nor text; the other shape is JSON and nothing we know."""

    async def script(client: httpx.AsyncClient, app: App) -> httpx.Response:
        return await create(client)

    html, garbage, other = (talk(script, {f"create.after.{what}": 1}) for what in ("html", "garbage", "other_shape"))
    assert html.headers["content-type"].startswith("text/html")
    assert b"<html>" in html.content
    with pytest.raises(UnicodeDecodeError):
        garbage.content.decode()
    assert not {"id", "status", "items"} & set(other.json())


@pytest.mark.parametrize("status", [502, 504])
def test_proxies_answer_in_html(status: int) -> None:
    """A 502 or 504 comes from what stands before the API."""

    async def script(client: httpx.AsyncClient, app: App) -> httpx.Response:
        return await create(client)

    response = talk(script, {f"create.after.{status}": 1})
    assert (response.status_code, response.headers["content-type"]) == (status, "text/html; charset=utf-8")


# --- Time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
def test_slow_answers_come_late_and_whole(moment: str) -> None:
    """A slow request takes `slow_s` longer, and can meet something else besides."""

    async def script(client: httpx.AsyncClient, app: App) -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        return (await client.get(JOBS)).status_code, loop.time() - started_s

    for more, status in (({}, 200), ({f"list.{moment}.502": 1}, 502)):
        got, took_s = talk(script, {f"read.{moment}.slow": 1, "slow_s": 0.05, **more})
        assert got == status
        assert took_s >= 0.05


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_slow_create_is_accepted_though_its_client_gave_up(moment: str) -> None:
    """Who gives up waiting for a create can't know that no job will come of it."""

    async def script(client: httpx.AsyncClient, app: App) -> int:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(JOBS, json=BODY, timeout=httpx.Timeout(GIVE_UP_S, read=0.5))
        found = len(list(app.job_table))
        while not list(app.job_table):
            await client.get("/sandbox/stats")
        return found

    assert talk(script, {f"create.{moment}.slow": 1, "slow_s": 4}) == (moment == "after")


def test_the_server_stops_though_requests_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that hang or are slow don't hold up the server's end."""
    hold_up_stops(monkeypatch)

    async def main() -> float:
        async with asyncio.timeout(2 * HELD_UP_S), asyncio.TaskGroup() as tasks:
            faults = {"list.before.hang": 1, "get.after.hang": 1, "create.after.slow": 1, "slow_s": 60}
            async with served(faults) as (client, app):
                job_id = await make_job(app)
                asked = [tasks.create_task(watch(client, name, job_id)) for name in ("list", "get", "create")]
                while len(list(app.job_table)) < 2 or app.meter.requests.total() < 2:
                    await client.get("/sandbox/stats")
                stopping_s = asyncio.get_running_loop().time()
            took_s = asyncio.get_running_loop().time() - stopping_s
            assert [await each for each in asked] == ["RemoteProtocolError", "RemoteProtocolError", "200"]
            return took_s

    async def watch(client: httpx.AsyncClient, name: str, job_id: str) -> str:
        base_url, headers = client.base_url, HEADERS
        async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=GIVE_UP_S) as own:
            try:
                return str((await call(own, name, job_id)).status_code)
            except httpx.TransportError as error:
                return type(error).__name__

    assert asyncio.run(main()) < AT_ONCE_S


def test_an_outage_affects_every_call_while_it_lasts() -> None:
    """During an outage even a wrong key is not looked at; outside, all is well."""

    async def script(client: httpx.AsyncClient, app: App) -> Any:
        seen = []
        for name in CALLS:
            try:
                seen.append(str((await call(client, name, "x", headers={"Authorization": "no"})).status_code))
            except httpx.TransportError as error:
                seen.append(type(error).__name__)
        return seen

    assert talk(script, {"outage_for_s": 60}) == ["ReadError"] * 5
    assert talk(script, {"outage_for_s": 60, "outage_what": 503}) == ["503"] * 5
    assert talk(script, {"outage_for_s": 60, "outage_after_s": 60}) == ["401"] * 5
    assert talk(script, {"outage_for_s": 60, "outage_what": "slow", "slow_s": 0.001}) == ["401"] * 5


def test_an_outage_ends_for_the_same_client() -> None:
    """The same client is answered before an outage, not while it lasts, and again after it."""
    clock_s = 1_700_000_000.0

    async def main() -> list[int]:
        nonlocal clock_s
        faults = {"outage_every_s": 10, "outage_for_s": 3, "outage_what": 503}
        seen = []
        async with served(faults, wall_s=lambda: clock_s) as (client, _):
            for elapsed_s in (0, 9, 2, 1, 1, 7, 2):
                clock_s += elapsed_s
                seen.append((await client.get(JOBS)).status_code)
        return seen

    assert asyncio.run(main()) == [200, 200, 503, 503, 200, 503, 503]


# --- Files, credits, jobs ---------------------------------------------------------------------------------------


def test_foreign_files_are_named() -> None:
    """The whole create is refused: by the first's name, or by the places of all; without them it is accepted."""

    async def script(client: httpx.AsyncClient, app: App) -> Any:
        refused = await create(client, "a", "x", "b", "y")
        return refused, (await create(client, "a", "b")).status_code, app.request_stats()["creates_accepted"]

    refused, *rest = talk(script, {"foreign": "x, y"})
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("File ID x is not in Project ID ")
    assert rest == [200, 1]
    refused, *rest = talk(script, {"foreign": ["x", "y"], "foreign_says": "index"})
    assert refused.status_code == 422
    assert [fault["loc"] for fault in refused.json()["detail"]] == [["body", "file_ids", 1], ["body", "file_ids", 3]]
    assert rest == [200, 1]


def test_files_rejected_vaguely_are_not_named() -> None:
    """The create is 400, and nothing in it tells which file was meant."""

    async def script(client: httpx.AsyncClient, app: App) -> Any:
        refused, alone = await create(client, "aaa", "xxx"), await create(client, "xxx")
        return refused.status_code, refused.text, alone.text, (await create(client, "aaa")).status_code

    status, text, alone, accepted = talk(script, {"rejected_vaguely": ["xxx"]})
    assert (status, accepted) == (400, 200)
    assert text == alone
    assert "xxx" not in text


def test_a_share_of_the_files_is_refused() -> None:
    """`foreign_share` and `rejected_vaguely_share` refuse about so many files, always the same ones."""

    async def script(client: httpx.AsyncClient, app: App) -> list[int]:
        return [(await create(client, f"file-{number}")).status_code for number in range(60)]

    for fault in ("foreign_share", "rejected_vaguely_share"):
        seen = talk(script, {fault: 0.5})
        assert seen == talk(script, {fault: 0.5})
        assert 15 < seen.count(400) < 45


def test_credits_run_out_and_reads_go_on() -> None:
    """Beyond the credits a create is 402 and makes no job; smaller ones may fit; what was accepted can be read."""

    async def script(client: httpx.AsyncClient, app: App) -> Any:
        made = await create(client, "a", "b")
        more = [await create(client, *told) for told in (("c", "d", "e", "f"), ("c", "c"), ("d", "e"))]
        more.append(await create(client, "d", mode="MULTIMODAL"))
        statuses = [each.status_code for each in (made, *more)]
        refused = await create(client, "d", "e", "f")
        reads = [(await call(client, name, made.json()["id"])).status_code for name in CALLS[1:]]
        return statuses, refused.json()["detail"], reads, app.job_table.credits_spent

    statuses, words, reads, spent = talk(script, {"credits": 5})
    assert statuses == [200, 402, 200, 200, 402]
    assert "credits" in words
    assert (reads, spent) == ([200] * 4, 5)


def test_jobs_can_be_stuck_and_show_unknown_statuses() -> None:
    """A job can show a status that nobody has documented, for ever, and has no results."""

    async def script(client: httpx.AsyncClient, app: App) -> Any:
        job = (await create(client)).json()
        later = (await client.get(f"{JOBS}/{job['id']}")).json()
        listed = (await client.get(JOBS)).json()["items"][0]
        return [each["status"] for each in (later, listed)], (await call(client, "results", job["id"])).status_code

    assert talk(script, {"stuck": 1}) == (["PENDING"] * 2, 400)
    assert talk(script, {"stuck": 1, "unknown_status": 1}) == (["RUNNING"] * 2, 400)


def test_results_can_hold_odd_items() -> None:
    """Items come twice, about files that nobody asked for, and about no file at all, each with an answer."""

    async def script(client: httpx.AsyncClient, app: App) -> Any:
        job = (await create(client)).json()
        return (await call(client, "results", job["id"])).json()

    page = talk(script, {"doubled": 1, "unasked": 1, "nameless": 1})
    file_ids = [item["file_id"] for item in page["items"]]
    assert file_ids[:3] == ["a", "b", "a"]
    assert file_ids[4] is None
    assert page["items"][0] == page["items"][2]
    assert len({item["id"] for item in page["items"]}) == 4
    assert all(item["result"] for item in page["items"])
    assert page["total_size"] == 5


def test_results_can_have_no_last_page() -> None:
    """Each page is the first, with a token that is taken and leads to the same; `results_page_size` cuts pages."""

    async def script(client: httpx.AsyncClient, app: App) -> Any:
        job = (await create(client)).json()
        first = (await call(client, "results", job["id"])).json()
        token = {"page_token": first["next_page_token"]}
        return first, (await call(client, "results", job["id"], params=token)).json()

    first, second = talk(script, {"endless_results": 1, "results_page_size": 1})
    assert first == second
    assert [item["file_id"] for item in first["items"]] == ["a"]
    assert first["total_size"] == 2
    first, second = talk(script, {"results_page_size": 1})
    assert [page["items"][0]["file_id"] for page in (first, second)] == ["a", "b"]
    assert second["next_page_token"] is None


def test_a_new_job_can_be_hidden_for_a_time() -> None:
    """A fresh job is not in the list and can't be read, for the time that is set for each."""

    async def script(client: httpx.AsyncClient, app: App) -> Any:
        job = (await create(client)).json()
        listed = (await client.get(JOBS)).json()["total_size"]
        return listed, [(await call(client, name, job["id"])).status_code for name in ("get", "results")]

    assert talk(script, {"list_lag_s": 60}) == (0, [200, 200])
    assert talk(script, {"get_lag_s": 60}) == (1, [404, 404])


def test_the_same_seed_brings_the_same_faults() -> None:
    """The same requests in the same order meet the same, by the faults' seed."""

    async def script(client: httpx.AsyncClient, app: App) -> list[int]:
        return [(await client.get(JOBS)).status_code for _ in range(40)]

    faults = {"read.before.502": 0.3, "list.after.404": 0.3, "read_503": 0.2}
    seen = talk(script, {**faults, "seed": 4})
    assert set(seen) == {200, 404, 502, 503}
    assert seen == talk(script, {**faults, "seed": 4}) != talk(script, {**faults, "seed": 5})
