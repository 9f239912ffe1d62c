"""A server of the classifier's API, v1 or v2, that is never the limit, in a process and on a core of its own.

HTTP/1.1 is read by hand: whole requests with a Content-Length, kept alive, as many behind each other as come. What it
is asked is told under /bench: POST /bench/reset (a new world; options as JSON), GET /bench/stats?slots=N, and
GET /bench/first (the moment of the first request, by the machine's monotonic clock).

Prints its base URL on stdout once it listens. Ends when its stdin does, so that it never outlives who started it.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from email.utils import formatdate
from random import Random
from typing import Any
from urllib.parse import parse_qs

from bench_suite.foreign import ForeignJobs
from bench_suite.meter import Meter, make_limit
from bench_suite.world import JobTable, RefusedError, invalid
from bench_suite.world_v2 import WorldV2

JOBS_PATHS = {"v1": "/api/v1/classifier/jobs", "v2": "/api/v2/classify"}
GZIP_BYTES_MIN = 500
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed"}
_REASONS |= {422: "Unprocessable Entity", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass(frozen=True, slots=True)
class Options:
    """What may differ from one reset to the next.

    Attributes:
        version: of the API; the other's paths are 404.
        list_status: anything but 200 makes the list unusable.
        requests_per_s: 429 beyond, counted as `rate_window` says; None: no limit.
        creates_per_s, reads_per_s: the same for creates alone, and for all others.
        burst_s: how many seconds' worth a bucket holds.
        halved_from_s, halved_to_s: since the first request; others take half of these limits meanwhile.
        noise: so many of all requests are answered 429, whatever the rate.
        jobs_at_once: 429 for a create that would be one more.
        foreign_jobs: other people's, at the list's end; foreign_old: whether these were made long ago.
        lost_creates: so many creates are accepted, and the connection is closed without an answer.
    """

    version: str = "v1"
    job_duration_s: float = 0.2
    sigma: float = 0.6
    seed: int = 1
    list_order: str = "newest"
    list_status: int = 200
    page_size_max: int = 100
    page_size_clamp: bool = False
    requests_per_s: float | None = None
    creates_per_s: float | None = None
    reads_per_s: float | None = None
    rate_window: str = "sliding"
    burst_s: float = 1.0
    halved_from_s: float | None = None
    halved_to_s: float | None = None
    noise: float = 0.0
    jobs_at_once: int | None = None
    foreign_jobs: int = 0
    foreign_old: bool = False
    lost_creates: int = 0
    gzip: bool = False
    key: str = ""


class LostAnswerError(Exception):
    """The call was carried out, and its answer is lost."""


class TooFastError(RefusedError):
    """A 429 of the rate. `cause`: `limit`, or `noise`, which a slower client would have got as well."""

    def __init__(self, cause: str) -> None:
        super().__init__(429, "Rate limit exceeded. Try again later.")
        self.cause = cause


class Service:
    """Answers requests; holds the world and the meter of this round."""

    def __init__(self, options: Options) -> None:
        self._date = (0, b"")
        self.reset(options)

    def reset(self, options: Options) -> None:
        self.options = options
        self._path = JOBS_PATHS[options.version]
        self.world: JobTable = (WorldV2 if options.version == "v2" else JobTable)(
            job_duration_s=options.job_duration_s,
            sigma=options.sigma,
            seed=options.seed,
            list_order=options.list_order,
            jobs_at_once=options.jobs_at_once,
        )
        self.foreign = ForeignJobs(
            options.foreign_jobs, old=options.foreign_old, version=options.version, wall_s=time.time()
        )
        self._to_lose, self._first_body = options.lost_creates, b""
        self.meter = Meter()
        self._limit, self._creates, self._reads = (
            make_limit(per_s, options.rate_window, options.burst_s)
            for per_s in (options.requests_per_s, options.creates_per_s, options.reads_per_s)
        )
        self._noise = Random(options.seed)
        self._key = f"bearer {options.key}".lower().encode() if options.key else b""

    def answer(self, method: bytes, target: str, head: bytes, body: bytes) -> bytes:
        """A whole HTTP answer. `head` is in lower case."""
        path, _, query = target.partition("?")
        if path.startswith("/bench/"):
            return self._wrap(200, self._control(path, query, body), b"")
        now_s = time.monotonic()
        call, job_id = _route(method, path, self._path)
        self.meter.arrive(call, now_s)
        cause = ""
        try:
            status, data = 200, self._call(call, job_id, query, head, body, now_s)
        except RefusedError as error:
            status, data = error.status, json.dumps({"detail": error.detail}).encode()
            cause = error.cause if isinstance(error, TooFastError) else ""
        self.meter.count(call, status, now_s, cause)
        packed = self.options.gzip and len(data) >= GZIP_BYTES_MIN and b"gzip" in head
        return self._wrap(status, gzip.compress(data, 1) if packed else data, b"gzip" if packed else b"")

    def _call(self, call: str, job_id: str, query: str, head: bytes, body: bytes, now_s: float) -> bytes:
        if self._key and self._key not in head:
            raise RefusedError(401, "Invalid API key. Please check your API key and try again.")
        if self.options.noise and self._noise.random() < self.options.noise:
            raise TooFastError("noise")
        share = self._share(now_s)
        for limit in (self._limit, self._creates if call == "create" else self._reads):
            if limit is not None and not limit.admit(now_s, share):
                raise TooFastError("limit")
        if self.foreign.knows(job_id):
            return self.foreign.get(job_id, self._first_body) if call == "get" else self.foreign.results(job_id)
        match call:
            case "create":
                return self._create(body, now_s)
            case "get":
                return self.world.get(job_id, now_s)
            case "list":
                return self._list(query, now_s)
            case "results":
                return self.world.results(job_id, now_s)
        raise RefusedError(404, "Not Found")

    def _create(self, body: bytes, now_s: float) -> bytes:
        self._first_body = self._first_body or body
        created = self.world.create(body, now_s, time.time())
        if self._to_lose:
            self._to_lose -= 1
            raise LostAnswerError
        return created

    def _share(self, now_s: float) -> float:
        """How much of the limits others leave."""
        from_s, to_s = self.options.halved_from_s, self.options.halved_to_s
        if from_s is None or to_s is None:
            return 1.0
        return 0.5 if from_s <= now_s - (self.meter.first_s or now_s) < to_s else 1.0

    def _list(self, query: str, now_s: float) -> bytes:
        options = self.options
        if options.list_status != 200:
            raise RefusedError(options.list_status, "The list can't be read")
        told = parse_qs(query)
        size, token = told.get("page_size", ["50"])[0], told.get("page_token", [None])[0]
        if not size.isdigit() or not (token or "0").removeprefix("f").isdigit() or not int(size):
            raise invalid("query", "Input should be a valid page_size and page_token")
        if int(size) > options.page_size_max and not options.page_size_clamp:
            raise invalid("query.page_size", f"Input should be less than or equal to {options.page_size_max}")
        most, job_ids = min(int(size), options.page_size_max), told.get("job_ids", ())
        if (token or "").startswith("f"):
            return self.foreign.append_to(b"", most, int((token or "")[1:]), self._first_body)
        page = self.world.page(most, token, now_s, job_ids)
        if self.foreign.count and not job_ids and b'],"next_page_token":null' in page:
            return self.foreign.append_to(page, most, 0, self._first_body)
        return page

    def _control(self, path: str, query: str, body: bytes) -> bytes:
        if path == "/bench/reset":
            self.reset(replace(Options(), **json.loads(body)))
            return json.dumps(asdict(self.options)).encode()
        if path == "/bench/first":
            return json.dumps(self.meter.first_s).encode()
        return json.dumps(self.meter.stats(self.world, int(parse_qs(query)["slots"][0]))).encode()

    def _wrap(self, status: int, data: bytes, encoding: bytes) -> bytes:
        second = int(time.time())
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True).encode())
        packed = b"Content-Encoding: %s\r\n" % encoding if encoding else b""
        return b"HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s" % (
            status,
            _REASONS.get(status, "Other").encode(),
            self._date[1],
            packed,
            len(data),
            data,
        )


def _route(method: bytes, path: str, jobs_path: str) -> tuple[str, str]:
    """The name of the call and the job that it is about."""
    if path == jobs_path:
        return ("create" if method == b"POST" else "list"), ""
    if method != b"GET" or not path.startswith(f"{jobs_path}/"):
        return "unknown", ""
    job_id = path[len(jobs_path) + 1 :]
    return ("results", job_id[:-8]) if job_id.endswith("/results") else ("get", job_id)


class Connection(asyncio.Protocol):
    """Cuts a stream of bytes into requests and answers them in their order."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._rest = b""
        self._meter: Meter | None = None
        self._transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        if self._meter is not None:
            self._meter.connections -= 1

    def data_received(self, data: bytes) -> None:
        rest = self._rest + data if self._rest else data
        answers = []
        answered = self._service.world.answered
        while (end := rest.find(b"\r\n\r\n")) >= 0:
            head = rest[:end].lower()
            length = _content_length(head)
            if length is None:
                self._transport.close()
                return
            if len(rest) < end + 4 + length:
                break
            method, target, _ = rest[: rest.find(b"\r\n")].split(b" ", 2)
            try:
                answers.append(self._service.answer(method, target.decode(), head, rest[end + 4 : end + 4 + length]))
            except LostAnswerError:
                self._transport.close()
                return
            if not target.startswith(b"/bench/"):
                self._note()
            rest = rest[end + 4 + length :]
        self._rest = rest
        if answers:
            self._transport.write(b"".join(answers) if len(answers) > 1 else answers[0])
        if self._service.world.answered > answered:
            self._service.meter.sent_results(time.monotonic())

    def _note(self) -> None:
        """Counts this connection as open, once for each round in which it is used."""
        meter = self._service.meter
        if self._meter is not meter:
            self._meter = meter
            meter.connections += 1
            meter.connections_max = max(meter.connections_max, meter.connections)


def _content_length(head: bytes) -> int | None:
    """Bytes of the body; None for a body that this server can't read."""
    if b"\r\ntransfer-encoding:" in head:
        return None
    start = head.find(b"\r\ncontent-length:")
    if start < 0:
        return 0
    digits = head[start + 17 :].split(b"\r\n", 1)[0].strip()
    return int(digits) if digits.isdigit() else None


async def serve(options: Options, port: int) -> None:
    service = Service(options)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", port, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--core", type=int, help="the only core to run on")
    types: dict[str, Any] = {"float": float, "int": int, "str": str, "float | None": float, "int | None": int}
    choices = {
        "version": [*JOBS_PATHS],
        "list_order": ["newest", "oldest", "shuffled"],
        "rate_window": ["sliding", "bucket", "fixed"],
    }
    for field in fields(Options):
        flag = f"--{field.name.replace('_', '-')}"
        if field.type == "bool":
            parser.add_argument(flag, action="store_true")
        else:
            kind = types[str(field.type)]
            parser.add_argument(flag, type=kind, default=field.default, choices=choices.get(field.name))
    return parser.parse_args()


def main() -> None:
    told = vars(parse())
    port, core = told.pop("port"), told.pop("core")
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    with suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(serve(Options(**told), port))


if __name__ == "__main__":
    main()
