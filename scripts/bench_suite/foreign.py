"""Other people's jobs in the bench server's list: too many to keep, so each page of them is made when it is asked for.

They come behind the jobs of the run, newest first, and nothing but their results tells that they are not the run's.
"""

from __future__ import annotations

import json

from bench_suite.world import PROJECT_ID, iso

_MARK = "f0e1"
_APART_S = {False: 0.001, True: 30.0}


class ForeignJobs:
    """So many finished jobs of one file each, made just now; `old`: one each half minute, so that all but the newest
    were made before whatever a run looks for."""

    def __init__(self, count: int, *, old: bool, version: str, wall_s: float) -> None:
        self.count = count
        self._newest_s = wall_s if old else wall_s + 3_600.0  # also after what the run does
        self._apart_s = _APART_S[old]
        self._version = version

    def append_to(self, page: bytes, size: int, token: int, body: bytes) -> bytes:
        """A page that ends the run's own jobs (`token` 0), or one behind them. `body`: of the run's first create."""
        told = json.loads(body or b"{}")
        numbers = range(token, min(self.count, token + size))
        items = [self._render(number, told) for number in numbers]
        following = f'"f{numbers.stop}"' if numbers.stop < self.count else "null"
        if page:
            own = page[len(b'{"items":[') : page.rindex(b'],"next_page_token"')].decode()
            items = [own, *items] if own else items
        return f'{{"items":[{",".join(items)}],"next_page_token":{following}}}'.encode()

    def results(self, job_id: str) -> bytes:
        answer = {"type": "invoice", "confidence": 0.9, "reasoning": "Another team's."}
        item = {"id": job_id, "classify_job_id": job_id, "file_id": f"foreign-{job_id[-12:]}", "result": answer}
        return json.dumps({"items": [item], "next_page_token": None, "total_size": 1}).encode()

    def knows(self, job_id: str) -> bool:
        return job_id.startswith(_MARK)

    def get(self, job_id: str, body: bytes) -> bytes:
        return self._render(int(job_id[-12:]), json.loads(body or b"{}")).encode()

    def _render(self, number: int, told: dict[str, object]) -> str:
        at = iso(self._newest_s - number * self._apart_s)
        job: dict[str, object] = {
            "id": f"{_MARK}0000-0000-4000-8000-{number:012d}",
            "project_id": PROJECT_ID,
            "user_id": "another",
            "created_at": at,
            "updated_at": at,
            "error_message": None,
        }
        if self._version == "v1":
            job |= {name: told[name] for name in ("rules", "mode", "parsing_configuration") if name in told}
            job["status"] = "SUCCESS"
        else:
            job |= {"configuration": told.get("configuration", {}), "status": "COMPLETED", "transaction_id": None}
            job |= {"file_input": f"foreign-{number:012d}", "document_input_type": "file_id", "result": None}
        return json.dumps(job, separators=(",", ":"))
