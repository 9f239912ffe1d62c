"""How long a process waited for a CPU, on a machine that has other work, too.

Some seconds are promises: a command that is asked to leave is gone within four. Where more processes are ready to run
than there are CPUs, a part of these is spent waiting for one, for which the command can do nothing. Linux counts it for
each thread (`schedstat`), so a test can leave it out: an idle machine judges strictly, and on a busy one nobody fails
for the work of others.
"""

from __future__ import annotations

from pathlib import Path


class CpuWaits:
    """From now on, until `seconds` was called for the last time."""

    def __init__(self, process_id: int) -> None:
        self._threads = Path(f"/proc/{process_id}/task")
        self._before = self._read()
        self._now = dict(self._before)

    def seconds(self) -> float:
        """So far, of all threads. A thread that ends takes its count with it, so call this often."""
        self._now.update(self._read())
        return sum(waited_s - self._before.get(name, 0.0) for name, waited_s in self._now.items())

    def _read(self) -> dict[str, float]:
        found = {}
        try:
            for thread in self._threads.iterdir():
                found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
        except OSError:
            pass  # a thread has ended meanwhile, or this system doesn't count
        return found
