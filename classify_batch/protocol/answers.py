"""What the server answers, read leniently.

What everything rests on must be there: an ID, a status, the fields of an answer; and where a list goes on is a token,
or null. Anything else may be missing or odd, and is then None. Fields and statuses that nobody knows pass. A body that
doesn't fit is refused, and the error says which field is missing or wrong, without its value: it may be a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, InstanceOf, ValidationError
from pydantic_core import CoreSchema, core_schema

from classify_batch.clock import from_iso
from classify_batch.model import Answer
from classify_batch.protocol.json_shape import NotJsonError, page_token_or_none, text_or_none

Kind_co = TypeVar("Kind_co", bound=BaseModel, covariant=True)
Item = TypeVar("Item")
Value = TypeVar("Value")

_ERRORS_SAID_MAX = 5

TIME_CHARACTERS_MAX = 40
"""No honest time is longer; what a server says otherwise is not kept in memory."""


class NoneIfUnusable:
    """Marks a field that is None where a server leaves it out or fills it with something else."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_default_schema(handler(source), default=None, on_error="default")


Text = InstanceOf[str]
"""Any text. pydantic's own check refuses a lone surrogate, which JSON can spell and servers do send."""

Identity = Annotated[Text, Field(min_length=1)]
"""A text that isn't empty."""

Lenient = Annotated[Value | None, NoneIfUnusable()]
"""A field on which nothing rests."""


class AnswerModel(BaseModel):
    """A JSON object of the server. Types are not converted: a number in place of a text is an error."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, strict=True)


class Page(AnswerModel, Generic[Item]):
    """A page of jobs, results or files."""

    items: list[Item]
    next_page_token: Annotated[Text | None, BeforeValidator(page_token_or_none)] = None
    total_size: Lenient[int] = None

    @property
    def next_token(self) -> str | None:
        """The token of the next page; None: this page is the last."""
        return self.next_page_token

    @property
    def total(self) -> int | None:
        return self.total_size


@dataclass(frozen=True, slots=True)
class ResultsPage(Generic[Item]):
    """A page of a job's results, as it is handed on. The last one has no `next_page_token`."""

    items: Sequence[Item]
    next_page_token: str | None
    total_size: int | None


class RuleAnswer(AnswerModel):
    """A rule that a job was created with, as the server repeats it."""

    type: Text
    description: Text


class Result(AnswerModel):
    """What a job answers about a file; `type` None: no rule matched."""

    type: Text | None = None
    confidence: object = None
    reasoning: Lenient[Text] = None

    def answer_about(self, file_id: str | None) -> Answer:
        confidence, odd = read_confidence(self.confidence)
        return Answer(file_id, True, self.type, confidence, self.reasoning, odd)


def answer_from_result(file_id: str | None, result: Result | None) -> Answer:
    """The answer about a file. A null result means that the file was not classified. No file ID has blanks, and an
    empty one names no file."""
    named = None if file_id is None else file_id.strip() or None
    return Answer(named, answered=False) if result is None else result.answer_about(named)


def rules_of_job(rules: list[RuleAnswer] | None) -> frozenset[tuple[str, str]] | None:
    """A job's rules as a set; None where the server doesn't show them."""
    return None if rules is None else frozenset((rule.type, rule.description) for rule in rules)


_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def read_confidence(value: object) -> tuple[float | None, bool]:
    """A confidence, also one that is written as a text, and whether it is what no program reads back as a number: it is
    None then. Whether it lies within 0 to 1 is for others to judge.

    >>> read_confidence(0.93), read_confidence(" 0.93 "), read_confidence("high"), read_confidence(None)
    ((0.93, False), (0.93, False), (None, True), (None, False))
    """
    if value is None:
        return None, False
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    number = finite_or_none(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return number, number is None


def finite_or_none(number: float) -> float | None:
    """A number that a float can hold, and any program reads back; None for the others: JSON knows no bound."""
    try:
        return number if isfinite(number) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


_YEAR_1900_S, _YEAR_10000_S = -2_208_988_800.0, 253_402_300_800.0
"""No server means a time before the one, and few programs read one after the other."""


def parse_time_s(time: object) -> float | None:
    """Seconds since the epoch from a time of the server; None for what is no time, or stands for none: many servers
    write the year 1 where a time is unset."""
    words = text_or_none(time)
    if not words:
        return None
    time_s = _known_time_s(words) if len(words) <= TIME_CHARACTERS_MAX else from_iso(words)
    return time_s if time_s is not None and _YEAR_1900_S < time_s < _YEAR_10000_S else None


_known_time_s = lru_cache(maxsize=4096)(from_iso)
"""Each poll of the list gives the times of all jobs in flight again."""


class AnswerReader(Generic[Kind_co]):
    """Reads the bodies of one kind."""

    def __init__(self, model: type[Kind_co]) -> None:
        self._model = model

    def read(self, data: bytes) -> Kind_co:
        """Raises NotJsonError, or ValueError for JSON of another shape."""
        try:
            return self._model.model_validate_json(data)
        except ValidationError as error:
            if error.errors(include_url=False, include_input=False)[0]["type"] != "json_invalid":
                raise ValueError(say_what_is_wrong(error)) from None
        return self._read_by_json(data)

    def _read_by_json(self, data: bytes) -> Kind_co:
        """Reads what `json` takes and pydantic refuses: a lone surrogate, or values nested deeply."""
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            raise NotJsonError("not JSON") from None
        try:
            return self._model.model_validate(body)
        except ValidationError as error:
            raise ValueError(say_what_is_wrong(error)) from None


def say_what_is_wrong(error: ValidationError) -> str:
    """Which fields of a body are missing or wrong, and why; never what they hold.

    >>> try:
    ...     Result.model_validate({"type": 7})
    ... except ValidationError as error:
    ...     print(say_what_is_wrong(error))
    type: Input should be an instance of str
    """
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    said = [f"{'.'.join(map(str, each['loc'])) or 'the body'}: {each['msg']}" for each in errors[:_ERRORS_SAID_MAX]]
    more = [f"and {len(errors) - len(said)} more"] if len(errors) > len(said) else []
    return "; ".join(said + more)
