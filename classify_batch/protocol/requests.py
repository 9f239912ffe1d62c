"""What requests say: models that hold the documented limits.

The client builds its bodies from them, and the sandbox refuses by them. So that the two can't share a mistake, bodies
that the vendor's own SDKs sent are held against them (`tests/sdk_bodies`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from classify_batch.settings.job_spec import WebhookConfiguration

QueryValue = str | int | Sequence[str]
QueryParams = Mapping[str, QueryValue]
NO_PARAMS: QueryParams = {}

UPLOAD_PURPOSES = ("user_data", "parse", "extract", "split", "classify", "sheet", "agent_app")


class RequestModel(BaseModel):
    """The JSON body of a request. Fields that nobody knows are ignored, as a server does."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    def to_json(self) -> bytes:
        """The body as it is sent. Unset fields are left out, so that the server's own defaults apply."""
        return self.model_dump_json(exclude_none=True).encode()


class WebhookBody(RequestModel):
    """The URL that the API calls when a job ends, the same on both versions."""

    webhook_url: str | None = None
    webhook_events: list[str] | None = None
    # Secrets, and in clear: so they stand in no repr.
    webhook_headers: dict[str, object] | None = Field(default=None, repr=False)
    webhook_signing_secret: str | None = Field(default=None, repr=False)
    webhook_output_format: str | None = None


def webhook_bodies(webhooks: Sequence[WebhookConfiguration]) -> list[WebhookBody] | None:
    """The webhooks of a create call, with their secrets in clear; None where there are none."""
    if not webhooks:
        return None
    return [
        WebhookBody(
            webhook_url=webhook.webhook_url,
            webhook_events=None if webhook.webhook_events is None else list(webhook.webhook_events),
            webhook_headers=None
            if webhook.webhook_headers is None
            else {name: value.get_secret_value() for name, value in webhook.webhook_headers.items()},
            webhook_signing_secret=None
            if webhook.webhook_signing_secret is None
            else webhook.webhook_signing_secret.get_secret_value(),
            webhook_output_format=webhook.webhook_output_format,
        )
        for webhook in webhooks
    ]


class UploadFields(NamedTuple):
    """The fields of an upload beside its file, by the API's names."""

    purpose: str
    external_file_id: str
