"""What the sandbox says of an uploaded document that is no text."""

from __future__ import annotations

import pytest

from classify_batch.sandbox.documents.project import JobConfig
from classify_batch.sandbox.documents.uploaded_text import classify_upload
from classify_batch.settings.job_spec import Rule

CONFIG = JobConfig(rules=(Rule(type="invoice", description="has an invoice number, line items and a total amount"),))


@pytest.mark.parametrize("text", [None, "%PDF-1.7\ninvoice number, line items", "\x89PNG\0\0 invoice number"])
@pytest.mark.parametrize(("name", "words"), [("a.pdf", "found no text in this PDF"), ("a.png", "text files and PDFs")])
def test_a_document_without_text_matches_no_rule(text: str | None, name: str, words: str) -> None:
    """Not as if its words had been read; nothing about it is made up, and the reasoning says why."""
    answer = classify_upload(name, text, CONFIG)
    assert answer["type"] is None
    assert words in str(answer["reasoning"])


@pytest.mark.parametrize("text", ["nothing that any rule names", "about a %PDF- file"])
def test_a_text_without_a_rules_words_is_called_so(text: str) -> None:
    """It was read."""
    assert "no rule's words" in str(classify_upload("a.txt", text, CONFIG)["reasoning"])
