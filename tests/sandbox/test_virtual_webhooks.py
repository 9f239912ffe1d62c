"""Webhook headers in whole runs: hidden in all words that are kept, and of no influence on what was answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from classify_batch.vocabulary import Log
from tests.support.simulated_run import After, Lab, answer, ends_well, is_create, laboratory

pytestmark = pytest.mark.anyio


def headed(*values: str) -> Mapping[str, object]:
    """The [job] section with a webhook that has such header values."""
    headers = {f"X-{number}": value for number, value in enumerate(values)}
    return {
        "job": {"webhook_configurations": [{"webhook_url": "https://example.test/done", "webhook_headers": headers}]}
    }


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_header_that_is_a_common_word_changes_no_answer(version: str) -> None:
    """Neither a type, a file ID and a status, nor the name of a field."""
    words = (
        "invoice",
        "letter",
        "file-1",
        "SUCCESS",
        "COMPLETED",
        "status",
        "confidence",
        "result",
        "file_id",
        "items",
    )
    found = []
    for config in ({}, headed(*words)):
        with laboratory(30, files_per_job=5, version=version, config=config) as lab:
            await ends_well(lab)
            found.append({name: (each["type"], each["confidence"]) for name, each in lab.outcomes().items()})
            assert lab.accepted() == (6 if version == "v1" else 30)
    assert found[0] == found[1]


SECRETS = ("Bearer HIDDEN", '{"token": "HIDDEN"}', 'Digest username="x", response="HIDDEN"', "tök'HIDDEN'")


def repeats(status: int, write: Any) -> After:
    """A server that repeats the create call in its refusal; or, for 200, in what it says of a job that failed."""
    said: dict[str, str] = {}

    async def after(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if is_create(request):
            said["message"] = f"can't do this: {write(request.content.decode())}"
            return response if status == 200 else answer(status, {"detail": said["message"]})
        body = response.json()
        for job in body.get("items", [body]):
            if "status" in job:
                job |= {"status": "ERROR" if "rules" in job else "FAILED", "error_message": said["message"]}
        return httpx.Response(response.status_code, json=body)

    return after


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("status", [200, 400, 402, 403, 422, 500])
@pytest.mark.parametrize("write", [str, json.dumps, repr])
async def test_a_server_that_repeats_them_does_not_bring_them_to_disk(version: str, status: int, write: Any) -> None:
    """In no file of the run, and in no word about its end."""
    limits = {"patience_s": 30.0, "attempts": 1}
    with laboratory(2, files_per_job=2, version=version, config=headed(*SECRETS), limits=limits) as lab:
        lab.wire.after = repeats(status, write)
        ending = await lab.run()
        kept = {name: bytes(data).decode() for name, data in lab.store.files.items()}
        shown = _all_that_is_shown(lab, ending.reason or "")
        assert "can't do this" in shown
        assert "*****" in shown
        assert not [name for name, words in kept.items() if "HIDDEN" in words]
        assert "HIDDEN" not in shown


def _all_that_is_shown(lab: Lab, reason: str) -> str:
    return " ".join([reason, *(line["message"] for line in lab.lines(Log.FAILURES))])
