"""What programs may give as an argument: everything else is refused in words, before anything is done with it."""

from __future__ import annotations

from os import PathLike, fspath

from classify_batch.errors import UsageError


def path_text(given: object, what: str, error: type[UsageError] = UsageError) -> str:
    """The text of a path, or of a URL. The empty one is refused: `Path` would make the working directory of a variable
    that is not set.

    Args:
        what: the argument, as its error names it.
        error: the class of the error.

    Raises:
        UsageError: it is empty, has a null byte in it, or is no text.
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
    return text


def describe(value: object) -> str:
    """A value of the wrong type, as an error names it."""
    return "None" if value is None else f"of type {type(value).__name__}"
