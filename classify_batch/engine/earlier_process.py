"""What the processes before this one left behind: which project they spoke to, and what they may have sent."""

from __future__ import annotations

from functools import partial

from classify_batch.engine.project_proof import KnownProject
from classify_batch.engine.uploader import carried_paths
from classify_batch.inputs.folder import PATH_COLUMN
from classify_batch.model import Part
from classify_batch.ports import Documents
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.plan import PlanReader
from classify_batch.rundir.run_json import RunFile
from classify_batch.settings import Settings
from classify_batch.vocabulary import SANDBOX


async def known_project(snapshot: RunSnapshot, plan: PlanReader, documents: Documents | None = None) -> KnownProject:
    """What the journal says of the run's project, and a file by which it can be found out: one whose create is
    ambiguous, where there is any. `documents`: those of the folder that is the input; None: it is none."""
    ambiguous = {
        key: attempt
        for key, attempt in snapshot.open_attempts.items()
        if attempt.job_id is None and snapshot.is_own(attempt)
    }
    intended = next((attempt.project_id for attempt in ambiguous.values() if attempt.project_id is not None), None)
    # A document's planned ID is its content: the file list knows it by the ID that was sent.
    asked = sorted(ambiguous.values(), key=lambda attempt: not attempt.sent_ids)[:1]
    sent, part = (asked[0].sent_ids, asked[0].part) if asked else ((), Part(plan.first_chunk))
    planned = part.pick_file_ids(await plan.file_ids(part.chunk))
    bring = None
    if documents is not None and sent:  # of an attempt that waits for the proof: nobody else brings its documents now
        carried = (await plan.carried(part.chunk)).get(planned[0], {})
        bring = partial(documents.bring, planned[0], carried_paths(carried, PATH_COLUMN))
    file_id = sent[0] if sent else planned[0]
    return KnownProject(snapshot.project_id or intended, snapshot.job_id, file_id, bool(ambiguous), bring)


def earlier_accept_s(settings: Settings, snapshot: RunSnapshot, run: RunFile) -> float:
    """For how long a call that an earlier process sent may still be accepted: for as long as that process would have
    given it, or this one, whichever is longer. One to the embedded sandbox died with its process."""
    if settings.api.base_url == SANDBOX:
        return 0.0
    theirs = snapshot.accept_s
    if theirs is None:  # no process of this version has worked on the run
        theirs = run.settings.get("api", {}).get("timeout_s", 0.0)
    return max(settings.accept_s, theirs)
