"""Whatever pieces a response comes in, it is read alike; what is none, or not whole, is refused."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import httpcore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.llamacloud.response_parser import BYTES_WITHOUT_BODY_MAX, ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"
EARLY = [
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n",
    b"HTTP/1.0 102 Processing\r\n\r\n",
]


@dataclass(frozen=True)
class Sent:
    """A response as a server sends it, and what is to be read of it."""

    data: bytes
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    stays_open: bool
    ends_by_closing: bool = False


def chunked(body: bytes, sizes: list[int], extension: bytes, trailer: bytes) -> bytes:
    """`body` in chunks of `sizes`, and one of what is left."""
    data, at = b"", 0
    for size in [*sizes, len(body)]:
        if chunk := body[at : at + size]:
            data += b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk)
        at += size
    return data + b"0\r\n" + trailer + b"\r\n"


@st.composite
def responses(draw: st.DrawFn) -> Sent:
    """Responses as servers and proxies send them."""
    status = draw(st.sampled_from([200, 201, 400, 404, 429, 503]))
    body = draw(st.binary(max_size=300))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0", b"1.2"]))
    reason = draw(st.sampled_from([b"", b" ", b" OK", b" Not: a header", b" \xe9"]))
    framing = draw(st.sampled_from(["length", "chunked", "close"] if version != b"1.0" else ["length", "close"]))
    headers = [
        (b"Date", b"Fri, 27 Nov 2026 10:00:00 GMT"),
        (b"X-Empty", b""),
        (b"x-LATIN", b"caf\xe9, Content-Length: 7"),
        (b"X-Odd", b"a\x7f\x01b"),
    ]
    headers = draw(st.lists(st.sampled_from(headers), unique=True))
    closes = draw(st.booleans())
    if closes:
        headers.append((draw(st.sampled_from([b"Connection", b"connection"])), b"close"))
    if framing == "length":
        headers.append((draw(st.sampled_from([b"Content-Length", b"content-length"])), b"%d" % len(body)))
    elif framing == "chunked":
        headers.append((b"Transfer-Encoding", b"chunked"))
        headers += draw(st.sampled_from([[], [(b"Content-Length", b"7")]]))  # the chunks count
    headers = draw(st.permutations(headers))
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\n"]))
    gap = draw(st.sampled_from([b" ", b"", b"\t", b"  "]))
    data = b"".join(draw(st.lists(st.sampled_from(EARLY), max_size=2)))
    data += b"HTTP/%s %d%s%s" % (version, status, reason, end)
    data += b"".join(b"%s:%s%s%s" % (name, gap, value, end) for name, value in headers) + end
    if framing == "chunked":
        sizes = draw(st.lists(st.integers(1, 50), max_size=4))
        extension, trailer = (
            draw(st.sampled_from([b"", b";a=b", b"  "])),
            draw(st.sampled_from([b"", b"X-Sum: 5\r\n"])),
        )
        data += chunked(body, sizes, extension, trailer)
    else:
        data += body
    stays_open = version != b"1.0" and framing != "close" and not closes
    return Sent(data, status, tuple(headers), body, stays_open, ends_by_closing=framing == "close")


def read(parser: ResponseParser, sent: Sent, cuts: list[int]) -> None:
    """Reads one response that comes in pieces, and compares it."""
    parser.begin()
    places = sorted({0, len(sent.data), *(cut % (len(sent.data) + 1) for cut in cuts)})
    body = b""
    for begin, end in pairwise(places):
        assert not parser.ended
        parser.feed(sent.data[begin:end])
        blocks, parser.blocks = parser.blocks, []
        body += b"".join(blocks)
    if sent.ends_by_closing:
        assert not parser.ended
        parser.feed_eof()
    assert (parser.status, tuple(parser.headers), body) == (sent.status, sent.headers, sent.body)
    assert parser.has_head
    assert parser.ended
    assert parser.can_reuse_connection == sent.stays_open


@settings(max_examples=300)
@given(st.lists(st.tuples(responses(), st.lists(st.integers(0, 2000), max_size=6)), min_size=1, max_size=3))
def test_responses_are_read_alike_in_whatever_pieces(sent: list[tuple[Sent, list[int]]]) -> None:
    """Also one after another on a connection, while it stays open."""
    parser = ResponseParser()
    for response, cuts in sent:
        read(parser, response, cuts)
        if not response.stays_open:
            break


@pytest.mark.parametrize(
    "more", [b"H", b"\0", OK, b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", b"\r\n\r\nHTTP/1.1 "]
)
@pytest.mark.parametrize("length", [0, 2])
def test_what_nobody_asked_for_ends_a_connection(length: int, more: bytes) -> None:
    """Be it the beginning of another response or garbage; the response itself is whole."""
    parser = ResponseParser()
    parser.feed(OK + b"Content-Length: %d\r\n\r\n%s" % (length, b"hi"[:length]) + more)
    assert (parser.status, b"".join(parser.blocks), parser.ended) == (200, b"hi"[:length], True)
    assert parser.headers == [(b"Content-Length", b"%d" % length)]
    assert not parser.can_reuse_connection


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + OK,
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        OK + b"Content-Length: 1, 2\r\n\r\nab",
        OK + b"Content-Length: 1, 1\r\nX: y\r\nContent-Length: 2\r\n\r\nab",
        OK + b"Content-Length: 2,\r\n\r\nab",
        OK + b"Content-Length: x, x\r\n\r\nab",
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\nBad Name: 2\r\n\r\nab",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 1_0\r\n\r\n",
        OK + b"Bad Name: 2\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
    ],
)
def test_what_is_no_response_is_refused(data: bytes) -> None:
    """At once, not only at the end of the connection."""
    with pytest.raises(httpcore.RemoteProtocolError, match=r"no HTTP/1\.1 response"):
        ResponseParser().feed(data)


@pytest.mark.parametrize("early", [b"", b"\r\n", EARLY[0], EARLY[0] + EARLY[1], EARLY[0].replace(b"9", b"9,9")])
@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"content-length:5\r\nX: Content-Length: 7\r\nCONTENT-LENGTH: 5 ,5\t, 5\r\n",
        b"Content-Length: 5\nContent-Length: 5\n",
    ],
)
def test_a_length_that_is_repeated_counts_once(early: bytes, lengths: bytes) -> None:
    """In whatever pieces it comes, also behind other responses, and the connection stays open."""
    data = early + OK + b"X-First: 1\r\n" + lengths + b"X-Last: 2\r\n\r\nhello"
    for size in (1, 2, 7, 40, len(data)):
        parser = ResponseParser()
        for _ in range(2):
            parser.begin()
            for at in range(0, len(data), size):
                assert not parser.ended
                parser.feed(data[at : at + size])
            assert (parser.status, b"".join(parser.blocks), parser.ended) == (200, b"hello", True)
            names = dict(parser.headers)
            assert (names[b"X-First"], names[b"Content-Length"], names[b"X-Last"]) == (b"1", b"5", b"2")
            assert parser.can_reuse_connection
    parser.feed(b"H")
    assert not parser.can_reuse_connection


@pytest.mark.parametrize(
    "data",
    [
        b"",
        OK,
        b"HTTP/1.1 100 Continue\r\n\r\n",
        OK + b"Content-Length: 3\r\n\r\nab",
        OK + b"content-length: 3\r\n\r\n",
        OK + b"Content-Length: 3\r\nContent-Length: 3\r\n",
        OK + b"Content-Length: 3, 3\r\n\r\nab",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\nab",
    ],
)
def test_a_response_that_breaks_off_is_refused(data: bytes) -> None:
    """A connection that ends in the middle of a response has not brought one."""
    parser = ResponseParser()
    if data:
        parser.feed(data)
    with pytest.raises(httpcore.RemoteProtocolError):
        parser.feed_eof()
    assert not parser.can_reuse_connection


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (OK, b"X: " + b"a" * 500 + b"\r\n"),
        (b"", EARLY[0]),
        (OK + b"X: ", b"a" * 500),
        (OK + b"Content-Length: 5, 5\r\n", b"X: y\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2;", b"a" * 500),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n", b"X: y\r\n"),
    ],
    ids=["headers", "interim", "value", "lengths", "extension", "trailers"],
)
def test_a_response_without_end_is_refused(begin: bytes, more: bytes) -> None:
    """A server can't fill the memory, nor be listened to for ever, with what is no body."""
    parser = ResponseParser()
    parser.feed(begin + more)
    for _ in range((BYTES_WITHOUT_BODY_MAX - len(begin)) // len(more) - 1):
        parser.feed(more)
    with pytest.raises(httpcore.RemoteProtocolError, match=f"more than {BYTES_WITHOUT_BODY_MAX} bytes"):
        parser.feed(more * (2 + len(begin + more) // len(more)))  # what came with a bit of body wasn't counted


def test_a_large_head_and_a_large_body_are_read() -> None:
    """What is a body isn't counted, however it is cut into chunks."""
    parser, body = ResponseParser(), bytearray()
    parser.feed(OK + b"X: " + b"a" * 60_000 + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(1_000):
        parser.feed(b"1\r\nx\r\n" * 100)
        body += b"".join(parser.blocks)
        parser.blocks = []
    parser.feed(b"0\r\n\r\n")
    assert (len(body), parser.ended, parser.can_reuse_connection) == (100_000, True, True)
