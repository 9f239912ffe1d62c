"""What changed between two runs: exact, in memory that doesn't grow with them.

Both sides' outcomes are spread over buckets by their file IDs (`outcome_buckets.py`), no further than the journal says
that they are committed (`sides.py`). Equal IDs meet in the same bucket, and one bucket at a time is compared
(`changes.py`). `summary.py` tells the summary to a person.
"""
