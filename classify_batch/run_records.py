"""What a run is, and who holds it: small records that `status` reads in a blink.

Apart from `model.py`, whose many nouns take `status` longer to load than to read a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NotRequired, TypedDict

# --- What a run is, as it stands in run.json ------------------------------------------------------------------------


class StoredWebhook(TypedDict, total=False):
    """A webhook, with its secrets left out."""

    webhook_url: str
    webhook_events: list[str] | None
    webhook_output_format: str | None
    webhook_headers: dict[str, str] | None
    webhook_signing_secret: str | None


class StoredParsing(TypedDict, total=False):
    lang: str | None
    max_pages: int | None
    target_pages: list[int] | None


class StoredApi(TypedDict, total=False):
    organization_id: str | None
    timeout_s: float


class StoredJob(TypedDict, total=False):
    webhook_configurations: list[StoredWebhook] | None


class StoredPlan(TypedDict, total=False):
    carry: list[str]


class StoredSettings(TypedDict, total=False):
    """The settings that a run was planned with, as far as they are asked for one by one; all of them are for
    `Settings.from_stored`."""

    api: StoredApi
    job: StoredJob
    plan: StoredPlan
    triage: object
    limits: dict[str, object]


class RunIdentity(TypedDict, total=False):
    """What decides a run's answers, and whose files they are about. Older versions wrote fewer keys."""

    api_version: str
    base_url: str
    project_id: str | None
    organization_id: str | None
    mode: str | None
    rules: list[dict[str, str]]
    parsing_configuration: StoredParsing | None
    escalation: dict[str, object] | None
    triage: dict[str, object] | None
    carry: list[str] | None
    ids_sha256: str


# --- Who is at work -------------------------------------------------------------------------------------------------


class StartKeys(TypedDict):
    """A process that worked on the run, as its journal says.

    `done`: files that had their outcome before. `host`, `pid` and `version` (of this package) are null where an older
    version wrote the journal; `stopped_at`, `exit_status` and `reason` while it is at work, and where it was killed.
    `account`: whose key it had, where that is not the run's own.
    """

    started_at: str
    host: str | None
    pid: int | None
    version: str | None
    done: int
    stopped_at: str | None
    exit_status: int | None
    reason: str | None
    account: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a run; `pid` is 0 in the instant between winning the lock and saying so.

    Attributes:
        since: RFC 3339.
    """

    host: str = ""
    pid: int = 0
    since: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}" if self.pid else "another process"
