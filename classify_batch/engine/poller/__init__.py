"""Watches all jobs that are out: one scheduler for all of them, not a loop for each."""

from classify_batch.engine.poller.stage import Poller as Poller
