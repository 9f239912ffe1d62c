"""The bench server's jobs on v2: one file each, made once for a transaction ID, with the answer inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from bench_suite.world import PROJECT_ID, VERDICTS, Job, JobTable, RefusedError, invalid, iso


class WorldV2(JobTable):
    """The same jobs, as v2 tells of them. They show PENDING until they are COMPLETED."""

    def __init__(self, **told: Any) -> None:
        super().__init__(**told)
        self._by_transaction: dict[str, Job] = {}

    def create(self, body: bytes, now_s: float, wall_s: float) -> bytes:
        """A transaction ID that is known gives its job again, whatever else the body says."""
        file_id, told, transaction_id = _checked(body)
        known = self._by_transaction.get(transaction_id or "")
        if known is not None:
            return self._show(known, now_s)
        number, job_id, duration_s = self._draw(now_s)
        created_at, updated_at = iso(wall_s), iso(wall_s + duration_s)
        about = (
            f'{{"id":"{job_id}",{self._render_configuration(told)},"configuration_id":null,'
            f'"document_input_type":"file_id","file_input":"{file_id}","parse_job_id":null,'
            f'"project_id":"{PROJECT_ID}","user_id":"bench","error_message":null,'
            f'"transaction_id":{json.dumps(transaction_id)},"created_at":"{created_at}"'
        )
        text = f'{about},"status":"PENDING","updated_at":"{created_at}","result":null}}'.encode()
        job = Job(number, job_id, self._rank(number), now_s + duration_s, updated_at, text, about, None)
        self._add(job)
        if transaction_id is not None:
            self._by_transaction[transaction_id] = job
        self._bill([file_id])
        return text

    def results(self, job_id: str, now_s: float) -> bytes:  # noqa: ARG002
        raise RefusedError(404, "Not Found")

    def _among(self, job_ids: Sequence[str]) -> list[Job]:
        if not job_ids:
            return self._by_rank
        named = {job_id: job for job_id in job_ids if (job := self._jobs.get(job_id)) is not None}
        return sorted(named.values(), key=attrgetter("rank"))

    def _show(self, job: Job, now_s: float) -> bytes:
        if not job.finished and now_s >= job.finished_s:
            job.finished, job.shown_s = True, now_s
            verdict = VERDICTS[job.number % len(VERDICTS)]
            job.text = f'{job.about},"status":"COMPLETED","updated_at":"{job.updated_at}","result":{verdict}}}'.encode()
            job.about = ""
            self.answered += 1
        return job.text

    def _render_configuration(self, told: object) -> str:
        key = repr(told)
        if key not in self._rules:
            self._rules[key] = f'"configuration":{json.dumps(told, separators=(",", ":"), ensure_ascii=False)}'
        return self._rules[key]


def _checked(body: bytes) -> tuple[str, object, str | None]:
    try:
        values = json.loads(body)
    except ValueError:
        raise invalid("body", "JSON decode error") from None
    if not isinstance(values, dict):
        raise invalid("body", "Input should be an object")
    file_id, told, transaction_id = (values.get(name) for name in ("file_input", "configuration", "transaction_id"))
    if not isinstance(file_id, str) or not file_id[-12:].isdigit():
        raise invalid("body.file_input", "the bench's file IDs end in 12 digits")
    if not isinstance(told, dict) or not told.get("rules"):
        raise invalid("body.configuration.rules", "at least one rule is needed")
    if transaction_id is not None and (not isinstance(transaction_id, str) or not transaction_id):
        raise invalid("body.transaction_id", "Input should be a valid string")
    return file_id, told, transaction_id
