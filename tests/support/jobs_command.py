"""`classify-batch jobs` in this process, on either version of the API."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.api_reference import RULE
from tests.support.command_line import HEADER, PATIENCE_S, WIDTH, Call, Done, on_a_terminal

SLOW = ("--job-duration-s", "600")
"""Options of a sandbox whose jobs take longer than any test."""

VERSION_OPTIONS = {"v1": (), "v2": ("--api-version", "v2")}
UNFINISHED = {"v1": {"PENDING"}, "v2": {"PENDING", "RUNNING"}}

WEBHOOK = (
    *("--webhook-url", "https://hooks.example/x"),
    *("--webhook-event", "parse.success", "--webhook-event", "parse.failure"),
    *("--webhook-header", f"Authorization={HEADER}", "--webhook-header", "X-Route=eu"),
)


@dataclass(frozen=True)
class JobsCommand:
    """`jobs("list")` on `version` of the API; `call` is the same without a version."""

    call: Call
    version: str

    def __call__(self, base_url: str | None, *arguments: str) -> Done:
        return self.call(base_url, *arguments, *VERSION_OPTIONS[self.version])

    def create(self, base_url: str, *options: str, file_ids: Sequence[str] = ("a",)) -> dict[str, Any]:
        """The job that was created, as the command shows it."""
        files = [word for file_id in file_ids for word in ("--file-id", file_id)]
        done = self(base_url, "create", *files, "--rule", RULE, *options)
        assert done.status == 0, done.err
        body: dict[str, Any] = done.body
        return body

    def life(self, base_url: str, job_id: str) -> list[dict[str, Any]]:
        """The job each time its status was another one, up to its end."""
        end_s, shown = time.monotonic() + PATIENCE_S, list[dict[str, Any]]()
        while True:
            job = self(base_url, "get", job_id).body
            if not shown or shown[-1]["status"] != job["status"]:
                shown.append(job)
            if job["status"] not in UNFINISHED[self.version]:
                return shown
            assert time.monotonic() < end_s, "it never got there"

    def finish(self, base_url: str, *options: str, file_ids: Sequence[str] = ("a",)) -> dict[str, Any]:
        """Creates a job and waits for its end; the job then."""
        return self.life(base_url, self.create(base_url, *options, file_ids=file_ids)["id"])[-1]

    def on_a_terminal(self, base_url: str, *arguments: str, width: int = WIDTH) -> str:
        """What a call shows on a terminal of so many columns; no line is wider."""
        options = VERSION_OPTIONS[self.version]
        text = on_a_terminal("jobs", *arguments, "--base-url", base_url, *options, width=width)
        assert max(map(len, text.splitlines())) <= width, text
        return text
