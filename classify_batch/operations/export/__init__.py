"""Hands the outcomes of a run on: all of them or some, as JSONL or as a table. Reads the run directory only."""
