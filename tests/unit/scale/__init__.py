"""The shards of a run on a cluster, without one."""
