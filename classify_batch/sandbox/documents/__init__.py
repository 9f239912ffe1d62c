"""What files the sandbox's project holds, and how they are classified: real texts by a ranking, or any ID at random."""
