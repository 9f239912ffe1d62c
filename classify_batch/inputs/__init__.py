"""Where file IDs come from: everything that can be named as the input, and the exact de-duplication behind it.

A *source* is an `AsyncIterator[list[str]]`: batches of rows in the order of the input, repeats still inside. A row is a
valid file ID, and what is carried along with it (rows.py). It raises SourceError, naming the place, at the first value
that is not a file ID, and at its end when it held none.

    bytes → decompress → encoding → detect → formats/ → rows → dedupe → the plan
"""
