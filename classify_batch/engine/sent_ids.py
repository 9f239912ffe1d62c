"""Which file IDs an old attempt of documents was sent with."""

from __future__ import annotations

from collections.abc import Sequence


def sent_by_position(ranges: Sequence[tuple[int, int]] | None, sent_ids: Sequence[str]) -> dict[int, str]:
    """The IDs that were sent, by position in the chunk. `ranges`: the part's; None: the whole chunk.

    >>> sent_by_position([(2, 3), (5, 6)], ["a", "b"])
    {2: 'a', 5: 'b'}
    """
    whole = [(0, len(sent_ids))]
    positions = (place for start, stop in (whole if ranges is None else ranges) for place in range(start, stop))
    return dict(zip(positions, sent_ids, strict=True)) if sent_ids else {}
