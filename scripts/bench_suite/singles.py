"""Suites about one thing each: the journal, the start of the program, a resume, and the server itself."""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_suite.clients import CONFIG, Work, file_id, measure_in
from bench_suite.lab import KEY, SCRIPTS, Lab
from bench_suite.table import print_table

Rows = list[dict[str, Any]]
MANY_FILES = 10_000_000
STARTS = 10
FIRST_REQUEST_S_MAX = 600.0


def journal(lab: Lab, _options: argparse.Namespace) -> Rows:
    """facts a second with an fsync of 5 ms and 100 waiting tasks, against one fsync each"""
    with tempfile.TemporaryDirectory(prefix="classify-batch-bench-") as name:
        cost = lab.cost([sys.executable, SCRIPTS / "journal.py", name])
    row = json.loads(cost.stdout)
    print_table([{name: f"{value:,.0f}" for name, value in row.items()}])
    return [row]


def start(lab: Lab, _options: argparse.Namespace) -> Rows:
    """how long `--help` and `status` take, as a ratio to what Python and click take alone"""
    with tempfile.TemporaryDirectory(prefix="classify-batch-bench-") as name:
        measure_in(Path(name), lab, "ours", Work(files=1_000, job_duration_s=0.01))
        commands = {
            'python -c "import click"': [sys.executable, "-c", "import click"],
            "--help": lab.classify_batch("--help"),
            "status DIR": lab.classify_batch("status", Path(name) / "run"),
        }
        taken_s: dict[str, list[float]] = {words: [] for words in commands}
        for _ in range(STARTS):  # in turn, so that a machine that slows down slows all of them
            for words, command in commands.items():
                taken_s[words].append(lab.cost(command).wall_s)
    medians = {words: statistics.median(each) for words, each in taken_s.items()}
    least_s = min(medians.values())
    print_table(
        [{"command": words, "ms": f"{1000 * s:.0f}", "ratio": f"{s / least_s:.2f}"} for words, s in medians.items()]
    )
    return [{"command": words, "seconds": each} for words, each in taken_s.items()]


def resume(lab: Lab, options: argparse.Namespace) -> Rows:
    """from the start of `resume` to its first request, on a run of 10 million files of which 90 % is done"""
    rows = []
    for files in options.files or [MANY_FILES]:
        with tempfile.TemporaryDirectory(prefix="classify-batch-bench-") as name:
            folder = Path(name)
            (folder / "config.toml").write_text(CONFIG)
            words = [folder, "--files", files, "--files-per-job", options.files_per_job or 100]
            lab.cost([sys.executable, SCRIPTS / "build_run.py", *words])
            sizes = {path.name: path.stat().st_size for path in (folder / "run").glob("*.jsonl")}
            lab.server.reset({"job_duration_s": 60.0})
            figures = until_first_request(lab, lab.classify_batch("resume", folder / "run"))
            rows.append({"files": files, **figures, "bytes": sizes})
    mib = 1024 * 1024
    print_table(
        [
            {
                "files": f"{row['files']:,}",
                "plan MiB": f"{row['bytes']['plan.jsonl'] / mib:.0f}",
                "journal MiB": f"{row['bytes']['journal.jsonl'] / mib:.0f}",
                "s to the first request": f"{row['seconds']:.2f}",
                "RSS MiB by then": f"{row['rss_mib']:.0f}",
            }
            for row in rows
        ]
    )
    return rows


def until_first_request(
    lab: Lab, command: list[str], work_s: float = 0.0, has_done: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """How long a command takes until its first request, and its peak memory when it has worked for `work_s` more, or
    `has_done` what is wanted; it is killed then, if it hasn't ended."""
    with tempfile.TemporaryFile("w+") as output:
        began_s = time.monotonic()
        process = lab.start(command, output, output)
        try:
            while (first_s := lab.server.first_s()) is None:
                if process.poll() is not None or time.monotonic() - began_s > FIRST_REQUEST_S_MAX:
                    output.seek(0)
                    sys.exit(f"{' '.join(command)} sent no request:\n{output.read()[-4000:]}")
                time.sleep(0.02)
            cpu_s = _cpu_s(process)
            end_s, rss_mib = time.monotonic() + work_s, _peak_rss_mib(process)
            while (left_s := end_s - time.monotonic()) > 0 and process.poll() is None and not has_done():
                rss_mib = max(rss_mib, _peak_rss_mib(process))
                time.sleep(min(1.0, left_s))
            rss_mib = max(rss_mib, _peak_rss_mib(process))
        finally:
            process.kill()
            process.wait()
    return {"seconds": first_s - began_s, "cpu_s": cpu_s, "rss_mib": rss_mib}


def _cpu_s(process: subprocess.Popen[str]) -> float:
    """What it has used so far; on a busy machine this says more than the clock."""
    user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _peak_rss_mib(process: subprocess.Popen[str]) -> float:
    """0 where it has ended."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    _, told, size = status.partition("VmHWM:")
    return int(size.split()[0]) / 1024 if told else 0.0


# --- The server by itself ---------------------------------------------------------------------------------------------

CONNECTIONS = 32
TURNS = {"create": 100, "list of 100": 100, "get": 300, "results of 100": 100}


def server(lab: Lab, _options: argparse.Namespace) -> Rows:
    """what the bench server itself can do at most: raw sockets, one request each at a time"""
    lab.server.reset({"job_duration_s": 1e-6, "page_size_max": 100})
    address = lab.server.base_url.removeprefix("http://")
    host, _, port = address.partition(":")
    rows = []
    lines = [socket.create_connection((host, int(port))) for _ in range(CONNECTIONS)]
    path = "/api/v1/classifier/jobs"
    job_id = ""
    requests: dict[str, Callable[[], bytes]] = {
        "create": lambda: _request("POST", path, json.dumps(_CREATE).encode()),
        "list of 100": lambda: _request("GET", f"{path}?page_size=100"),
        "get": lambda: _request("GET", f"{path}/{job_id}"),
        "results of 100": lambda: _request("GET", f"{path}/{job_id}/results"),
    }
    for call, turns in TURNS.items():
        data = requests[call]()
        lines[0].sendall(data)
        first = _whole(lines[0])
        if call == "create":
            job_id = json.loads(first.partition(b"\r\n\r\n")[2])["id"]
        began_s = time.monotonic()
        for _ in range(turns):
            for line in lines:
                line.sendall(data)
            for line in lines:
                _whole(line)
        seconds = time.monotonic() - began_s
        rows.append({"call": call, "requests_per_s": turns * CONNECTIONS / seconds, "bytes": len(first)})
    for line in lines:
        line.close()
    print_table(
        [
            {"call": row["call"], "requests/s": f"{row['requests_per_s']:,.0f}", "bytes an answer": f"{row['bytes']:,}"}
            for row in rows
        ]
    )
    return rows


_CREATE = {
    "file_ids": [file_id(number) for number in range(100)],
    "rules": [
        {"type": "invoice", "description": "has an invoice number, line items and a total amount"},
        {"type": "contract", "description": "an agreement between parties with terms, obligations and signatures"},
    ],
    "mode": "FAST",
}


def _request(method: str, target: str, body: bytes = b"") -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def _whole(line: socket.socket) -> bytes:
    """One answer."""
    data = line.recv(1 << 18)
    head_end = data.find(b"\r\n\r\n") + 4
    start = data.find(b"Content-Length: ") + 16
    length = head_end + int(data[start : data.find(b"\r\n", start)])
    parts = [data]
    have = len(data)
    while have < length:
        parts.append(line.recv(1 << 18))
        have += len(parts[-1])
    return b"".join(parts)
