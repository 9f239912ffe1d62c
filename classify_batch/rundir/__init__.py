"""The files of a run directory: what stands in them, how they are written, read and proven."""
