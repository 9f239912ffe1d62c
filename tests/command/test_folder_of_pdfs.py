"""A folder of PDFs on a sandbox, served and embedded: what can be read is answered by its words, and nothing is made
up about the rest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.command_line import command, sandbox
from tests.support.folder_run import INVOICE, LETTER, configure, lines, run_words
from tests.support.pdf import make_pdf

PDF_EXTRA = "pip install 'classify-batch[pdf]'"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an inbox of PDFs: readable, damaged, and none at all."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "Rechnung März.pdf").write_bytes(make_pdf(INVOICE))
    (inbox / "Brief.pdf").write_bytes(make_pdf(LETTER, binary=False))
    (inbox / "kaputt.pdf").write_bytes(make_pdf(INVOICE)[:300])
    (inbox / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    return tmp_path


def answers(place: Path) -> dict[str, tuple[object, str]]:
    """Type and reasoning by path."""
    return {line["carried"]["path"]: (line["type"], line["reasoning"]) for line in lines(place)}


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("served", [True, False])
def test_pdfs_are_classified_by_their_words(place: Path, version: str, served: bool) -> None:
    """Whether they have a NUL byte or not. A damaged one and a picture match no rule, and the answer says why."""
    with sandbox() as base_url:
        configure(place, base_url if served else "sandbox", version)
        done = command(*run_words(), folder=place, status=0)
    found = answers(place)
    assert {path: kind for path, (kind, _) in found.items()} == {
        "Rechnung März.pdf": "invoice",
        "Brief.pdf": "letter",
        "kaputt.pdf": None,
        "photo.png": None,
    }
    assert "no text in this PDF" in found["kaputt.pdf"][1]
    assert "this is neither" in found["photo.png"][1]
    assert ("others will be unmatched: .png 1" in done.stderr) is not served


@pytest.mark.parametrize("served", [True, False])
def test_without_the_extra_pdfs_match_no_rule(place: Path, served: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is drawn by lot. Each says what to install; so does the run, where it knows that it is a sandbox."""
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with sandbox() as base_url:
        configure(place, base_url if served else "sandbox")
        done = command(*run_words(), folder=place, status=0)
    found = answers(place)
    assert {kind for kind, _ in found.values()} == {None}
    assert all(PDF_EXTRA in why for path, (_, why) in found.items() if path.endswith(".pdf"))
    assert (f"PDFs only after {PDF_EXTRA}: 3 will be unmatched" in done.stderr) is not served
