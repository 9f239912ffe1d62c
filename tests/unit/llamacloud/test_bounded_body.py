"""The body of an answer: how it is unpacked, and that it ends at a limit."""

from __future__ import annotations

import gzip

import httpx
import pytest

from classify_batch.llamacloud import bounded_body
from classify_batch.llamacloud.bounded_body import BodyTooLargeError, BoundedBody

WORDS = b'{"items": []}'
MEMBERS = {
    "one": gzip.compress(WORDS),
    "two": gzip.compress(WORDS[:5]) + gzip.compress(WORDS[5:]),
    "an empty one behind": gzip.compress(WORDS) + gzip.compress(b""),
    "zeros behind": gzip.compress(WORDS) + bytes(20),
    "words behind": gzip.compress(WORDS) + b"and more words",
}


def read(encoding: str, data: bytes, block_bytes: int) -> bytes:
    body = BoundedBody(encoding)
    for at in range(0, len(data), block_bytes):
        body.add_block(data[at : at + block_bytes])
    return bytes(body.data)


@pytest.mark.parametrize("block_bytes", [1, 7, 1000])
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", " GZip "])
@pytest.mark.parametrize("members", MEMBERS.values(), ids=MEMBERS.keys())
def test_all_members_of_a_gzip_body_are_read(encoding: str, members: bytes, block_bytes: int) -> None:
    """However the bytes come: by RFC 1952 there may be several, and by RFC 9110 `x-gzip` is another name."""
    assert read(encoding, members, block_bytes) == WORDS


def test_a_broken_member_is_an_error() -> None:
    """It is no answer, and never a shorter one."""
    with pytest.raises(httpx.DecodingError):
        read("gzip", gzip.compress(WORDS) + b"\x1f\x8b" + bytes(8), 1000)


def test_the_limit_holds_over_all_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small members are one large body."""
    monkeypatch.setattr(bounded_body, "BODY_BYTES_MAX", 1000)
    assert len(read("gzip", gzip.compress(bytes(100)) * 10, 1 << 20)) == 1000
    with pytest.raises(BodyTooLargeError):
        read("gzip", gzip.compress(bytes(100)) * 11, 1 << 20)
