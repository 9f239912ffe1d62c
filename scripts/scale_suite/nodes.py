"""A Ray cluster of real processes on this machine: a head without a place for work, and nodes with one CPU each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = (sys.executable, "-m", "scale_suite.ray_node")


class Nodes:
    """The nodes, each in a session of its own, so that it can be killed with all its processes."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = environ
        self.head, self.address = self._start()
        self.workers = [self.add_worker() for _ in range(2)]

    def add_worker(self) -> subprocess.Popen[str]:
        """One more node that carries shards out."""
        return self._start(self.address)[0]

    def _start(self, *words: str) -> tuple[subprocess.Popen[str], str]:
        node = subprocess.Popen(
            [*COMMAND, *words],
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert node.stdout is not None
        address = node.stdout.readline().strip()
        if not address:
            raise RuntimeError("a node of the cluster did not start")
        return node, address

    def kill(self) -> None:
        """Kills all nodes at once, with everything that runs on them."""
        for node in (self.head, *self.workers):
            kill_session(node)


def kill_session(node: subprocess.Popen[str]) -> None:
    """Kills a node and every process of its session."""
    for process_id in processes_of_session(node.pid):
        kill(process_id, signal.SIGKILL)
    node.wait()


def processes_of_session(session: int) -> list[int]:
    """The processes of a session that still live."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def shard_processes(nodes: Nodes) -> list[int]:
    """The workers' processes that carry shards out."""
    found = []
    for node in nodes.workers:
        for process_id in processes_of_session(node.pid):
            try:
                title = Path(f"/proc/{process_id}/cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::ShardActor"):
                found.append(process_id)
    return found


def kill(process_id: int, number: signal.Signals) -> None:
    """Sends a signal to a process of ours, if it is still there."""
    try:
        os.kill(process_id, number)
    except ProcessLookupError:
        return


@contextmanager
def cluster(environ: dict[str, str]) -> Iterator[Nodes]:
    """A cluster that is killed at the end of the block."""
    nodes = Nodes(environ)
    try:
        yield nodes
    finally:
        nodes.kill()
