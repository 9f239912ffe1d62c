"""The sections of a config, with their ranges and defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator

from classify_batch.capabilities import CAPABILITIES, Capabilities
from classify_batch.model import Answer
from classify_batch.settings.host_names import find_host_error
from classify_batch.settings.job_spec import JobSpec, Mode, Rule, StrictModel
from classify_batch.vocabulary import FILES_PER_JOB_MAX, SANDBOX

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HOME_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class _Section(StrictModel):
    model_config = ConfigDict(allow_inf_nan=False)


class ApiSettings(_Section):
    version: Literal["v1", "v2"] = "v1"
    base_url: str = "https://api.cloud.llamaindex.ai"
    """Or "sandbox": an embedded server that lives as long as the run."""
    project_id: str | None = Field(default=None, min_length=1)
    organization_id: str | None = Field(default=None, min_length=1)
    timeout_s: float = Field(default=60.0, gt=0, le=3600)

    @property
    def capabilities(self) -> Capabilities:
        """What this version of the API can do."""
        return CAPABILITIES[self.version]

    @field_validator("base_url")
    @classmethod
    def _https_or_home(cls, value: str) -> str:
        return check_base_url(value)


def check_base_url(value: str) -> str:
    """A base URL as it is used. Raises ValueError for what is none, or would send the key in the clear."""
    value = value.strip().rstrip("/")
    if value == SANDBOX:
        return value
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError('neither "sandbox" nor a URL like "https://api.cloud.llamaindex.ai"')
    if (host_error := find_host_error(parts.hostname)) is not None or port == 0:
        raise ValueError(f"not a URL: {host_error or 'there is no port 0'}")
    if not value.isprintable() or " " in value:
        raise ValueError("not a URL: it has spaces or control characters")
    if "@" in parts.netloc or "?" in value or "#" in value:  # an empty one, too: the paths would be put behind it
        raise ValueError("a base URL has no user, query or fragment")
    if parts.scheme == "http" and parts.hostname not in _HOME_HOSTS:
        raise ValueError("http:// would send the API key in the clear to another machine; use https://")
    return value


class JobSettings(JobSpec):
    """The body of every create call."""

    @field_validator("rules")
    @classmethod
    def _types_are_unique(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        types = [rule.type for rule in rules]
        doubles = sorted({kind for kind in types if types.count(kind) > 1})
        if doubles:
            raise ValueError(f"rule types must be unique; given more than once: {', '.join(doubles)}")
        return rules

    @field_validator("webhook_configurations", mode="before")
    @classmethod
    def _headers_are_words(cls, webhooks: Any) -> Any:
        """The API takes any map for headers: numbers and truth values are sent as the text that JSON has for them."""
        return [headers_as_text(webhook) for webhook in webhooks] if isinstance(webhooks, list | tuple) else webhooks

    @field_validator("webhook_configurations")
    @classmethod
    def _webhooks_can_be_called(cls, webhooks: Any) -> Any:
        for webhook in webhooks:
            require_https_url(webhook.webhook_url)
            for name, value in (webhook.webhook_headers or {}).items():
                if not name or _CONTROL.search(name) or _CONTROL.search(value.get_secret_value()):
                    raise ValueError("webhook_headers: a header is one line, and has a name")
            if webhook.webhook_signing_secret is not None and not webhook.webhook_signing_secret.get_secret_value():
                raise ValueError("webhook_signing_secret: an empty secret signs nothing")
        return webhooks


def headers_as_text(webhook: Any) -> Any:
    headers = webhook.get("webhook_headers") if isinstance(webhook, Mapping) else None
    if not isinstance(headers, Mapping):
        return webhook
    words = {
        name: json.dumps(value) if isinstance(value, bool | int | float) else value for name, value in headers.items()
    }
    return {**webhook, "webhook_headers": words}


def require_https_url(url: str) -> None:
    if not url.startswith("https://"):
        raise ValueError("webhook_url must begin with https://")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError("webhook_url is not a URL") from error
    if not parts.hostname or _CONTROL.search(url) or " " in url:
        raise ValueError("webhook_url names no host, or has spaces or control characters")


class PlanSettings(_Section):
    files_per_job: int = Field(default=100, ge=1, le=FILES_PER_JOB_MAX)
    carry: tuple[str, ...] = ()
    """Columns of the input that are written beside each outcome."""

    @field_validator("carry")
    @classmethod
    def _columns_are_unique(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        if "" in columns or len(set(columns)) < len(columns):
            raise ValueError("columns have names, and each is named once")
        return columns


class LimitSettings(_Section):
    """How much at once, how fast, how long. May change between resumes."""

    jobs_in_flight: int = Field(default=20, ge=0, le=100_000)
    """0: as many as there are."""
    requests_in_flight: int = Field(default=16, ge=1, le=10_000)
    requests_per_s: float = Field(default=20.0, gt=0, le=100_000)
    creates_per_s: float | None = Field(default=None, gt=0, le=100_000)
    attempts: int = Field(default=3, ge=1, le=100)
    job_timeout_s: float = Field(default=7200.0, gt=0, le=30 * 86_400)
    settle_s: float = Field(default=20.0, ge=0, le=3600)
    accept_s: float = Field(default=60.0, ge=0, le=3600)
    """For so long a create that was sent may still be accepted; never below `api.timeout_s`."""
    clock_spread_s: float = Field(default=60.0, ge=0, le=86_400)
    """How far the server's own clocks may disagree, or run back."""
    lease_s: float = Field(default=30.0, ge=1, le=3600)
    """A shard's owner that stands still for longer loses it."""
    patience_s: float = Field(default=600.0, ge=0, le=86_400)
    drain_s: float = Field(default=300.0, ge=0, le=86_400)
    tolerated_failure_percentage: float = Field(default=0.0, ge=0, le=100)
    stop_at_failure_percentage: float = Field(default=100.0, ge=0, le=100)
    max_credits: float | None = Field(default=None, ge=0)


class CreditsPerPage(_Section):
    FAST: float = Field(default=1.0, ge=0)
    MULTIMODAL: float = Field(default=2.0, ge=0)


class PriceSettings(_Section):
    """What the vendor asks, as it publishes it."""

    credits_per_page: CreditsPerPage = CreditsPerPage()
    dollars_per_credit: float = Field(default=1.25 / 1000, ge=0)
    ask_bill: bool = False
    """On v2, a request more for each job whose bill the job list doesn't tell."""


class EscalationSettings(_Section):
    """Which first answers are weak, and how their files are looked at again. v1 only."""

    below_confidence: float | None = Field(default=None, gt=0, le=1)
    unmatched: bool = False
    mode: Mode = "MULTIMODAL"

    def is_weak(self, answer: Answer) -> bool:
        """An answer without a confidence is not weak: nothing speaks against it."""
        if answer.type is None:
            return self.unmatched
        if self.below_confidence is None or answer.confidence is None:
            return False
        return answer.confidence < self.below_confidence


class TriageSettings(_Section):
    """From which confidence on a classified file needs no second pair of eyes."""

    accept_above: float = Field(ge=0, le=1)
    by_type: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)

    def accepts_answer(self, kind: str, confidence: float | None) -> bool:
        """An answer without a confidence is for a person to see, and so is one whose confidence lies outside 0 to 1."""
        return confidence is not None and self.by_type.get(kind, self.accept_above) <= confidence <= 1.0


def _refuse_empty(path: object) -> object:
    """An unset variable must not mean the working directory."""
    if path == "":
        raise ValueError("it is empty (is a variable not set?)")
    return path


class SandboxSettings(_Section):
    documents: Annotated[Path, BeforeValidator(_refuse_empty), AfterValidator(Path.absolute)] | None = None
