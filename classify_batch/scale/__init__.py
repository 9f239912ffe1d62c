"""Many runs as one: the shards of a run on the machines of a cluster."""
