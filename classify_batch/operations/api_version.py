"""The client of the API in the version that a run speaks."""

from __future__ import annotations

from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.v1.batch_api import ApiV1
from classify_batch.llamacloud.v2.batch_api import ApiV2
from classify_batch.rundir.run_json import RunFile
from classify_batch.settings import Settings
from classify_batch.settings.job_spec import ParsingConfiguration


def make_api_of_run(settings: Settings, client: ApiClient, run: RunFile) -> ApiV1 | ApiV2:
    """The API for a run that these settings go on with. Its jobs are created as the run was planned, to the letter: an
    empty parsing configuration makes the same run as none, and another transaction ID, by which v2 would make, and
    bill, another job."""
    if "parsing_configuration" in run.identity:
        planned = run.identity["parsing_configuration"]
        parsing = None if planned is None else ParsingConfiguration.model_validate(planned)
        job = settings.job.model_copy(update={"parsing_configuration": parsing})
        settings = settings.model_copy(update={"job": job})
    return make_api(settings, client, run.run_id)


def make_api(settings: Settings, client: ApiClient, run_id: str) -> ApiV1 | ApiV2:
    """The API in the version that the settings name."""
    specs = settings.specs
    # Second looks (`specs.second`) exist on v1 only: v2 has no modes.
    if settings.api.version == "v2":
        bounded = settings.limits.max_credits is not None  # credits that aren't billed are free for the next job
        return ApiV2(client, specs.first, run_id, ask_bill=settings.price.ask_bill or bounded)
    return ApiV1(client, specs.first, specs.second)
