"""What files a project has and how they are classified: the port between the server and what it serves.

It has two implementations: `Documents` (a folder of real texts) and `OpenProject` (any file ID, answered at random).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol
from uuid import NAMESPACE_URL, uuid5

from classify_batch.protocol.v1 import ResultBody
from classify_batch.settings.job_spec import ParsingConfiguration, Rule
from classify_batch.vocabulary import PARSE_JOB_PREFIX

PROJECT_ID = "5a4db0c5-0000-4000-8000-000000000001"
"""The project of requests without `project_id`."""

UNMATCHED_SHARE = 0.05
"""How many of `OpenProject`'s files match no rule."""

Version = Literal["v1", "v2"]
"""Of the classifier's API."""


class JobConfig(NamedTuple):
    """How a job classifies: all that decides a file's answer beside the file itself."""

    rules: tuple[Rule, ...]
    parsing_configuration: ParsingConfiguration | None = None
    version: Version = "v1"
    """It decides what an unset `max_pages` means."""


class FileEntry(NamedTuple):
    """A line of the project's file list."""

    file_id: str
    name: str
    size_bytes: int


Classifier = Callable[[str], ResultBody]
"""Gives the answer of a file ID, by the config that it was made for."""


class Project(Protocol):
    """The files of a project."""

    @property
    def files(self) -> Sequence[FileEntry]:
        """What the file list shows, in its order."""

    def first_unknown_file(self, file_ids: Sequence[str]) -> str | None:
        """The first ID that is not in the project."""

    def cached_classifier(self, config: JobConfig) -> Classifier | None:
        """The classifier for a config, if it is ready; None: `make_classifier` has to make it."""

    def make_classifier(self, config: JobConfig) -> Classifier:
        """The classifier for a config. May take seconds: not to be called on an event loop."""

    def close(self) -> None: ...


def parsed_file(file_id: str) -> str:
    """The file that an ID is about. The parse jobs of a sandbox have parsed one file each, and have its ID with `pjb-`
    in front."""
    return file_id.removeprefix(PARSE_JOB_PREFIX)


def hash_to_fraction(*parts: object) -> float:
    """A number from 0 to below 1 that depends on nothing but `parts`.

    >>> hash_to_fraction("a", 1) == hash_to_fraction("a", 1) != hash_to_fraction("a", 2)
    True
    """
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


@dataclass(frozen=True)
class OpenProject:
    """Knows every file ID. A file's answer depends on its ID and the rules only, so it is always the same.

    Attributes:
        files_listed: how many made-up files its list shows.
    """

    files_listed: int = 0

    @cached_property
    def files(self) -> Sequence[FileEntry]:
        names = [f"file-{number:08}.txt" for number in range(self.files_listed)]
        return [FileEntry(str(uuid5(NAMESPACE_URL, name)), name, 0) for name in names]

    def first_unknown_file(self, file_ids: Sequence[str]) -> str | None:  # noqa: ARG002 - it knows them all
        return None

    def cached_classifier(self, config: JobConfig) -> Classifier:
        return self.make_classifier(config)

    def make_classifier(self, config: JobConfig) -> Classifier:
        types = [rule.type for rule in config.rules]

        def classify_file(file_id: str) -> ResultBody:
            fraction = hash_to_fraction(file_id)
            kind = None if fraction < UNMATCHED_SHARE else types[int(hash_to_fraction(file_id, "type") * len(types))]
            return {
                "type": kind,
                "confidence": round(0.5 + fraction / 2, 3),
                "reasoning": "Drawn by lot from the file ID: this sandbox has no documents.",
            }

        return classify_file

    def close(self) -> None:
        """Holds nothing."""
