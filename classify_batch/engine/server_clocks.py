"""Finds out whether the clocks by which the server stamps jobs disagree."""

from __future__ import annotations

from classify_batch.engine.context import EngineContext
from classify_batch.model import JobView
from classify_batch.protocol.sanitize import printable_line


def compare_server_clocks(context: EngineContext, server_s: float | None, view: JobView) -> None:
    """A job can't be older than what was known of the server's time when it was made. If it is, by more than
    `limits.clock_spread_s`, the server's clocks disagree, and no time excludes a job from now on.

    Args:
        server_s: the server's own time, as it was known then; None: unknown.
        view: a job of ours, as any call shows it: creates and the job list may have clocks of their own.
    """
    created_at_s = view.created_at_s
    spread_s, journal = context.settings.limits.clock_spread_s, context.journal
    if created_at_s is None or server_s is None or created_at_s >= server_s - spread_s:
        return
    if not journal.clocks_disagree:
        context.notify_warning(
            f"the server's clocks disagree by more than limits.clock_spread_s ({spread_s:g} s): "
            f"job {printable_line(view.job_id)} seems older than a job that was there before it"
        )
    journal.record_clocks_disagree()
