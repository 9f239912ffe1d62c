"""Another server that speaks v1 of the classifier's API: same contract, other habits.

It was written from the API's description alone, shares no code and no library with the program under test or with its
sandbox, and takes every liberty that the description leaves: order and size of pages, optional fields, the spelling of
times and job ids, how it frames its answers. Run it as a process of its own:

    python independent_server.py --ledger FILE [--order random] [--lost 0.1] …

It prints its base URL once it listens. Each accepted job becomes a line of the ledger before anything is answered, with
the files that it answers: a file that two lines answer was paid twice. `GET /stats` (no key) tells how often it
was asked what.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import itertools
import json
import os
import random
import socket
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KEY = "llx-independent"
JOBS = "/api/v1/classifier/jobs"
PAID_ENDS = frozenset({"SUCCESS", "PARTIAL_SUCCESS"})
SOON_S = 0.05


def right_type(file_id: str, types: Sequence[str]) -> str | None:
    """The type that this server finds in a file: one of the rules', or None; always the same."""
    choice = zlib.crc32(file_id.encode()) % (len(types) + 1)
    return types[choice] if choice < len(types) else None


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """The accepted jobs, each with `job_id`, `file_ids`, `answered`, `status`, `since_s` and `until_s`."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def read_paid(path: Path) -> Counter[str]:
    """How often each file ID was answered by a job."""
    return Counter(file_id for job in read_ledger(path) for file_id in job["answered"])


def parser() -> argparse.ArgumentParser:
    """Every habit with its default: an honest server, only another one."""
    said = argparse.ArgumentParser(description="an independent server of v1 of the classifier's API")
    add = said.add_argument
    add("--port", type=int, default=0)
    add("--seed", type=int, default=0)
    add("--ledger", type=Path, required=True)
    add("--duration-s", type=float, default=0.2, help="mean time of a job")
    add("--order", choices=["oldest", "newest", "random"], default="oldest")
    add("--page-max", type=int, default=17)
    add("--page-beyond", choices=["clamp", "refuse"], default="clamp")
    add("--results-page", type=int, default=7)
    add("--results-tokens", choices=["honoured", "ignored", "refused"], default="honoured")
    add("--delay-s", type=float, default=0.0, help="answers come up to this late")
    add("--omit", default="", help="optional fields left out, by comma; also Date, the header")
    add("--fill", action="store_true", help="defaults filled in, rules reordered, mode null")
    add("--ids", choices=["plain", "odd"], default="plain")
    add("--others", type=float, default=0.0, help="jobs a second of other people, by the same rules")
    add("--others-overlap", action="store_true", help="other people classify files of ours, too")
    add("--list-lag-s", type=float, default=0.0)
    add("--get-lag-s", type=float, default=0.0)
    add("--created-at", choices=["z", "offset", "compact", "naive", "words"], default="z")
    add("--ahead-s", type=float, default=0.0, help="how far this server's clock is ahead")
    add("--words", default="", help="job states that nobody has heard of, by comma")
    add("--busy", type=float, default=0.0, help="share of 429")
    add("--retry-after", choices=["none", "seconds", "date"], default="none")
    add("--lost", type=float, default=0.0, help="share of creates: accepted, then the connection is reset")
    add("--late-503", type=float, default=0.0, help="share of creates: accepted, then 503")
    add("--early-503", type=float, default=0.0, help="share of creates: 503, and not accepted")
    add("--read-5xx", type=float, default=0.0)
    add("--partial", type=float, default=0.0)
    add("--error", type=float, default=0.0)
    add("--cancelled", type=float, default=0.0)
    add("--poison", default="", help="a job with a file ID that begins so ends with ERROR")
    add("--foreign", default="", help="file IDs that begin so are not in the project")
    add("--foreign-says", choices=["name", "index", "nothing"], default="name")
    add("--nameless", type=float, default=0.0, help="share of jobs with an item whose file_id is null")
    add("--doubled", type=float, default=0.0, help="share of jobs with items that come twice")
    add("--unasked", type=float, default=0.0, help="share of jobs with an item about a file that nobody sent")
    add("--list-fails", type=int, default=0, help="the status that every list call gets")
    add("--chunked", action="store_true")
    add("--gzip", action="store_true")
    add("--close", action="store_true", help="a connection serves one request")
    return said


@dataclass(slots=True)
class Job:
    """An accepted job. Times are the machine's wall clock."""

    job_id: str
    body: Mapping[str, Any]
    since_s: float
    until_s: float
    shown_s: float
    status: str
    items: list[dict[str, Any]]
    answered: list[str]


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Reply:
    status: int
    body: object
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False


def refusal(status: int, detail: object) -> Reply:
    """An error as the API words it."""
    return Reply(status, {"detail": detail})


class IndependentServer:
    """The project's jobs and the habits of its server."""

    def __init__(self, habits: argparse.Namespace) -> None:
        self.habits = habits
        self.rng = random.Random(habits.seed)
        self.jobs: dict[str, Job] = {}
        self.omitted = frozenset(habits.omit.split(","))
        self.snapshots: dict[int, list[Job]] = {}
        self.numbers = itertools.count(1)
        self.asked: Counter[str] = Counter()
        self.ledger = os.open(habits.ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.last_body: Mapping[str, Any] | None = None

    def happens(self, share: float) -> bool:
        return self.rng.random() < share

    # --- Requests -----------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Reply:
        if request.path == "/stats":
            return Reply(200, dict(self.asked))
        route = self.route(request)
        self.asked[route[0]] += 1
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return refusal(401, "Invalid API key")
        if self.happens(self.habits.busy):
            return self.too_many()
        if route == ("create",):
            return self.create(request)
        if self.happens(self.habits.read_5xx):
            return refusal(self.rng.choice([500, 502, 503, 504]), "upstream connect error")
        return self.read(route, request.query)

    def read(self, route: tuple[str, ...], query: Mapping[str, str]) -> Reply:
        match route:
            case ("list",):
                return self.list_jobs(query)
            case ("get" | "results" as call, job_id):
                return self.one(call, job_id, query)
            case _:
                return refusal(404, "Not Found")

    def route(self, request: Request) -> tuple[str, ...]:
        parts = request.path.removeprefix(JOBS).split("/")
        match request.method, parts:
            case "POST", [""]:
                return ("create",)
            case "GET", [""]:
                return ("list",)
            case "GET", ["", job_id]:
                return ("get", unquote(job_id))
            case "GET", ["", job_id, "results"]:
                return ("results", unquote(job_id))
            case _:
                return ("unknown",)

    def too_many(self) -> Reply:
        headers = {}
        if self.habits.retry_after == "seconds":
            headers["Retry-After"] = "1"
        elif self.habits.retry_after == "date":
            headers["Retry-After"] = formatdate(self.now_s() + 1, usegmt=True)
        return Reply(429, {"detail": "Rate limit exceeded. Please slow down."}, headers)

    # --- Creating -----------------------------------------------------------------------------------------------------

    def create(self, request: Request) -> Reply:
        body = json.loads(request.body)
        if (no := self.faults(body)) is not None:
            return no
        if self.happens(self.habits.early_503):
            return refusal(503, "Service Unavailable")
        job = self.accept(body)
        self.last_body = body
        if self.happens(self.habits.lost):
            return Reply(0, None, lost=True)
        if self.happens(self.habits.late_503):
            return Reply(503, "<html><body>no healthy upstream</body></html>")
        return Reply(200, self.show(job))

    def faults(self, body: Mapping[str, Any]) -> Reply | None:
        file_ids, rules = body.get("file_ids", []), body.get("rules", [])
        if not 1 <= len(file_ids) <= 500:
            return refusal(422, [{"loc": ["body", "file_ids"], "msg": "1 to 500 items", "type": "value_error"}])
        if not rules or any(set(rule) != {"type", "description"} for rule in rules):
            return refusal(422, [{"loc": ["body", "rules"], "msg": "not rules", "type": "value_error"}])
        prefix = self.habits.foreign
        foreign = [number for number, name in enumerate(file_ids) if prefix and name.startswith(prefix)]
        if not foreign:
            return None
        if self.habits.foreign_says == "index":
            places = [{"loc": ["body", "file_ids", n], "msg": "no such file", "type": "value_error"} for n in foreign]
            return refusal(422, places)
        named = f"File ID {file_ids[foreign[0]]} is not in Project ID p-1"
        return refusal(400, named if self.habits.foreign_says == "name" else "Some files can't be classified")

    def accept(self, body: Mapping[str, Any], *, ours: bool = True) -> Job:
        habits, now_s, number = self.habits, time.time(), next(self.numbers)
        file_ids = body["file_ids"]
        items, answered, status = self.end(number, body)
        job = Job(
            job_id=f"job/{number}:ü?.." if habits.ids == "odd" else f"{number:x}-{self.rng.getrandbits(64):x}",
            body=body,
            since_s=now_s,
            until_s=now_s + habits.duration_s * (0.5 + self.rng.random()),
            shown_s=now_s + habits.list_lag_s * self.rng.random(),
            status=status,
            items=items,
            answered=answered,
        )
        if ours:
            entry = {name: getattr(job, name) for name in ("job_id", "answered", "status", "since_s", "until_s")}
            os.write(self.ledger, json.dumps({**entry, "file_ids": file_ids}).encode() + b"\n")
        self.jobs[job.job_id] = job
        return job

    def end(self, number: int, body: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str], str]:
        """What the job will say, whom it answers, and how it ends."""
        habits, file_ids = self.habits, body["file_ids"]
        poisoned = habits.poison and any(name.startswith(habits.poison) for name in file_ids)
        if poisoned or self.happens(habits.error):
            return [], [], "ERROR"
        if self.happens(habits.cancelled):
            return [], [], "CANCELLED"
        types = [rule["type"] for rule in body["rules"]]
        left = set(self.rng.sample(file_ids, (len(file_ids) + 4) // 5)) if self.happens(habits.partial) else set()
        absent = {name for name in left if self.happens(0.5)}
        items = [
            self.item(number, place, name, None if name in left else right_type(name, types), answered=name not in left)
            for place, name in enumerate(file_ids)
            if name not in absent
        ]
        if self.happens(habits.doubled):
            items += [dict(item) for item in items for _ in range(self.rng.randint(0, 2))]
        if self.happens(habits.nameless):
            items.append({**self.item(number, -1, "", types[0]), "file_id": None})
        if self.happens(habits.unasked):
            items.insert(0, self.item(number, -2, f"nobody-sent-{number}", types[0]))
        self.rng.shuffle(items)
        if habits.doubled:
            items.sort(key=lambda item: str(item["id"]))
        answered = [name for name in file_ids if name not in left]
        return items, answered, "PARTIAL_SUCCESS" if left else "SUCCESS"

    def item(self, job: int, place: int, name: str, kind: str | None, *, answered: bool = True) -> dict[str, Any]:
        result = {"type": kind, "confidence": 1, "reasoning": f"looks so\u2028: {name}"} if answered else None
        return {"id": f"{job}-{place}", "classify_job_id": str(job), "file_id": name, "result": result}

    async def crowd(self) -> None:
        """Other people's jobs, for ever."""
        for number in itertools.count():
            await asyncio.sleep(1 / self.habits.others)
            if self.last_body is not None:
                mine = self.last_body["file_ids"][:1] if self.habits.others_overlap else []
                self.accept({**self.last_body, "file_ids": [*mine, f"other-{number}", f"another-{number}"]}, ours=False)

    # --- Reading ------------------------------------------------------------------------------------------------------

    def list_jobs(self, query: Mapping[str, str]) -> Reply:
        habits, size = self.habits, int(query.get("page_size", "10"))
        if habits.list_fails:
            return refusal(habits.list_fails, "Not here")
        if size > habits.page_max and habits.page_beyond == "refuse":
            return refusal(422, [{"loc": ["query", "page_size"], "msg": "too large", "type": "less_than_equal"}])
        snapshot, _, start = query.get("page_token", "0.0").partition(".")
        jobs = self.ordered(int(snapshot))
        if habits.order == "random" and snapshot == "0":
            self.snapshots[number := len(self.snapshots) + 1] = jobs
            snapshot = str(number)
        page, token = self.page(jobs, int(start), min(size, habits.page_max))
        body = {"items": [self.show(job) for job in page], "next_page_token": token and f"{snapshot}.{token}"}
        return Reply(200, body | ({} if "total_size" in self.omitted else {"total_size": len(jobs)}))

    def ordered(self, snapshot: int) -> list[Job]:
        if snapshot:
            return self.snapshots[snapshot]
        now_s = time.time()
        jobs = [job for job in self.jobs.values() if job.shown_s <= now_s]
        if self.habits.order == "random":
            self.rng.shuffle(jobs)
        return jobs if self.habits.order == "oldest" else jobs[::-1]

    def page(self, items: Sequence[Any], start: int, size: int) -> tuple[Sequence[Any], str | None]:
        end = start + size
        return items[start:end], str(end) if end < len(items) else None

    def one(self, call: str, job_id: str, query: Mapping[str, str]) -> Reply:
        job = self.jobs.get(job_id)
        if job is None or time.time() < job.since_s + self.habits.get_lag_s:
            return refusal(404, "Classify job not found")
        if call == "get":
            return Reply(200, self.show(job))
        if time.time() < job.until_s:
            return refusal(404, "Classify job has no results")
        token = query.get("page_token")
        if token is not None and self.habits.results_tokens == "refused":
            return refusal(422, [{"loc": ["query", "page_token"], "msg": "unexpected", "type": "extra_forbidden"}])
        start = int(token.removeprefix("r")) if token and self.habits.results_tokens == "honoured" else 0
        page, token = self.page(job.items, start, self.habits.results_page)
        body = {"items": page, "next_page_token": f"r{token}" if token else None}
        return Reply(200, body | ({} if "total_size" in self.omitted else {"total_size": len(job.items)}))

    def show(self, job: Job) -> dict[str, Any]:
        habits, body = self.habits, job.body
        status = job.status if time.time() >= job.until_s else self.rng.choice(habits.words.split(",")) or "PENDING"
        rules = body["rules"]
        mode, parsing = body.get("mode"), body.get("parsing_configuration")
        if habits.fill:
            rules, mode = rules[::-1], None
            parsing = {"lang": "en", "max_pages": 5, "target_pages": None} | (parsing or {})
        shown = {
            "id": job.job_id,
            "project_id": "p-1",
            "user_id": "somebody",
            "rules": rules,
            "status": status,
            "created_at": self.spell(job.since_s + habits.ahead_s),
            "mode": mode,
            "parsing_configuration": parsing,
            "error_message": "PDF_IS_BROKEN" if status == "ERROR" else None,
            "nobody_documented_this": {"a": [1]},
        }
        return {name: value for name, value in shown.items() if name not in self.omitted}

    def spell(self, moment_s: float) -> str:
        moment = datetime.fromtimestamp(moment_s, UTC)
        match self.habits.created_at:
            case "offset":
                return moment.astimezone(timezone(timedelta(hours=-5, minutes=-30))).isoformat(" ")
            case "compact":
                return moment.strftime("%Y%m%dT%H%M%S,%fZ")
            case "naive":
                return moment.replace(tzinfo=None).isoformat()
            case "words":
                return formatdate(moment_s, usegmt=True)
            case _:
                return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def now_s(self) -> float:
        return time.time() + float(self.habits.ahead_s)

    # --- HTTP/1.1 -----------------------------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await read_request(reader)) is not None:
                reply = self.answer(request)
                await asyncio.sleep(self.rng.random() * self.habits.delay_s)
                if reply.lost:
                    reset(writer)
                    return
                writer.write(self.frame(reply, zipped="gzip" in request.headers.get("accept-encoding", "")))
                await writer.drain()
                if self.habits.close:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def frame(self, reply: Reply, *, zipped: bool) -> bytes:
        data = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
        head = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}", "content-type: application/json"]
        head += [f"{name}: {value}" for name, value in reply.headers.items()]
        if "Date" not in self.omitted:
            head.append(f"date: {formatdate(self.now_s(), usegmt=True)}")
        if self.habits.close:
            head.append("connection: close")
        if self.habits.gzip and zipped:
            head.append("content-encoding: gzip")
            data = gzip.compress(data)
        if not self.habits.chunked:
            return "\r\n".join([*head, f"content-length: {len(data)}", "", ""]).encode() + data
        pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        return "\r\n".join([*head, "transfer-encoding: chunked", "", ""]).encode() + chunks + b"0\r\n\r\n"


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection, or None where there is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    return Request(method, url.path, query, headers, body)


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection by RST, as a crashed proxy does."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def main(habits: argparse.Namespace) -> None:
    """Serves until the process is ended."""
    server_state = IndependentServer(habits)
    server = await asyncio.start_server(server_state.serve, "127.0.0.1", habits.port)
    crowd = asyncio.create_task(server_state.crowd()) if habits.others else None
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await (crowd or server.serve_forever())


if __name__ == "__main__":
    asyncio.run(main(parser().parse_args()))
