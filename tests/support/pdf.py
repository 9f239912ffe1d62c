"""PDFs as programs write them: a page of text, compressed, with a table of where each object begins."""

from __future__ import annotations

import zlib


def make_pdf(text: str, *, binary: bool = True) -> bytes:
    """A PDF with a page of this text, in Latin-1. `binary`: with a NUL byte near its start, as most PDFs have one."""
    shown = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    page = zlib.compress(f"BT /F1 12 Tf 72 720 Td ({shown}) Tj ET".encode("latin-1"))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources 6 0 R >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Font << /F1 5 0 R >> >>",
    ]
    written = b"%PDF-1.7\n" + (b"%\0\xff\n" if binary else b"")
    places = []
    for number, each in enumerate(objects, start=1):
        places.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    table += b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(written))
    return written + table + end
