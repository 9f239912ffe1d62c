"""Outcomes of earlier runs, taken over when a run is planned: exact, in memory that doesn't grow with the input.

Two passes over the results of the earlier runs. The first spreads their file IDs over buckets by hash, as the input's
are spread, so that one bucket at a time tells which files are known and which line tells of each; what stays in memory
is at the worst a bit for each line and each ID. The second copies those lines.
"""
