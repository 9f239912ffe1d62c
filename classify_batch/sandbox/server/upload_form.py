"""The multipart form of an upload, parsed by python-multipart as it comes: the parser that the vendor's framework has.

Small fields are kept, and of the file its name, size, digest and beginning; a PDF is kept whole, up to a size.
"""

from __future__ import annotations

import hashlib

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from classify_batch.sandbox.documents.pdf_text import PDF_BYTES_MAX, is_pdf, read_pdf_text
from classify_batch.sandbox.server.responses import Refusal, make_422_refusal, make_refusal

UPLOAD_BYTES_MAX = 300 * 1024 * 1024
TEXT_BYTES_MAX = 60_000
"""How much of a text is kept: five pages, whatever their characters take."""

FIELD_BYTES_MAX = 10_000
"""Of a field's value, and of the head of a part."""

FIELDS_MAX = 1000

_FILE = "file"
_DISPOSITION = b"content-disposition"


class UploadForm:
    """What an upload's body says, as far as it came.

    Attributes:
        file_name: of the part named `file`; None: there is none so far, or it has no file name.
        size_bytes, digest: of the file's content.
        is_complete: whether the end of the form came.

    Raises:
        Refusal: 422 for another media type, 413 for a file that is too large, 400 for what is no form.
    """

    def __init__(self, content_type: str) -> None:
        media_type, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if media_type != b"multipart/form-data" or not boundary:
            raise make_422_refusal((("body",), "Expected multipart/form-data with a boundary", "value_error"))
        self.file_name: str | None = None
        self.size_bytes = 0
        self.digest = hashlib.sha256()
        self._beginning = bytearray()
        self.is_complete = False
        self._fields: dict[str, bytearray] = {}
        self._part_name: str | None = None
        self._head_bytes = 0
        self._header_name, self._header_value = bytearray(), bytearray()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._take_header_name,
                    "on_header_value": self._take_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_content,
                    "on_part_data": self._take_content,
                    "on_end": self._end_form,
                },
            )
        except FormParserError:
            raise malformed_form_refusal() from None

    def feed_block(self, block: bytes) -> None:
        """Takes the next block of the body."""
        if self.is_complete:
            return  # what follows the end means nothing
        try:
            self._parser.write(block)
        except FormParserError:
            raise malformed_form_refusal() from None

    @property
    def is_pdf(self) -> bool:
        """Whether the file is a PDF: then reading its text takes time."""
        return is_pdf(self._beginning)

    def read_text(self) -> str | None:
        """The text with which the file begins; None where it has none: of a PDF none can be read, or there is a NUL
        byte, as no text has."""
        if self.is_pdf:
            whole = len(self._beginning) == self.size_bytes
            return read_pdf_text(bytes(self._beginning), TEXT_BYTES_MAX) if whole else None
        return None if b"\0" in self._beginning else self._beginning.decode("utf-8", "replace")

    def field_text(self, name: str) -> str | None:
        """The value of a field; None: the form has none of this name."""
        value = self._fields.get(name)
        return None if value is None else value.decode("utf-8", "replace")

    # --- What the parser calls --------------------------------------------------------------------------------

    def _begin_part(self) -> None:
        self._part_name, self._head_bytes = None, 0

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._count_head_bytes(end - start)
        self._header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_head_bytes(end - start)
        self._header_value += data[start:end]

    def _count_head_bytes(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > FIELD_BYTES_MAX:
            raise malformed_form_refusal()

    def _end_header(self) -> None:
        name, value = bytes(self._header_name).lower(), bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()
        if name != _DISPOSITION:
            return
        _, options = parse_options_header(value)
        named, file_name = options.get(b"name"), options.get(b"filename")
        self._part_name = None if named is None else named.decode("utf-8", "replace")
        if self._part_name == _FILE and file_name is not None:
            self.file_name = file_name.decode("utf-8", "replace")

    def _begin_content(self) -> None:
        if self._part_name is not None and self._part_name != _FILE:
            self._fields.setdefault(self._part_name, bytearray())  # there may be no content
            if len(self._fields) > FIELDS_MAX:
                raise malformed_form_refusal()

    def _take_content(self, data: bytes, start: int, end: int) -> None:
        if self._part_name == _FILE:
            self.size_bytes += end - start
            if self.size_bytes > UPLOAD_BYTES_MAX:
                raise make_refusal(413, f"File is larger than {UPLOAD_BYTES_MAX} bytes")
            self.digest.update(memoryview(data)[start:end])
            kept_max = PDF_BYTES_MAX if self.is_pdf else TEXT_BYTES_MAX
            self._beginning += data[start : min(end, start + kept_max - len(self._beginning))]
        elif self._part_name is not None:
            kept = self._fields[self._part_name]
            kept += data[start:end]
            if len(kept) > FIELD_BYTES_MAX:
                raise malformed_form_refusal()

    def _end_form(self) -> None:
        self.is_complete = True


def malformed_form_refusal() -> Refusal:
    return make_refusal(400, "There was an error parsing the body")
