"""What the processes before this one left behind: which project they spoke to, and what they may have sent."""

from __future__ import annotations

from classify_batch.engine.project_proof import KnownProject
from classify_batch.model import Part
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.plan import PlanReader
from classify_batch.rundir.run_json import RunFile
from classify_batch.settings import SANDBOX, Settings


async def known_project(snapshot: RunSnapshot, plan: PlanReader) -> KnownProject:
    """What the journal says of the run's project, and a file by which it can be told: one whose create is ambiguous,
    where there is any."""
    ambiguous = {key: left for key, left in snapshot.open.items() if left.job_id is None}
    intended = next((left.project_id for left in ambiguous.values() if left.project_id is not None), None)
    # A document's planned ID is its content: the file list knows it by the ID that was sent.
    sent = next((left.sent_ids for left in ambiguous.values() if left.sent_ids), ())
    part = next((left.part for left in ambiguous.values()), Part(plan.first_chunk))
    file_ids = sent or part.pick(await plan.file_ids(part.chunk))
    return KnownProject(snapshot.project_id or intended, snapshot.job_id, file_ids[0], bool(ambiguous))


def earlier_accept_s(settings: Settings, snapshot: RunSnapshot, run: RunFile) -> float:
    """For how long a call that an earlier process sent may still be accepted: for as long as that process would have
    given it, or this one, whichever is longer. One to the embedded sandbox died with its process."""
    if settings.api.base_url == SANDBOX:
        return 0.0
    theirs = snapshot.accept_s
    if theirs is None:  # no process of this version has worked on the run
        theirs = run.settings.get("api", {}).get("timeout_s", 0.0)
    return max(settings.accept_s, theirs)
