"""Whether two streams hold the same file IDs, equally often, in any order: two sums tell.

The sum of the hashes of all IDs doesn't depend on their order, and an ID that is missing, that came twice or that
nobody knows changes it. CPython hashes bytes by SipHash with a key of its own in each process: that two different
collections have equal sums has a chance of 1 in 2⁶⁴. Ten million IDs take a second and no memory; spreading them over
files and comparing sets, bucket by bucket, takes twenty times as long, and is left for the case in which the sums
differ and somebody has to say which IDs are wrong.
"""

from __future__ import annotations

from collections.abc import Sequence


class IdSum:
    """The sum of the hashes of IDs, and their count. Equal sums: the same IDs, each equally often."""

    def __init__(self) -> None:
        self._count = self._sum = 0

    def add_ids(self, file_ids: Sequence[bytes]) -> None:
        """Adds IDs in UTF-8."""
        self._count += len(file_ids)
        # An unbounded sum: nothing is lost at its upper end.
        self._sum += sum(map(hash, file_ids))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IdSum):
            return NotImplemented
        return (self._count, self._sum) == (other._count, other._sum)

    __hash__ = None  # type: ignore[assignment]
