"""How a shard ended, as whoever carried it out says."""

from __future__ import annotations

from dataclasses import dataclass

from classify_batch.errors import ExitStatus


@dataclass(frozen=True, slots=True)
class ShardEnding:
    """How a shard ended for now.

    Attributes:
        reason, hint: empty where it is complete.
        called: whether anything was called or written for it.
    """

    shard: int
    exit_status: ExitStatus
    reason: str = ""
    hint: str = ""
    called: bool = True

    @property
    def complete(self) -> bool:
        """Whether nothing is left of it to do."""
        return self.exit_status in (ExitStatus.COMPLETE, ExitStatus.FAILURES)
