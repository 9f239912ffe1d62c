"""What each version of the API can do, one row a version. Only the places that choose a version's class compare
versions by their names.

A further version is a row here, its bodies in `protocol`, and its calls in `llamacloud`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from classify_batch.vocabulary import FILES_PER_JOB_MAX, PAGES_MAX_DEFAULT


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a version of the API can do.

    Attributes:
        files_per_job_max: file IDs in one create call.
        modes: the modes that jobs can have, the cheapest first.
        idempotent_creates: whether a create that is made again under its transaction ID gives the same job.
        answers_in_job: whether a finished job carries its answer, so that no call asks for results.
        reports_bill: whether it reports what a job was billed.
        can_cancel: whether a job can be stopped.
        takes_parse_jobs: whether a parse job can be classified in the place of a file.
        stored_webhooks: whether a job can name webhooks that the API keeps, by their IDs.
        description_max: characters of a rule's description, by the most generous of the vendor's references.
        can_filter_jobs: whether the job list can be asked for some jobs only.
        creates_per_s: the documented limit of creates; None: none is documented.
        unset_pages_max: how many pages of a file are read where nothing is set; None: all of them, so that a run always
            sets `max_pages`.
    """

    files_per_job_max: int
    modes: tuple[str, ...]
    idempotent_creates: bool
    answers_in_job: bool
    reports_bill: bool
    can_cancel: bool
    can_filter_jobs: bool
    takes_parse_jobs: bool
    stored_webhooks: bool
    description_max: int
    creates_per_s: float | None
    unset_pages_max: int | None


CAPABILITIES: Mapping[str, Capabilities] = {
    "v1": Capabilities(
        files_per_job_max=FILES_PER_JOB_MAX,
        modes=("FAST", "MULTIMODAL"),
        idempotent_creates=False,
        answers_in_job=False,
        reports_bill=False,
        can_cancel=False,
        can_filter_jobs=False,
        takes_parse_jobs=False,
        stored_webhooks=False,
        description_max=2000,
        creates_per_s=None,
        unset_pages_max=PAGES_MAX_DEFAULT,
    ),
    "v2": Capabilities(
        files_per_job_max=1,
        modes=("FAST",),
        idempotent_creates=True,
        answers_in_job=True,
        reports_bill=True,
        can_cancel=True,
        can_filter_jobs=True,
        takes_parse_jobs=True,
        stored_webhooks=True,
        description_max=500,
        creates_per_s=40.0,
        unset_pages_max=None,
    ),
}
