"""What the client asks of v1: what a run needs, and single calls for a person."""
