"""The formats of an input, a file each: UTF-8 text whose lines end at a newline → batches of rows.

A line, or item, that holds no file ID is a fault of its own, and whoever reads may go on behind it; what leaves nothing
readable behind it (no such column, not UTF-8) is a SourceError.
"""
