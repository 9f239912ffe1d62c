"""What the sandbox reads of a PDF: real files, by the real library."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from classify_batch.errors import UsageError
from classify_batch.sandbox.documents import pdf_text
from classify_batch.sandbox.documents.document_folder import Documents, list_documents
from classify_batch.sandbox.documents.pdf_text import read_pdf_text
from classify_batch.sandbox.documents.project import JobConfig
from classify_batch.sandbox.documents.uploaded_text import classify_upload
from classify_batch.settings.job_spec import Rule
from tests.support.pdf import make_pdf

TEXT = "Rechnung (Müller): invoice number 12, line items and a total amount"
CONFIG = JobConfig(rules=(Rule(type="invoice", description="has an invoice number, line items and a total amount"),))
DAMAGED = {
    "half": make_pdf(TEXT)[:300],
    "noise": b"%PDF-1.7\n" + bytes(range(256)) * 3,
    "blank": make_pdf(""),
}


@pytest.fixture
def without_pypdf(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra."""
    monkeypatch.setitem(sys.modules, "pypdf", None)


@pytest.mark.parametrize("binary", [True, False])
def test_a_pdfs_words_are_read(binary: bool) -> None:
    """Also umlauts and brackets."""
    assert read_pdf_text(make_pdf(TEXT, binary=binary), 1000) == TEXT


def test_no_more_of_a_pdf_is_read_than_asked() -> None:
    """A large one doesn't fill the memory."""
    assert read_pdf_text(make_pdf(TEXT), 8) == TEXT[:8]


@pytest.mark.parametrize("name", sorted(DAMAGED))
def test_a_pdf_without_text_is_no_error(
    name: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It has no text, and pypdf's words about its flaws reach nobody."""
    with caplog.at_level(logging.DEBUG):
        assert read_pdf_text(DAMAGED[name], 1000) is None
    assert "".join(capfd.readouterr()) == ""


def test_a_pdf_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have to be in memory as a whole."""
    monkeypatch.setattr(pdf_text, "PDF_BYTES_MAX", 100)
    assert read_pdf_text(make_pdf(TEXT), 1000) is None


def test_a_folder_of_documents_holds_its_pdfs(tmp_path: Path) -> None:
    """They are ranked by their words, as text files are."""
    (tmp_path / "Müller.pdf").write_bytes(make_pdf(TEXT))
    (tmp_path / "kaputt.pdf").write_bytes(DAMAGED["half"])
    documents = Documents(tmp_path)
    try:
        classify = documents.make_classifier(CONFIG)
        types = {each.name: classify(each.file_id)["type"] for each in documents.files}
    finally:
        documents.close()
    assert types == {"Müller.pdf": "invoice", "kaputt.pdf": None}


@pytest.mark.usefixtures("without_pypdf")
def test_without_the_extra_a_folder_holds_no_pdfs(tmp_path: Path) -> None:
    """Their bytes are not taken for words, also where they hold no NUL; who has only PDFs is shown what to install."""
    (tmp_path / "a.pdf").write_bytes(make_pdf(TEXT, binary=False))
    with pytest.raises(UsageError, match="holds no text file") as caught:
        list_documents(tmp_path)
    assert "pip install 'classify-batch[pdf]'" in str(caught.value.hint)
    (tmp_path / "b.txt").write_text(TEXT)
    assert [entry.name for entry, _ in list_documents(tmp_path)] == ["b.txt"]


@pytest.mark.usefixtures("without_pypdf")
def test_without_the_extra_the_answer_says_what_to_install() -> None:
    """A PDF has no text then."""
    assert read_pdf_text(make_pdf(TEXT), 1000) is None
    answer = classify_upload("Rechnung.PDF", None, CONFIG)
    assert answer["type"] is None
    assert "pip install 'classify-batch[pdf]'" in str(answer["reasoning"])
