"""Whether two file IDs mean one file: they are compared by their keys. So are the IDs of jobs.

A file ID is an opaque string, and is sent and written as it was given. But where it is a UUID, servers and databases
spell it in their own ways: PostgreSQL in lower case, SQL Server and Oracle in upper case, some without hyphens, some in
braces. The key of a file ID is the canonical spelling for all of these, and the ID itself for every ID that is not
exactly a UUID: there, case may matter.

Tens of millions of IDs are compared, nearly all of them canonical UUIDs or no UUIDs at all. So `file_keys` judges a
batch by a few calls that run in C, and gives a batch whose IDs are their own keys back as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from operator import ne

from classify_batch.vocabulary import PARSE_JOB_PREFIX

_DIGIT = "[0-9a-fA-F]"
_UUID = rf"{_DIGIT}{{8}}(?:-{_DIGIT}{{4}}-{_DIGIT}{{4}}-{_DIGIT}{{4}}-{_DIGIT}{{12}}|{_DIGIT}{{24}})"
_SPELLING = re.compile(rf"(?:(\{{)|[uU][rR][nN]:[uU][uU][iI][dD]:)?({_UUID})(?(1)\}})")
"""Not uuid.UUID, which takes hyphens and braces anywhere, underscores, and the digits of all scripts."""

_CANONICAL_CHARACTERS = 36
_OTHER_LENGTHS = frozenset({32, 34, 38, 41, 45})
"""How long the other spellings are: without hyphens, in braces, with `urn:uuid:` in front. Where an ID is as long as a
canonical one, only upper-case digits can make it another spelling."""

_UPPER_CASE_DIGITS = "ABCDEF"

_DIGITS_TO_ZERO = bytes.maketrans(b"123456789abcdefABCDEF", b"0" * 21)
_SHAPE = b"00000000-0000-0000-0000-000000000000\n"


def file_key(file_id: str) -> str:
    """The canonical spelling of a UUID: lower case, with hyphens. Any other file ID is its own key."""
    spelling = _SPELLING.fullmatch(file_id)
    if spelling is None:
        return file_id
    key = canonical_uuid(spelling[2])
    return file_id if key == file_id else key  # the very same text: many are kept beside their IDs


def same_id(one: str, other: str) -> bool:
    """Whether two IDs of files, or of jobs, mean the same.

    >>> same_id("0A6B7C1E-3D2F-4A5B-8C9D-0E1F2A3B4C5D", "0a6b7c1e-3d2f-4a5b-8c9d-0e1f2a3b4c5d"), same_id("A", "a")
    (True, False)
    """
    return one == other or file_key(one) == file_key(other)


def as_asked(shown: Sequence[str], asked: Collection[str]) -> list[str | None]:
    """Each ID that a server shows, as it was asked for; None where it wasn't."""
    if all(each in asked for each in shown):
        return list(shown)
    wanted = list(asked)
    wanted_keys, shown_keys = file_keys(wanted), file_keys(shown)
    if wanted_keys is wanted and shown_keys is shown:  # nearly always: every ID is its own key
        return [each if each in asked else None for each in shown]
    by_key = dict(zip(wanted_keys, wanted, strict=True))
    return [each if each in asked else by_key.get(key) for each, key in zip(shown, shown_keys, strict=True)]


def is_parse_job(file_id: str) -> bool:
    """Whether an ID is that of a parse job, which v2 takes in the place of a file's."""
    return file_id.startswith(PARSE_JOB_PREFIX)


def is_uuid(file_id: str) -> bool:
    """Whether a file ID is a UUID, in any spelling."""
    return _SPELLING.fullmatch(file_id) is not None


def file_keys(file_ids: Sequence[str]) -> Sequence[str]:
    """The key of each file ID; the very sequence where each ID is its own key. No ID has a newline inside."""
    text = "\n".join(file_ids)
    if _has_canonical_lengths(text, len(file_ids)):
        if not _has_upper_case_digits(text):
            return file_ids
        if text.encode().translate(_DIGITS_TO_ZERO) + b"\n" == _SHAPE * len(file_ids):
            return text.lower().split("\n")
    else:
        lengths = set(map(len, file_ids))
        perhaps_upper = _CANONICAL_CHARACTERS in lengths and _has_upper_case_digits(text)
        if not perhaps_upper and lengths.isdisjoint(_OTHER_LENGTHS):
            return file_ids
    return _keys_one_by_one(file_ids)


def _has_canonical_lengths(text: str, lines: int) -> bool:
    """Whether each line of a text is as long as a canonical UUID: then its newlines stand at equal distances."""
    distance = _CANONICAL_CHARACTERS + 1
    return len(text) + 1 == lines * distance and text[_CANONICAL_CHARACTERS::distance] == "\n" * (lines - 1)


def _has_upper_case_digits(text: str) -> bool:
    return any(map(text.__contains__, _UPPER_CASE_DIGITS))


def _keys_one_by_one(file_ids: Sequence[str]) -> Sequence[str]:
    spellings = list(map(_SPELLING.fullmatch, file_ids))
    if not any(spellings):
        return file_ids
    keys = [
        file_id if spelling is None else canonical_uuid(spelling[2])
        for file_id, spelling in zip(file_ids, spellings, strict=True)
    ]
    return keys if any(map(ne, keys, file_ids)) else file_ids


def canonical_uuid(uuid: str) -> str:
    """A UUID in any case, with hyphens or without → its canonical spelling."""
    uuid = uuid.lower()
    if len(uuid) == _CANONICAL_CHARACTERS:
        return uuid
    return f"{uuid[:8]}-{uuid[8:12]}-{uuid[12:16]}-{uuid[16:20]}-{uuid[20:]}"
