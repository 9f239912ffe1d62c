"""The text of a PDF, by pypdf where it is installed: the extra `pdf`. A stand-in for a parser, as the ranking is one
for a language model: a scan has no text, and layout means nothing.

pypdf is no dependency of every installation, since only somebody who practises has a use for it.
"""

from __future__ import annotations

import io
import logging
from importlib.util import find_spec

PDF_BYTES_MAX = 32 * 1024 * 1024
"""Larger ones are not read: a PDF's directory is at its end, so it has to be in memory as a whole."""

PDF_PAGES_MAX = 200
"""Behind these nothing is read, as pages without text cost time, too."""

PDF_EXTRA = "pip install 'classify-batch[pdf]'"

_BEGINNING = b"%PDF-"


def is_pdf(beginning: bytes | bytearray) -> bool:
    """Whether a content that begins so calls itself a PDF."""
    return beginning.startswith(_BEGINNING)


def can_read_pdfs() -> bool:
    """Whether pypdf is there."""
    return find_spec("pypdf") is not None


def read_pdf_text(content: bytes, characters_max: int) -> str | None:
    """The text of a PDF's first pages, up to so many characters: takes up to seconds, so never on an event loop.

    None: it can't be read (damaged, protected, too large), it has no text, as a scan has none, or pypdf isn't there.
    """
    if not can_read_pdfs() or len(content) > PDF_BYTES_MAX:
        return None
    import pypdf  # noqa: PLC0415 - an extra, and slow to import

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # each flaw of each file would be a line on stderr
    parts: list[str] = []
    characters = 0
    try:
        for page in pypdf.PdfReader(io.BytesIO(content)).pages[:PDF_PAGES_MAX]:
            parts.append(page.extract_text())
            characters += len(parts[-1]) + 1
            if characters >= characters_max:
                break
    except Exception:  # noqa: BLE001 - a parser of files that may hold anything may raise anything
        return None  # what came before the flaw isn't the document
    text = "\n".join(parts)[:characters_max]
    return text if text.strip() else None
