"""What the client asks of v2: what a run needs, and single calls for a person."""
