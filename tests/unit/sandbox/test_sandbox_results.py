import pytest

from classify_batch.protocol.v1 import CreateBody
from classify_batch.sandbox.faults.fault_options import Faults, ResultsLag
from classify_batch.sandbox.faults.job_endings import Oddity
from classify_batch.sandbox.jobs.create_request import parse_create_request
from classify_batch.sandbox.jobs.job_table import JobTable, count_billed
from classify_batch.sandbox.jobs.result_pages import ResultEntry, read_results_page
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.sandbox.options import Options


def make_job(*odd: Oddity, **faults: float) -> SandboxJob:
    """A job of the files a, b and c."""
    rule = {"type": "invoice", "description": "has line items and a total"}
    body = CreateBody.model_validate({"file_ids": ["a", "b", "c"], "rules": [rule]})
    options = Faults.model_validate({**dict.fromkeys(odd, 1), **faults})
    return JobTable(Options(faults=options), seed=1).draft_job(parse_create_request(body), "p", 0.0)


def ids(job: SandboxJob, size: int | None = None) -> list[list[str | None]]:
    """The file IDs of each page."""
    pages, start = [], 0
    while True:
        page = read_results_page(job, start, size)
        pages.append([entry.file_id for entry in page.entries])
        if page.next_start is None:
            return pages
        start = page.next_start


def test_pages_of_results_hold_each_file_once() -> None:
    """All in one page, or in pages of the size that was set, with the total; the last names no next one."""
    assert ids(make_job()) == [["a", "b", "c"]]
    assert ids(make_job(), 2) == [["a", "b"], ["c"]]
    assert ids(make_job(), 3) == [["a", "b", "c"]]
    assert read_results_page(make_job(), 2, 2).total == 3


def test_a_doubled_result_comes_twice() -> None:
    """The very same item, with the same place, so that its id is the same too."""
    page = read_results_page(make_job("doubled"), 0, None)
    assert page.entries == [*page.entries[:3], ResultEntry(0, "a", "a", True)]


def test_results_can_name_no_file_or_an_unasked_one() -> None:
    """An item about a file that nobody asked for and one about no file, beside those asked for, are not billed."""
    job = make_job("unasked", "nameless")
    entries = read_results_page(job, 0, None).entries
    assert [entry.file_id for entry in entries[:3]] == ["a", "b", "c"]
    assert len({entry.position for entry in entries}) == 5
    assert entries[3].file_id not in {"a", "b", "c", None}
    assert entries[4].file_id is None
    assert count_billed([job]) == {"a": 1, "b": 1, "c": 1}


def test_endless_results_repeat_the_first_page() -> None:
    """Whatever page is asked for, it is the first, and names a next one."""
    job = make_job("endless_results")
    assert read_results_page(job, 0, 2) == read_results_page(job, 2, 2)
    for size in (2, None):
        assert read_results_page(job, 0, size).next_start is not None
        assert read_results_page(job, 0, size).total == 3


def test_lagging_results_are_incomplete() -> None:
    """No items, items without an answer, or the first half of the items, rounded down; in pages, with their total."""

    def shown(lag: ResultsLag | None, job: SandboxJob) -> list[tuple[str | None, bool]]:
        return [(entry.file_id, entry.has_result) for entry in read_results_page(job, 0, None, lag).entries]

    whole, partial = make_job("doubled"), make_job(null_result=1.0)
    assert shown(None, whole) == [("a", True), ("b", True), ("c", True), ("a", True)]
    assert shown("nothing", whole) == shown("nothing", partial) == []
    assert shown("null", whole) == [("a", False), ("b", False), ("c", False), ("a", False)]
    assert shown("half", whole) == [("a", True), ("b", True)]
    assert shown("half", partial) == [("a", False)]
    assert read_results_page(whole, 0, 1, "half")[1:] == (1, 2)
    assert read_results_page(whole, 1, 1, "half")[1:] == (None, 2)


@pytest.mark.parametrize("fault", ["error", "cancelled", "stuck"])
def test_a_failed_job_has_no_odd_results(fault: str) -> None:
    """A job that answers nothing has an empty page."""
    job = make_job("doubled", "unasked", "nameless", **{fault: 1.0})
    assert ids(job) == [[]]
