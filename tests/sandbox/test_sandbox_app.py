"""The application, called in process: each answer's status and shape."""

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from classify_batch.clock import from_iso
from classify_batch.sandbox import AnswerLost, Faults
from tests.support.sandbox_client import RULES, run_script, where_of

JOBS = "/api/v1/classifier/jobs"
FILES = "/api/v1/beta/files"


def create_body(*file_ids: str, **over: Any) -> dict[str, Any]:
    return {"file_ids": file_ids or ("a", "b", "c"), "rules": RULES, **over}


async def finish(client: httpx.AsyncClient, *file_ids: str) -> Any:
    """Creates a job and waits for its end."""
    job = (await client.post(JOBS, json=create_body(*file_ids))).json()
    while job["status"] == "PENDING":
        await anyio.sleep(0.05)
        job = (await client.get(f"{JOBS}/{job['id']}")).json()
    return job


def test_a_created_job_has_the_documented_fields() -> None:
    """The answer to a create is a PENDING ClassifyJob that repeats the configuration, and names no file."""

    async def script(client: httpx.AsyncClient) -> Any:
        parsing = {"lang": "de", "max_pages": 3, "target_pages": [0, 2]}
        body = create_body(mode="MULTIMODAL", parsing_configuration=parsing)
        return (await client.post(JOBS, json=body)).json(), parsing

    job, parsing = run_script(script)
    assert (job["status"], job["mode"], job["rules"]) == ("PENDING", "MULTIMODAL", RULES)
    assert job["parsing_configuration"] == parsing
    assert from_iso(job["created_at"]) == pytest.approx(1_700_000_000)
    assert set(job) == {
        *("id", "project_id", "rules", "status", "user_id", "created_at", "effective_at", "updated_at"),
        *("error_message", "job_record_id", "mode", "parsing_configuration"),
    }


def test_a_job_ends_and_answers_each_file_once() -> None:
    """After its time a job is SUCCESS and its results hold one item per file, with type, confidence, reasoning."""

    async def script(client: httpx.AsyncClient) -> Any:
        job = await finish(client)
        return job, (await client.get(f"{JOBS}/{job['id']}/results")).json()

    job, page = run_script(script)
    assert job["status"] == "SUCCESS"
    assert job["created_at"] < job["updated_at"] == page["items"][0]["created_at"]
    assert [item["file_id"] for item in page["items"]] == ["a", "b", "c"]
    assert (page["next_page_token"], page["total_size"]) == (None, 3)
    assert len({item["id"] for item in page["items"]}) == 3
    for item in page["items"]:
        assert set(item) == {"id", "classify_job_id", "created_at", "updated_at", "file_id", "result"}
        assert set(item["result"]) == {"type", "confidence", "reasoning"}


@pytest.mark.parametrize("key", ["wrong", "", "sandbox "])
def test_a_wrong_key_is_401_on_every_call(key: str) -> None:
    """Every call asks for the key, and says so in `detail`."""

    async def script(client: httpx.AsyncClient) -> Any:
        client.headers["Authorization"] = f"Bearer {key}x"
        answers = [await client.get(path) for path in (JOBS, f"{JOBS}/x", f"{JOBS}/x/results", FILES)]
        del client.headers["Authorization"]
        return [*answers, await client.post(JOBS, json=create_body())]

    for response in run_script(script):
        assert response.status_code == 401
        assert response.json()["detail"].startswith("Invalid API key")


def test_an_unknown_job_is_404() -> None:
    """Unknown jobs, and jobs of another project, are not found, with the documented words."""

    async def script(client: httpx.AsyncClient) -> Any:
        job = (await client.post(JOBS, json=create_body())).json()
        paths = ("/nope", "/nope/results", f"/{job['id']}?project_id=other", f"/{job['id']}/results?project_id=other")
        return [await client.get(f"{JOBS}{path}") for path in paths]

    for response in run_script(script):
        assert (response.status_code, response.json()) == (404, {"detail": "Classify job not found"})


def test_an_unknown_path_is_404() -> None:
    """A path that the API doesn't have is answered in JSON too."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await client.get("/api/v3/classify")

    response = run_script(script)
    assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize(
    ("told", "where"),
    [
        ({"file_ids": []}, ["body", "file_ids"]),
        ({"file_ids": ["x"] * 501}, ["body", "file_ids"]),
        ({"file_ids": ["x", 1]}, ["body", "file_ids", 1]),
        ({"rules": []}, ["body", "rules"]),
        ({"rules": RULES + RULES[:1]}, ["body", "rules"]),
        ({"rules": [{"type": "a/b", "description": "long enough"}]}, ["body", "rules", 0, "type"]),
        ({"rules": [RULES[0], {"type": "a", "description": "short"}]}, ["body", "rules", 1, "description"]),
        ({"mode": "SLOW"}, ["body", "mode"]),
        ({"parsing_configuration": {"lang": "xx"}}, ["body", "parsing_configuration", "lang"]),
    ],
)
def test_a_wrong_create_is_422_and_makes_no_job(told: dict[str, Any], where: list[Any]) -> None:
    """What the API doesn't allow is refused with its place in the body, and nothing is accepted."""

    async def script(client: httpx.AsyncClient) -> Any:
        response = await client.post(JOBS, json=create_body(**told))
        assert (await client.get(JOBS)).json()["total_size"] == 0
        return response

    assert where_of(run_script(script)) == [where]


def test_all_errors_of_a_create_are_reported_at_once() -> None:
    """A body that is wrong in two places names both; one that is no JSON at all is 422 too."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await client.post(JOBS, json={}), await client.post(JOBS, content=b'{"file_ids": [')

    empty, torn = run_script(script)
    assert where_of(empty) == [["body", "file_ids"], ["body", "rules"]]
    assert where_of(torn) == [["body"]]


def test_one_unknown_file_refuses_the_whole_create(tmp_path: Path) -> None:
    """One file that isn't among the documents makes the create 400, named with the project; no job is made."""
    (tmp_path / "a.txt").write_text("a letter with a salutation")

    async def script(client: httpx.AsyncClient) -> Any:
        (known,) = (await client.get(FILES)).json()["items"]
        refused = await client.post(JOBS, json=create_body(known["id"], "who"), params={"project_id": "mine"})
        accepted = await client.post(JOBS, json=create_body(known["id"]))
        return refused, accepted, (await client.get(JOBS)).json()["total_size"]

    refused, accepted, jobs = run_script(script, documents=tmp_path)
    assert refused.status_code == 400
    assert refused.json() == {"detail": "File ID who is not in Project ID mine"}
    assert (accepted.status_code, jobs) == (200, 1)


def test_the_job_list_comes_in_pages_newest_first() -> None:
    """The list comes in pages of the size asked for, newest first, each job once, with the total."""

    async def script(client: httpx.AsyncClient) -> Any:
        made = [(await client.post(JOBS, json=create_body())).json()["id"] for _ in range(7)]
        pages: list[Any] = []
        token = None
        while not pages or token:
            params = {"page_size": "3"} | ({"page_token": token} if token else {})
            pages.append((await client.get(JOBS, params=params)).json())
            token = pages[-1]["next_page_token"]
        return made, pages

    made, pages = run_script(script)
    assert [len(page["items"]) for page in pages] == [3, 3, 1]
    assert [job["id"] for page in pages for job in page["items"]] == made[::-1]
    assert {page["total_size"] for page in pages} == {7}


@pytest.mark.parametrize("query", ["page_size=0", "page_size=101", "page_size=x", "page_size=-1", "page_token=abc"])
def test_a_page_that_cannot_be_is_422(query: str) -> None:
    """A page size out of range, or a made-up token, is refused with its place in the query."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await client.get(f"{JOBS}?{query}")

    assert where_of(run_script(script)) == [["query", query.partition("=")[0]]]


def test_a_page_too_large_can_be_cut_down_instead() -> None:
    """With `list_page_size_clamp` a larger page is answered with the largest."""

    async def script(client: httpx.AsyncClient) -> Any:
        for _ in range(5):
            await client.post(JOBS, json=create_body())
        page = (await client.get(f"{JOBS}?page_size=1000")).json()
        return len(page["items"]), page["next_page_token"] is not None

    assert run_script(script, list_page_size_max=4, list_page_size_clamp=True) == (4, True)


def test_results_come_in_pages() -> None:
    """With `results_page_size` the results come in pages that hold each file once, null ones included."""

    async def script(client: httpx.AsyncClient) -> Any:
        job = await finish(client, *"abcdefgh")
        seen: list[str] = []
        token: str | None = None
        while True:
            params = {} if token is None else {"page_token": token}
            page = (await client.get(f"{JOBS}/{job['id']}/results", params=params)).json()
            seen.append("".join(item["file_id"] for item in page["items"]))
            if (token := page["next_page_token"]) is None:
                return job, seen

    assert run_script(script, results_page_size=3)[1] == ["abc", "def", "gh"]
    assert run_script(script, results_page_size=4)[1] == ["abcd", "efgh"]


def test_results_of_an_unfinished_job_are_400() -> None:
    """A job that isn't finished has no results yet."""

    async def script(client: httpx.AsyncClient) -> Any:
        job = (await client.post(JOBS, json=create_body())).json()
        return await client.get(f"{JOBS}/{job['id']}/results")

    response = run_script(script)
    assert (response.status_code, response.json()) == (400, {"detail": "Classify job is not finished"})


@pytest.mark.parametrize(
    ("fault", "status", "items"),
    [("partial", "PARTIAL_SUCCESS", 9), ("null_result", "PARTIAL_SUCCESS", 10), ("error", "ERROR", 0),
     ("cancelled", "CANCELLED", 0)],
)  # fmt: skip
def test_a_partial_job_has_gaps_and_a_failed_one_no_results(fault: str, status: str, items: int) -> None:
    """A partial job lacks files or answers null; one that failed says why and has no results."""

    async def script(client: httpx.AsyncClient) -> Any:
        job = await finish(client, *(f"f{number}" for number in range(20 if fault == "partial" else 10)))
        return job, (await client.get(f"{JOBS}/{job['id']}/results")).json()["items"]

    job, page = run_script(script, faults=Faults.model_validate({fault: 1}))
    assert job["status"] == status
    assert bool(job["error_message"]) == (status == "ERROR")
    if fault == "partial":
        assert (len(page), [item["result"] for item in page].count(None)) == (19, 1)
    else:
        assert [item["result"] for item in page] == [None] * items


def test_the_file_list_is_paged(tmp_path: Path) -> None:
    """Files are listed in pages of 50 and can be asked for by ID or name; more than 1000 a page is 422."""
    for number in range(60):
        (tmp_path / f"{number:02}.txt").write_text("text")

    async def script(client: httpx.AsyncClient) -> Any:
        first = (await client.get(FILES)).json()
        rest = (await client.get(FILES, params={"page_token": first["next_page_token"]})).json()
        one = first["items"][0]
        by_id = (await client.get(FILES, params={"file_ids": [one["id"], rest["items"][0]["id"]]})).json()
        by_name = (await client.get(FILES, params={"file_name": "07.txt", "project_id": "p"})).json()
        return first, rest, by_id, by_name, await client.get(f"{FILES}?page_size=1001")

    first, rest, by_id, by_name, refused = run_script(script, documents=tmp_path)
    assert (len(first["items"]), len(rest["items"]), rest["next_page_token"]) == (50, 10, None)
    assert len({item["id"] for item in first["items"] + rest["items"]}) == 60
    assert [item["name"] for item in by_id["items"]] == ["00.txt", "50.txt"]
    assert [(item["name"], item["project_id"]) for item in by_name["items"]] == [("07.txt", "p")]
    assert {"id", "name", "project_id", "external_file_id", "file_type", "expires_at"} <= set(first["items"][0])
    assert where_of(refused) == [["query", "page_size"]]


def test_the_rate_is_limited() -> None:
    """Requests beyond the rate are 429 with the documented words, and pass again a moment later."""

    async def script(client: httpx.AsyncClient) -> Any:
        burst = [await client.get(JOBS) for _ in range(12)]
        await anyio.sleep(0.1)
        return [*burst, await client.get(JOBS)]

    answers = run_script(script, requests_per_s=10, faults=Faults(retry_after_s=1.5))
    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 2 + [200]
    assert answers[10].json()["detail"].startswith("Rate limit exceeded")
    assert answers[10].headers["retry-after"] == "1.5"


def test_jobs_at_once_are_limited() -> None:
    """Beyond the plan's count a create is 429 with other words; when a job ends, the next may begin."""

    async def script(client: httpx.AsyncClient) -> Any:
        first = [await client.post(JOBS, json=create_body()) for _ in range(3)]
        await anyio.sleep(1)
        return [*first, await client.post(JOBS, json=create_body())]

    answers = run_script(script, jobs_at_once=2, job_duration_s=1, job_duration_sigma=0)
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]
    assert "already reached the maximum number of" in answers[2].json()["detail"]


@pytest.mark.parametrize(
    ("fault", "status", "accepted"),
    [("create_503_before", 503, 0), ("create_503_after", 503, 1), ("rate_429", 429, 0), ("lost_create_answer", 0, 1)],
)
def test_a_create_fault_accepts_the_job_or_not_as_named(fault: str, status: int, accepted: int) -> None:
    """Each fault answers as its name says, and the job is accepted or not as its name says."""

    async def script(client: httpx.AsyncClient) -> Any:
        try:
            got = (await client.post(JOBS, json=create_body())).status_code
        except AnswerLost:
            got = 0
        return got, (await client.get("/sandbox/stats")).json()["creates_accepted"]

    assert run_script(script, faults=Faults.model_validate({fault: 1})) == (status, accepted)


def test_read_faults_answer_as_named() -> None:
    """`read_503` strikes every read and no create."""

    async def script(client: httpx.AsyncClient) -> Any:
        job = await client.post(JOBS, json=create_body())
        job_path = f"{JOBS}/{job.json()['id']}"
        return [(await client.get(path)).status_code for path in (JOBS, job_path, f"{job_path}/results", FILES)]

    assert run_script(script, faults=Faults(read_503=1)) == [503] * 4


def test_stats_count_what_was_asked() -> None:
    """Jobs, files, files billed more than once, requests by call and status, and the busiest second."""

    async def script(client: httpx.AsyncClient) -> Any:
        await client.post(JOBS, json=create_body("a", "b"))
        await client.post(JOBS, json=create_body("b", "c"))
        await client.post(JOBS, json={})
        await anyio.sleep(2)
        await client.get(f"{JOBS}/nope")
        del client.headers["Authorization"]
        return (await client.get("/sandbox/stats")).json()

    assert run_script(script) == {
        "creates_accepted": 2,
        "creates_waiting": 0,
        "files_accepted": 4,
        "files_billed": 3,
        "files_billed_more_than_once": ["b"],
        "requests": {"create": {"200": 2, "422": 1}, "get": {"404": 1}},
        "requests_429": 0,
        "requests_per_s_max": 3,
    }


@pytest.mark.parametrize("what", ["hang", "close", "reset", "cut", "reset_midway"])
def test_in_process_a_broken_answer_raises_answer_lost(what: str) -> None:
    """Where there is no connection to break, what would break it is an AnswerLost, after the work was done."""

    async def script(client: httpx.AsyncClient) -> Any:
        with pytest.raises(AnswerLost):
            await client.post(JOBS, json=create_body())
        return (await client.get("/sandbox/stats")).json()["creates_accepted"]

    assert run_script(script, faults=Faults.from_values({f"create.after.{what}": 1}, "here")) == 1


def test_in_process_slow_answers_take_virtual_time() -> None:
    """A slow answer waits by the caller's clock."""

    async def script(client: httpx.AsyncClient) -> float:
        started_s = anyio.current_time()
        await client.get(JOBS)
        return anyio.current_time() - started_s

    assert run_script(script, faults=Faults(slow=1, slow_s=3600)) == pytest.approx(3600)
