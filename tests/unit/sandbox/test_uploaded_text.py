"""What the sandbox says of an uploaded document that is no text."""

from __future__ import annotations

import pytest

from classify_batch.sandbox.documents.project import JobConfig
from classify_batch.sandbox.documents.uploaded_text import classify_text
from classify_batch.settings.job_spec import Rule

CONFIG = JobConfig(rules=(Rule(type="invoice", description="has an invoice number, line items and a total amount"),))


@pytest.mark.parametrize("text", ["%PDF-1.7\nstream of signs", "\x89PNG\0\0"])
def test_a_document_that_is_no_text_is_called_so(text: str) -> None:
    """Not as if its words had been read, and no rule fitted."""
    answer = classify_text(text, CONFIG)
    assert answer["type"] is None
    assert answer["reasoning"] == (
        "The sandbox reads text files only, and this is none; LlamaCloud reads PDFs, images and more."
    )


@pytest.mark.parametrize("text", ["nothing that any rule names", "about a %PDF- file"])
def test_a_text_without_a_rules_words_is_called_so(text: str) -> None:
    """It was read."""
    assert "no rule's words" in str(classify_text(text, CONFIG)["reasoning"])
