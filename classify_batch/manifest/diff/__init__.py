"""What changed between two runs: exact, in memory that doesn't grow with them.

Both sides' outcomes are spread over buckets by their file IDs (`spread.py`), read no further than the journal says that
they are committed (`committed.py`); equal IDs meet in the same bucket, and one bucket at a time is compared
(`changes.py`). `words.py` tells the summary to a person.
"""
