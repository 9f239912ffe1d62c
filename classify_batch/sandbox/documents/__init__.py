"""What files the sandbox's project holds, and how they are answered: real texts by a ranking, or any ID by lot."""
