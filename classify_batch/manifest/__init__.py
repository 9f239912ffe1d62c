"""The run directory's files, written and read through the store: what a run hands to others."""
