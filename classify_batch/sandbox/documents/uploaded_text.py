"""Classifies one upload by the words of the rules, whatever else the project holds: a stand-in, not a language model.

The answer depends on the text and the rules only, so that it is the same in whatever order documents are uploaded. A
rule's score is the sum of what its words and phrases get in the text (BM25's saturation, 0 to 1 each), divided by the
square root of how many it has; a word that several rules share counts a share for each.
"""

from __future__ import annotations

import math
from collections import Counter

from classify_batch.protocol.v1 import ResultBody
from classify_batch.sandbox.documents.document_folder import PAGE_CHARACTERS, explain_answer, pages_to_read
from classify_batch.sandbox.documents.pdf_text import PDF_EXTRA, can_read_pdfs
from classify_batch.sandbox.documents.project import JobConfig
from classify_batch.sandbox.documents.ranking import WORDS_NAMED_MAX, Index, best_rule, significant_words

_SNIFFED_CHARACTERS = 8192


def classify_upload(name: str, text: str | None, config: JobConfig) -> ResultBody:
    """The answer of an upload. `text`: what was read of it; None: it has no text. Then no rule fits, and the reasoning
    says why: an answer that was made up would look as if the document had been read."""
    if text is None or is_binary(text):  # former versions kept the bytes of a PDF as its text
        return {"type": None, "confidence": 1.0, "reasoning": explain_unread(name)}
    return classify_text(text, config)


def explain_unread(name: str) -> str:
    """Why the sandbox has read nothing of a document."""
    if not name.lower().endswith(".pdf"):
        return "The sandbox reads text files and PDFs only, and this is neither; LlamaCloud reads images and more."
    if not can_read_pdfs():
        return f"The sandbox reads PDFs only after {PDF_EXTRA}; LlamaCloud reads them."
    return "The sandbox found no text in this PDF: it is scanned, protected or damaged. LlamaCloud reads scans."


def classify_text(text: str, config: JobConfig) -> ResultBody:
    """The answer of a text, of which the pages are read that the job asks for."""
    pages = pages_to_read(config.parsing_configuration, config.version)
    read = "".join(text[page * PAGE_CHARACTERS : (page + 1) * PAGE_CHARACTERS] for page in pages)
    words = [significant_words(rule) for rule in config.rules]
    rules_with = Counter(word for of_rule in words for word in of_rule)
    index = Index([read])
    try:
        found_in = {word: sum(share for _, share in index.find_rows(word).shares) for word in rules_with}
    finally:
        index.close()
    shares = {word: share / rules_with[word] for word, share in found_in.items()}
    ranked = best_rule([sum(shares[word] for word in of_rule) / math.sqrt(len(of_rule) or 1) for of_rule in words])
    if ranked.rule is not None:
        found = sorted((word for word in words[ranked.rule] if shares[word]), key=lambda word: -shares[word])
        ranked = ranked._replace(words=tuple(found[:WORDS_NAMED_MAX]))
    kind = None if ranked.rule is None else config.rules[ranked.rule].type
    return {"type": kind, "confidence": ranked.confidence, "reasoning": explain_answer(kind, ranked)}


def is_binary(text: str) -> bool:
    """Whether it is a PDF, or holds what no text does."""
    return text.startswith("%PDF-") or "\0" in text[:_SNIFFED_CHARACTERS]
