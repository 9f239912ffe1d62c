"""One node of a Ray cluster on the loopback address: `python -m scale_suite.ray_node [ADDRESS]`; a head without one.

Prints the cluster's address when it is up, and serves until it is killed. (`ray start` refuses several nodes where it
is told to stay on the loopback address, so this makes them as Ray's own tests do.)
"""

from __future__ import annotations

import sys
import time

from ray._private.node import Node
from ray._private.parameter import RayParams

MEMORY = 80 * 1024 * 1024


def main() -> None:
    common = {
        "node_ip_address": "127.0.0.1",
        "object_store_memory": MEMORY,
        "min_worker_port": 0,
        "max_worker_port": 0,
        "num_gpus": 0,
    }
    if len(sys.argv) == 1:
        node = Node(RayParams(**common, num_cpus=0, include_dashboard=False), head=True, spawn_reaper=False)
    else:
        joining = {"gcs_address": sys.argv[1], "node_manager_port": 0, "include_log_monitor": False}
        node = Node(RayParams(**common, **joining, num_cpus=1), head=False, spawn_reaper=False)
    print(node.gcs_address, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
