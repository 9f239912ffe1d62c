"""Which files other people's jobs hold, remembered from one ambiguous create to the next: in a crowded project the same
jobs are candidates again and again, and their results need not be read again."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Set
from dataclasses import dataclass, field

REMEMBERED_DIGESTS_MAX = 500_000
"""With eight bytes a file. What was read first is forgotten first."""


@dataclass(slots=True)
class JobContents:
    """The digests of the files that jobs name and answer.

    Attributes:
        digests: how many are remembered.
    """

    digests: int = 0
    _of_jobs: OrderedDict[str, tuple[array[int], array[int]]] = field(default_factory=OrderedDict)

    def record_files(self, job_id: str, named: Set[int], answered: Set[int]) -> None:
        self.forget_job(job_id)
        of_named = array("Q", named)
        # Most jobs answer every file that they name: one array serves for both.
        self._of_jobs[job_id] = of_named, of_named if len(answered) == len(named) else array("Q", answered)
        self.digests += len(named) + len(answered)
        while self.digests > REMEMBERED_DIGESTS_MAX:
            self.forget_job(next(iter(self._of_jobs)))

    def files_of_job(self, job_id: str) -> tuple[array[int], array[int]] | None:
        """The files that a job names, and those of them that it answers; None where that is not remembered."""
        return self._of_jobs.get(job_id)

    def forget_job(self, job_id: str) -> None:
        self.digests -= sum(map(len, self._of_jobs.pop(job_id, ())))
