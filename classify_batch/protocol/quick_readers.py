"""Reads the bodies that a run reads most often: a job, a page of jobs that are polled, and a page of results.

pydantic takes two to four times as long for them, which is more than a twentieth of what a run costs. So msgspec
decodes the few fields that a run needs, and builds nothing else. What msgspec refuses is read by the model, which
decides, and says what is wrong. What both read is the same: a test compares them on bodies of every kind.
"""

from __future__ import annotations

from math import inf
from typing import Any, Generic, TypeVar

import msgspec
from pydantic import BaseModel

from classify_batch.model import Answer
from classify_batch.protocol.answers import AnswerReader, read_confidence
from classify_batch.protocol.json_shape import page_token_or_none

Item = TypeVar("Item")
Quick = TypeVar("Quick")
Model = TypeVar("Model", bound=BaseModel)


class QuickReader(Generic[Quick, Model]):
    """Reads the bodies of one kind: quickly, or by their model."""

    def __init__(self, quick: type[Quick], model: AnswerReader[Model]) -> None:
        self._decoder = msgspec.json.Decoder(quick)
        self._model = model

    def read(self, data: bytes) -> Quick | Model:
        """Raises NotJsonError, or ValueError for JSON of another shape."""
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, RecursionError):
            return self._model.read(data)


class QuickPage(msgspec.Struct, Generic[Item]):
    """A page, as `answers.Page`."""

    items: list[Item]
    next_page_token: Any = None
    total_size: Any = None

    @property
    def next_token(self) -> str | None:
        """Raises ValueError where it is no token."""
        return page_token_or_none(self.next_page_token)

    @property
    def total(self) -> int | None:
        # True is an int in Python, and no number in JSON.
        return self.total_size if type(self.total_size) is int else None


class QuickResult(msgspec.Struct, gc=False):
    """What a job answers about a file, as `answers.Result`."""

    type: str | None = None
    confidence: Any = None
    reasoning: Any = None

    def answer_about(self, file_id: str | None) -> Answer:
        return answer_from_quick_result(file_id, self)


def answer_from_quick_result(file_id: object, result: QuickResult | None) -> Answer:
    """The answer about a file. A null result means that the file was not classified."""
    # One function without calls where it can be: it runs once for each file of a run.
    named = (file_id.strip() or None) if isinstance(file_id, str) else None  # no file ID has blanks
    if result is None:
        return Answer(named, answered=False)
    confidence, reasoning, odd = result.confidence, result.reasoning, False
    if confidence is not None and not (type(confidence) is float and -inf < confidence < inf):
        confidence, odd = read_confidence(confidence)
    return Answer(named, True, result.type, confidence, reasoning if isinstance(reasoning, str) else None, odd)
