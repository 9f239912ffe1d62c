"""What programs may give as an argument: everything else is refused in words, before anything is done with it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from os import PathLike, fsencode, fspath

from classify_batch.errors import UsageError

SHOWN_MAX = 80
"""So many characters of a value an error shows."""


def path_text(given: object, what: str, error: type[UsageError] = UsageError) -> str:
    """The text of a path, or of a URL. The empty one is refused: `Path` would make the working directory of a variable
    that is not set.

    Args:
        what: the argument, as its error names it.
        error: the class of the error.

    Raises:
        UsageError: it is empty, has a null byte or half a character in it or one that the system's paths can't have,
            or is no text.
    """
    text: object = fspath(given) if isinstance(given, PathLike) else given
    if not isinstance(text, str):
        raise error(
            f"{what} is {describe(given)}, and must be a path", hint="give a string, or a path of the module pathlib"
        )
    if not text:
        raise error(f"{what}: it is empty (is a variable not set?)", hint='"." is the working directory')
    if "\0" in text:
        raise error(f"{what}: {text!r} has a null byte in it", hint="no path has one")
    try:
        fsencode(text)
    except UnicodeEncodeError as refusal:
        if not "\ud800" <= text[refusal.start] <= "\udfff":
            raise error(
                f"{what}: {text!a} has characters that paths can't have here, where they are {refusal.encoding}",
                hint="set LC_ALL=C.UTF-8, or PYTHONUTF8=1",
            ) from None
        raise error(
            f"{what}: {text!r} has half a character in it (a lone surrogate)",
            hint="no path has one: was it cut, or decoded in another way than by os.fsdecode?",
        ) from None
    return text


def describe(value: object) -> str:
    """A value of the wrong type, as an error names it."""
    return "None" if value is None else f"of type {type(value).__name__}"


def refuse_no_number(name: str, value: object, hint: str) -> None:
    """Raises UsageError for what is no number: words, spans and times of day, NaN; and for a number that is too large
    to be reckoned with. `hint`: what is meant."""
    if isinstance(value, bool) or not isinstance(value, Real) or _is_out_of_range(value):
        raise UsageError(f"{_shown(name, value)} is no number", hint=hint)


def _is_out_of_range(value: Real) -> bool:
    try:
        return math.isnan(value)
    except OverflowError:
        return True


def refuse_no_flag(name: str, value: object) -> None:
    """Raises UsageError for text in the place of True or False: "false", out of an environment, would mean True."""
    if isinstance(value, str | bytes):
        raise UsageError(f"{_shown(name, value)} is text", hint="give True or False")


def whole_number(name: str, value: object, hint: str) -> int:
    """A number of things. Raises UsageError for what is none. `hint`: what is meant."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{_shown(name, value)} is no whole number", hint=hint)
    return int(value)


def refuse_no_text(name: str, value: object) -> None:
    """Raises UsageError for what is neither a string nor None."""
    if not isinstance(value, str | None):
        raise UsageError(f"{_shown(name, value)} is no string", hint="write it in quotes")


def refuse_no_function(name: str, value: object, hint: str) -> None:
    """Raises UsageError for what can't be called. `hint`: what is meant."""
    if not callable(value):
        raise UsageError(f"{_shown(name, value)} can't be called", hint=hint)


def refuse_without_method(name: str, value: object, method: str, hint: str) -> None:
    """Raises UsageError for an object that has no such method, and for a class, which is no object of it. `hint`: what
    is meant."""
    if isinstance(value, type) or not callable(getattr(value, method, None)):
        raise UsageError(f"{_shown(name, value)} has no method {method}", hint=hint)


def refuse_no_iterable(name: str, value: object, hint: str) -> None:
    """Raises UsageError for what is one thing, as a string is, or none. `hint`: what is meant."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable) or not _can_be_iterated(value):
        raise UsageError(f"{_shown(name, value)} is no list", hint=hint)


def _can_be_iterated(value: Iterable[object]) -> bool:
    try:
        iter(value)
    except TypeError:  # NumPy's array of no dimension has the method, and can't
        return False
    return True


def _shown(name: str, value: object) -> str:
    text = repr(value)
    return f"{name}={text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + '…'}"
