"""Reuses outcomes of earlier runs when a run is planned: exactly, in memory that doesn't grow with the input.

Two passes over the results of the earlier runs. The first spreads their file IDs over buckets by hash, like those of
the input; one bucket at a time then shows which files are known, and which line holds the outcome of each. What stays
in memory is at worst a bit for each line and each ID. The second pass copies those lines.
"""
