"""Servers that write an answer in another way than the vendor says: whole runs in virtual time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from classify_batch.vocabulary import Log
from tests.support.simulated_run import Lab, ends_well, laboratory

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("version", ["v1", "v2"])
Change = Callable[[dict[str, Any]], None]


def change_items(lab: Lab, change: Change) -> None:
    """From now on each job and each result is changed on its way to us."""

    async def after(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        body = response.json()
        for item in body.get("items", [body]):
            change(item)
        return httpx.Response(response.status_code, json=body)

    lab.wire.after = after


def confidence_is(value: object) -> Change:
    def change(item: dict[str, Any]) -> None:
        if item.get("result"):
            item["result"]["confidence"] = value

    return change


@BOTH
@pytest.mark.parametrize(("written", "read"), [("0.93", 0.93), (True, None)])
async def test_a_confidence_in_another_shape_fails_no_file(
    version: str, written: object, read: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A number in a text is one; what is none is null, and said once."""
    with laboratory(40, files_per_job=5, version=version) as lab:
        change_items(lab, confidence_is(written))
        await ends_well(lab)
        assert {line["confidence"] for line in lab.outcomes().values()} == {read}
        assert lab.accepted() == (8 if version == "v1" else 40)
    assert caplog.text.count("no number") == (read is None)


def status_is(spell: Callable[[str], str]) -> Change:
    def change(item: dict[str, Any]) -> None:
        if "status" in item:
            item["status"] = spell(item["status"])

    return change


@BOTH
@pytest.mark.parametrize("spell", [str.lower, " {} ".format], ids=["lower case", "blanks"])
async def test_a_status_in_another_spelling_ends_its_job(version: str, spell: Callable[[str], str]) -> None:
    """Also one that failed; and the journal has the vendor's spelling."""
    with laboratory(40, files_per_job=5, version=version, faults={"error": 0.2}) as lab:
        change_items(lab, status_is(spell))
        await ends_well(lab)
        statuses = set(re.findall(rb'"status":"([^"]*)"', lab.store.files[Log.JOURNAL]))
        assert statuses == {b"SUCCESS", b"ERROR"}


@BOTH
async def test_a_status_that_is_unknown_is_said(version: str, caplog: pytest.LogCaptureFixture) -> None:
    """When it is first seen, once; its job is waited for, and then the failure names the status."""
    with laboratory(20, files_per_job=5, version=version, limits={"job_timeout_s": 60.0}) as lab:
        change_items(lab, status_is(lambda status: "DONE \x1b[31m" if status in ("SUCCESS", "COMPLETED") else status))
        ending = await lab.run()
        assert (ending.state, set(lab.codes().values())) == ("complete", {"overdue"})
        messages = {line["message"].partition(";")[2] for line in lab.outcomes().values()}
        assert messages == {" its status 'DONE [31m' is unknown"}
        assert lab.paid_twice() == []
    assert caplog.text.count("has the status 'DONE [31m', which is unknown") == 1
