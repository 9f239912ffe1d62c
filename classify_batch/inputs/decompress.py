"""Bytes as they lie in a file → bytes of a text: gzip and zstd are unpacked, whatever the file's name.

What is no text and can't be unpacked is refused by what it is: its first bytes tell.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from typing import Any, NoReturn, Protocol

from classify_batch.errors import SourceError
from classify_batch.streams.closing import closing
from classify_batch.streams.peeked import Peeked

_OUTPUT_BYTES_MAX = 1 << 18
_ZSTD_INPUT_BYTES = 1 << 10
"""Zstd's library gives all that a piece holds at once: of a hostile file 128 KiB for every 4 bytes."""

_LAYERS_MAX = 3
"""An archive in an archive in an archive is a mistake, or hostile."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPED = b"\x2a\x4d\x18"
"""Behind a byte from 0x50 to 0x5f: a frame of zstd that holds no text. pzstd begins its files with one."""

_TAR_AT, _TAR = 257, b"ustar"
HEAD_BYTES = 512

_TO_TABLE = "export it as CSV or JSONL with a file_id column"
_GET_AGAIN = "get the file once more"
_UNPACK = "unpack it, and give what is inside, or gzip or zstd instead"
_NOT_TEXT: tuple[tuple[bytes, str, str], ...] = (
    (b"PARE", "encrypted Parquet", _TO_TABLE),
    (b"PK\x03\x04", "an Excel workbook (.xlsx) or a ZIP archive", "save the sheet as CSV UTF-8, or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls)", "save the sheet as CSV UTF-8"),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ", "compressed by xz", _UNPACK),
    (b"\x04\x22\x4d\x18", "compressed by lz4", _UNPACK),
    (b"\x1f\x9d", "compressed by compress (.Z)", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"%PDF-", "a PDF", "give file IDs; `classify-batch files upload` uploads documents, and prints theirs"),
    (b"SQLite format 3", "an SQLite database", _TO_TABLE),
    (b"\xff\xff\xff\xff", "a stream of Arrow batches", "write it as an Arrow file, or as Parquet"),
    (b"Obj\x01", "an Avro file", _TO_TABLE),
    (b"ORC", "an ORC file", _TO_TABLE),
    (b"FEA1", "a Feather file of version 1", "write it as version 2, which is an Arrow file, or as Parquet"),
    (b"\x93NUMPY", "a NumPy array", _TO_TABLE),
    (b"\x89HDF", "an HDF5 file", _TO_TABLE),
    *((bytes((0x80, protocol)), "a pickle of Python", _TO_TABLE) for protocol in (2, 3, 4, 5)),
)


class _Unpacker(Protocol):
    """What zlib's, zstandard's and the standard library's objects have in common."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, /) -> bytes: ...


async def decompress(blocks: AsyncIterator[bytes], name: str, layers: int = 0) -> AsyncIterator[bytes]:
    """The bytes of a text, unpacked if they are packed.

    Raises:
        SourceError: it is no text, can't be unpacked, or ends too early.
    """
    async with closing(blocks) as stream:
        peeked = Peeked(stream)
        head = await peeked.peek_beginning(lambda held: len(held) >= HEAD_BYTES or b"\n" in held)
        refuse_what_is_no_text(head, name)
        is_gzip = head.startswith(_GZIP)
        if not is_gzip and not is_zstd(head):
            async for block in peeked:
                yield block
            return
        if layers == _LAYERS_MAX:
            raise SourceError(f"{name} is compressed more than {_LAYERS_MAX} times", hint=_UNPACK)
        unpacked = _unpack_gzip(aiter(peeked), name) if is_gzip else _unpack_zstd(aiter(peeked), name)
        async with closing(decompress(unpacked, name, layers + 1)) as text:
            async for block in text:
                yield block


def refuse_what_is_no_text(head: bytes, name: str) -> None:
    """Raises SourceError that says what the input is, where its first bytes tell of a format that isn't read."""
    for magic, what, hint in _NOT_TEXT:
        if head.startswith(magic) and not is_plain_line(head):
            raise SourceError(f"{name} is {what}, which can't be read as an input", hint=hint)
    if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        raise SourceError(f"{name} is a tar archive, which can't be read as an input", hint=_UNPACK)


def is_zstd(head: bytes) -> bool:
    """Whether a file that begins so is compressed by zstd."""
    return head.startswith(_ZSTD) or (head[1:4] == _SKIPPED and head[0] & 0xF0 == 0x50)


def is_plain_line(head: bytes) -> bool:
    """Whether a text begins like a format that isn't one, such as the file ID `ORC-1`."""
    line = head.partition(b"\n")[0].rstrip(b"\r")
    return line.isascii() and line.decode("ascii").isprintable() and not line.startswith(b"%PDF-")


async def _unpack_gzip(blocks: AsyncIterator[bytes], name: str) -> AsyncIterator[bytes]:
    """All members of a gzip file: `cat a.gz b.gz` is one, too."""
    unpacker = zlib.decompressobj(wbits=31)
    async for block in blocks:
        data = block
        while data:
            if unpacker.eof:
                if not (data := data.lstrip(b"\0")):  # tapes and some tools fill the last block with zeros
                    break
                unpacker = zlib.decompressobj(wbits=31)
            try:
                yield unpacker.decompress(data, _OUTPUT_BYTES_MAX)
            except zlib.error as error:
                _raise_damaged(name, "gzip", error)
            # Behind a member comes the next one; in its middle, what the bound left over.
            data = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    while not unpacker.eof and (rest := unpacker.decompress(b"", _OUTPUT_BYTES_MAX)):
        yield rest
    if not unpacker.eof:
        _raise_cut_off(name, "gzip")


async def _unpack_zstd(blocks: AsyncIterator[bytes], name: str) -> AsyncIterator[bytes]:
    """All frames of a zstd file."""
    make_unpacker, refusal = _find_zstd(name)
    unpacker = make_unpacker()
    async for block in blocks:
        for at in range(0, len(block), _ZSTD_INPUT_BYTES):
            data = block[at : at + _ZSTD_INPUT_BYTES]
            while data:
                if unpacker.eof:
                    unpacker = make_unpacker()
                try:
                    yield unpacker.decompress(data)
                except refusal as error:
                    _raise_damaged(name, "zstd", error, _zstd_hint(str(error)))
                data = unpacker.unused_data if unpacker.eof else b""
    if not unpacker.eof:
        _raise_cut_off(name, "zstd")


def _find_zstd(name: str) -> tuple[Callable[[], _Unpacker], type[Exception]]:
    """Zstd is in the standard library from Python 3.14 on; before, a package of its own reads it."""
    try:
        standard: Any = import_module("compression.zstd")
    except ImportError:
        pass
    else:
        return standard.ZstdDecompressor, standard.ZstdError
    try:
        package: Any = import_module("zstandard")
    except ImportError:
        raise SourceError(
            f"{name} is compressed by zstd, which this installation can't read",
            hint="pip install 'classify-batch[zstd]', or `zstd -dc FILE | classify-batch … --input -`",
        ) from None
    return lambda: package.ZstdDecompressor().decompressobj(), package.ZstdError


def _zstd_hint(error: str) -> str:
    """What to do about an error of zstd's library, whose words are the same in every program."""
    if "too much memory" in error:
        return (
            "unpack it first, since it was packed with --long: `zstd -dc --long=31 FILE | classify-batch … --input -`"
        )
    if "ictionary" in error:
        return "unpack it first, with its dictionary: `zstd -dc -D DICTIONARY FILE | classify-batch … --input -`"
    return _GET_AGAIN


def _raise_damaged(name: str, what: str, error: Exception, hint: str = _GET_AGAIN) -> NoReturn:
    raise SourceError(f"{name} can't be unpacked ({what}): {error}", hint=hint) from None


def _raise_cut_off(name: str, what: str) -> NoReturn:
    raise SourceError(
        f"{name} ends in the middle of its {what} data", hint="was it written and copied to its end? Get it once more"
    )
