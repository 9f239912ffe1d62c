"""Finds out what became of create calls that may have been accepted, though no answer said so."""

from classify_batch.engine.reconciler.evidence import Evidence as Evidence
from classify_batch.engine.reconciler.listing import JobList as JobList
from classify_batch.engine.reconciler.own_jobs import watch_own_jobs as watch_own_jobs
from classify_batch.engine.reconciler.stage import Reconciler as Reconciler
