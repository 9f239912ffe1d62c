"""How long what is in flight will still take, for people who watch a run.

Near the end of a run its pace says nothing: the files that are left wait for a few jobs, and these take as long as jobs
take. So what is left can't be done sooner than by the jobs that are in flight, by those that are still to be made, and
by what a create waits for whose answer was lost. Where that is unknown there is no figure, which is better than one
that stands still for minutes.
"""

from __future__ import annotations

from classify_batch.engine.poller import Poller
from classify_batch.engine.reconciler import Reconciler
from classify_batch.engine.work_queue import WorkQueue
from classify_batch.limits import Gate, JobSlots


def jobs_left_s(
    poller: Poller | None, reconciler: Reconciler | None, work_queue: WorkQueue, slots: JobSlots, gate: Gate
) -> float | None:
    """Seconds until all of these jobs have ended, with even odds.

    None where nobody knows: the API is down, creates are paused, no job has ended yet, or one takes longer than all
    that ended (or than it can take to find out whether there is one). The last matters where no other jobs follow:
    before that the rest of the run takes longer.
    """
    if poller is None or reconciler is None or gate.broken:
        return None
    ambiguous = reconciler.ambiguous_attempts
    to_be_made = max(0, slots.taken - poller.jobs_in_flight - ambiguous) + (not work_queue.exhausted)
    if gate.paused and to_be_made:
        return None
    left_s = poller.jobs_left_s(to_be_made + ambiguous, none_follow=work_queue.exhausted)
    if left_s is not None and ambiguous:
        settled_s = reconciler.settled_within_s(left_s)
        left_s = left_s if settled_s is None and not work_queue.exhausted else settled_s
    return None if left_s is None else max(left_s, gate.waiting_s)
