"""The bench server's jobs, rendered as text already: what a client gets costs the server next to nothing.

A job's future is decided by the seed and by its number alone, so that every client meets the very same durations. All
jobs end with SUCCESS. Bodies have the keys of the sandbox's; what is alike in many of them (the
rules, the verdicts) is rendered once.
"""

from __future__ import annotations

import heapq
import json
import math
import random
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

FILES_PER_JOB_MAX = 500
PROJECT_ID = "11111111-2222-4333-8444-555555555555"
RESULTS_KEPT = 5_000
"""Jobs whose file IDs are kept after their results were read once: a client that lost an answer may ask again."""

VERDICTS = tuple(
    json.dumps(
        {
            "type": kind,
            "confidence": round(0.97 - position % 40 / 100, 2),
            "reasoning": f"Page {position % 5 + 1} shows what the rule asks for: a heading, parties, dates, amounts.",
        },
        separators=(",", ":"),
    )
    for position, kind in zip(range(FILES_PER_JOB_MAX), ("invoice", "contract", None) * FILES_PER_JOB_MAX, strict=False)
)
_HEADS = tuple(f'{"," if position else ""}{{"id":"{position:08x}-' for position in range(FILES_PER_JOB_MAX))
_TAILS = tuple(f'","result":{verdict}}}' for verdict in VERDICTS)
_rank = attrgetter("rank")


@dataclass(slots=True)
class Job:
    """An accepted job. `text` is its JSON as it was last shown; `shown_s` the moment at which an answer first showed
    that it was finished."""

    number: int
    job_id: str
    rank: int
    finished_s: float
    updated_at: str
    text: bytes
    about: str
    file_ids: list[str] | None
    finished: bool = False
    shown_s: float | None = None


class RefusedError(Exception):
    """A call that is refused, with its status and the API's words."""

    def __init__(self, status: int, detail: str | list[dict[str, Any]]) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def invalid(where: str, words: str) -> RefusedError:
    """A 422 in the documented shape."""
    return RefusedError(422, [{"loc": where.split("."), "msg": words, "type": "value_error"}])


class JobTable:
    """All jobs since the last reset. `now_s` is a monotonic clock's, and never goes back.

    Attributes:
        answered: how often an answer held results.
    """

    def __init__(
        self, *, job_duration_s: float, sigma: float, seed: int, list_order: str, jobs_at_once: int | None
    ) -> None:
        self._median_s, self._sigma = job_duration_s, sigma
        self._random = random.Random(seed)
        self._order = list_order
        self._jobs_at_once = jobs_at_once
        self._jobs: dict[str, Job] = {}
        self._by_rank: list[Job] = []
        self._finish_times: list[float] = []
        self._rules: dict[str, str] = {}
        self._read: deque[Job] = deque()
        self._billed = bytearray()
        self.billed_again = 0
        self.answered = 0
        self.durations: list[float] = []
        self.jobs = self._jobs.values()

    def create(self, body: bytes, now_s: float, wall_s: float) -> bytes:
        """Accepts a create call; gives the job's JSON. Raises RefusedError."""
        file_ids, rules, mode, parsing = _checked(body)
        number, job_id, duration_s = self._draw(now_s)
        created_at, updated_at = iso(wall_s), iso(wall_s + duration_s)
        about = (
            f'{{"id":"{job_id}","project_id":"{PROJECT_ID}",{self._render(rules, parsing)},"user_id":"bench",'
            f'"created_at":"{created_at}","effective_at":"{created_at}","error_message":null,"job_record_id":null,'
            f'"mode":"{mode}"'
        )
        text = f'{about},"status":"PENDING","updated_at":"{created_at}"}}'.encode()
        self._add(Job(number, job_id, self._rank(number), now_s + duration_s, updated_at, text, about, file_ids))
        self._bill(file_ids)
        return text

    def get(self, job_id: str, now_s: float) -> bytes:
        return self._show(self._find(job_id), now_s)

    def page(self, size: int, token: str | None, now_s: float, job_ids: Sequence[str] = ()) -> bytes:
        """A page of the list; a token holds the last rank shown, so that new jobs don't move what it means. v1 takes
        no notice of `job_ids`, as of everything that it doesn't know."""
        jobs = self._among(job_ids)
        if self._order == "newest":
            end = len(jobs) if token is None else bisect_left(jobs, int(token), key=_rank)
            page, more = jobs[max(0, end - size) : end][::-1], end > size
        else:
            start = 0 if token is None else bisect_right(jobs, int(token), key=_rank)
            page, more = jobs[start : start + size], start + size < len(jobs)
        following = f'"{page[-1].rank}"' if more else "null"
        items = b",".join([job.text if job.finished else self._show(job, now_s) for job in page])
        return b'{"items":[%s],"next_page_token":%s,"total_size":%d}' % (items, following.encode(), len(jobs))

    def results(self, job_id: str, now_s: float) -> bytes:
        job = self._find(job_id)
        if now_s < job.finished_s:
            raise RefusedError(400, "Classify job is not finished")
        file_ids = job.file_ids
        if file_ids is None:
            raise RefusedError(404, "The results were read long ago, and are not kept")
        self._show(job, now_s)
        self.answered += 1
        count = len(file_ids)
        alike = (
            f'{job_id[9:13]}-4000-a000-{job.number:012x}","classify_job_id":"{job_id}",'
            f'"created_at":"{job.updated_at}","updated_at":"{job.updated_at}","file_id":"'
        )
        pieces: list[str] = [alike] * (4 * count)
        pieces[0::4], pieces[2::4], pieces[3::4] = _HEADS[:count], file_ids, _TAILS[:count]
        self._forget(job)
        return f'{{"items":[{"".join(pieces)}],"next_page_token":null,"total_size":{count}}}'.encode()

    # --- What these stand on ------------------------------------------------------------------------------------------

    def _draw(self, now_s: float) -> tuple[int, str, float]:
        """The next job's number, its ID, and how long it takes. Raises RefusedError."""
        if self._jobs_at_once is not None and self._count_unfinished(now_s) >= self._jobs_at_once:
            words = f"You have already reached the maximum number of classify jobs at once ({self._jobs_at_once})."
            raise RefusedError(429, words)
        number = len(self._jobs) + 1
        duration_s = self._median_s * math.exp(self._sigma * self._random.gauss(0, 1))
        self.durations.append(duration_s)
        return number, f"{number:08x}-{number * 40503 % 65536:04x}-4000-8000-{number:012x}", duration_s

    def _add(self, job: Job) -> None:
        self._jobs[job.job_id] = job
        if self._order == "shuffled":
            insort(self._by_rank, job, key=_rank)
        else:
            self._by_rank.append(job)
        heapq.heappush(self._finish_times, job.finished_s)

    def _among(self, job_ids: Sequence[str]) -> list[Job]:  # noqa: ARG002
        """The jobs that a list is about, by rank."""
        return self._by_rank

    def _find(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise RefusedError(404, "Classify job not found")
        return job

    def _show(self, job: Job, now_s: float) -> bytes:
        if not job.finished and now_s >= job.finished_s:
            job.finished, job.shown_s = True, now_s
            job.text = f'{job.about},"status":"SUCCESS","updated_at":"{job.updated_at}"}}'.encode()
            job.about = ""
        return job.text

    def _forget(self, job: Job) -> None:
        self._read.append(job)
        if len(self._read) > RESULTS_KEPT:
            self._read.popleft().file_ids = None

    def _rank(self, number: int) -> int:
        return number * 2654435761 % 2**32 if self._order == "shuffled" else number

    def _count_unfinished(self, now_s: float) -> int:
        while self._finish_times and self._finish_times[0] <= now_s:
            heapq.heappop(self._finish_times)
        return len(self._finish_times)

    def _bill(self, file_ids: list[str]) -> None:
        """The bench's file IDs end in their number, so that a byte each is enough to know what was billed before."""
        billed = self._billed
        numbers = [int(file_id[-12:]) for file_id in file_ids]
        if (missing := max(numbers) + 1 - len(billed)) > 0:
            billed.extend(bytes(missing + len(billed)))
        for number in numbers:
            if billed[number]:
                self.billed_again += billed[number] == 1
                billed[number] = 2
            else:
                billed[number] = 1

    def _render(self, rules: list[Any], parsing: object) -> str:
        key = repr((rules, parsing))
        if key not in self._rules:
            told = [json.dumps(each, separators=(",", ":"), ensure_ascii=False) for each in (rules, parsing)]
            self._rules[key] = f'"rules":{told[0]},"parsing_configuration":{told[1]}'
        return self._rules[key]


def _checked(body: bytes) -> tuple[list[str], list[Any], str, object]:
    try:
        values = json.loads(body)
    except ValueError:
        raise invalid("body", "JSON decode error") from None
    if not isinstance(values, dict):
        raise invalid("body", "Input should be an object")
    file_ids, rules = values.get("file_ids"), values.get("rules")
    if not isinstance(file_ids, list) or not 1 <= len(file_ids) <= FILES_PER_JOB_MAX:
        raise invalid("body.file_ids", f"1 to {FILES_PER_JOB_MAX} file IDs are needed")
    if not all(isinstance(each, str) and each[-12:].isdigit() for each in file_ids):
        raise invalid("body.file_ids", "the bench's file IDs end in 12 digits")
    if not isinstance(rules, list) or not rules:
        raise invalid("body.rules", "at least one rule is needed")
    return file_ids, rules, values.get("mode") or "FAST", values.get("parsing_configuration")


def iso(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
