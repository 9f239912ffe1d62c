"""The append-only truth of a run: its lines, how they are read back, and the one who writes them."""
