"""Runs that are divided into shards: planned once, carried out by one process or by many, read as one run."""
