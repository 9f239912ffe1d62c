"""Exports the outcomes of a run, all or some, as JSONL or CSV. Reads the run directory only."""
