"""The client of the API in the version that a run speaks."""

from __future__ import annotations

from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.v1.batch_api import ApiV1
from classify_batch.llamacloud.v2.batch_api import ApiV2
from classify_batch.settings import Settings


def make_api(settings: Settings, client: ApiClient, run_id: str) -> ApiV1 | ApiV2:
    """The API in the version that the settings name."""
    specs = settings.specs
    # Second looks (`specs.second`) exist on v1 only: v2 has no modes.
    if settings.api.version == "v2":
        bounded = settings.limits.max_credits is not None  # credits that aren't billed are free for the next job
        return ApiV2(client, specs.first, run_id, ask_bill=settings.price.ask_bill or bounded)
    return ApiV1(client, specs.first, specs.second)
