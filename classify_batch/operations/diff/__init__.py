"""Finds what changed between two runs, exactly, in memory that doesn't grow with them.

The committed outcomes of both sides (`sides.py`) are spread over buckets by their file IDs (`outcome_buckets.py`).
Equal IDs meet in the same bucket, and one bucket at a time is compared (`changes.py`). `summary.py` formats the result.
"""
