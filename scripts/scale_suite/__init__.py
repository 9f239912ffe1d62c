"""Shards on a real cluster, killed, stopped and counted."""
