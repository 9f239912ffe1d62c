"""Takes a planned run to its end: the stages, what they share, and the orchestrator that starts and ends them.

A chunk goes from the work queue to the submitter, which makes a job of it; the poller sees the job end; the collector
reads its results; the outcome recorder ends the attempt. An attempt whose create was not answered takes the way through
the reconciler. Stages don't import each other, and know API and disk by their ports only.
"""
