"""Finds out what became of create calls that were perhaps accepted, on an API without idempotency keys."""

from classify_batch.stages.reconciler.stage import Reconciler as Reconciler
