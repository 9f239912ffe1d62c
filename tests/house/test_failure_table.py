"""The manual's table of failures is drawn from llamacloud/failures.py."""

from __future__ import annotations

from pathlib import Path

from classify_batch.errors import Verdict
from classify_batch.llamacloud.failures import Symptom, judge_status, judge_symptom

FAILURES = (Path(__file__).parents[2] / "classify_batch" / "manual" / "failures.md").read_text("utf-8")

WORDS = {
    Verdict.LATER: "later",
    Verdict.AMBIGUOUS: "perhaps accepted",
    Verdict.REFUSED: "refused for good",
    Verdict.MISSING: "not there, or not yet",
    Verdict.KEY_REFUSED: "a person must act",
    Verdict.BLOCKED: "a person must act",
    Verdict.NO_CREDIT: "no more creates",
    Verdict.PLAN_FULL: "later, with fewer jobs",
    Verdict.PERSON: "a person must act",
}

STATUSES: tuple[tuple[str, int, str, tuple[tuple[object, ...], ...]], ...] = (
    ("400", 400, "", ()),
    ("400 or 422 with a page (HTML, XML)", 400, "", ()),
    ("401, 403", 401, "", ()),
    ("402", 402, "", ()),
    ("404", 404, "", ()),
    ("408, 409", 408, "", ()),
    ("413", 413, "", ()),
    ("422", 422, "", ()),
    ("422 that names only rules, mode, parsing configuration or webhooks", 422, "", (("body", "rules"),)),
    ("429 for the request rate", 429, "Rate limit exceeded", ()),
    ("429 for a plan's count", 429, "You have already reached the maximum number of jobs", ()),
    ("500, 502, 503, 504", 503, "", ()),
    ("redirects, 405, 410 and the like", 307, "", ()),
)


def rows() -> list[str]:
    """The lines of the table."""
    lines = ["| what came | for a create | for a get, list or results |", "|---|---|---|"]
    for symptom in Symptom:
        create, read = judge_symptom("create", symptom), judge_symptom("get", symptom)
        lines.append(f"| {symptom} | {WORDS[create]} | {WORDS[read]} |")
    for name, status, detail, places in STATUSES:
        page = "with a page" in name
        create, read = (judge_status(call, status, detail, places, page=page) for call in ("create", "get"))
        lines.append(f"| {name} | {WORDS[create]} | {WORDS[read]} |")
    return lines


def test_the_manual_has_the_table_of_failures() -> None:
    """What a failed call means stands in the manual as the code decides it."""
    assert "\n".join(rows()) in FAILURES


def test_statuses_in_one_row_are_judged_alike() -> None:
    """A row that names several statuses speaks for each of them."""
    for alike in ((401, 403), (408, 409), (500, 502, 503, 504), (302, 307, 405, 410)):
        for call in ("create", "get", "list", "results"):
            verdicts = {judge_status(call, status, "", ()) for status in alike}
            assert len(verdicts) == 1, (call, alike, verdicts)
