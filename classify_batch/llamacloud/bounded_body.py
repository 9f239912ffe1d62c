"""The body of an answer, up to a limit, which holds after decompression, too."""

from __future__ import annotations

import zlib

import httpx

from classify_batch.protocol.sanitize import printable_line

BODY_BYTES_MAX = 64 * 1024 * 1024
"""500 answers with long reasonings are about 1 MiB; this is what no honest answer reaches."""

_GZIP_BEGINS = b"\x1f"
"""The first byte of a member: the second may come in the next block."""


class BodyTooLargeError(Exception):
    """A body beyond the limit."""


class BoundedBody:
    """A body, decompressed up to the limit only: httpx decompresses whole blocks, and a small one may become huge."""

    def __init__(self, encoding: str) -> None:
        packed = encoding.strip().lower()
        if packed not in ("", "identity", "gzip", "x-gzip"):  # RFC 9110, 8.4.1.3: both names mean the same
            raise httpx.DecodingError(f"an encoding that was not asked for: {printable_line(encoding)}")
        self._unpacker = _new_unpacker() if packed.endswith("gzip") else None
        self.data = bytearray()

    def add_block(self, block: bytes) -> None:
        if self._unpacker is None:
            self.data += block
        else:
            self._unpack_block(block, self._unpacker)
        if len(self.data) > BODY_BYTES_MAX:
            raise BodyTooLargeError(f"a body of more than {BODY_BYTES_MAX} bytes")

    def _unpack_block(self, block: bytes, unpacker: zlib._Decompress) -> None:
        """RFC 1952, 2.2: there may be several members. What follows one and is none, such as zeros, says nothing."""
        while block and len(self.data) <= BODY_BYTES_MAX:
            if unpacker.eof:
                if not block.startswith(_GZIP_BEGINS):
                    return
                self._unpacker = unpacker = _new_unpacker()
            try:
                # One byte more, by which a body that is too large shows.
                self.data += unpacker.decompress(block, BODY_BYTES_MAX + 1 - len(self.data))
            except zlib.error as error:
                raise httpx.DecodingError(str(error)) from None
            block = unpacker.unused_data


def _new_unpacker() -> zlib._Decompress:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
