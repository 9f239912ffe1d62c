"""From settings and file IDs to a result: the doors for Python programs; the commands go through them too."""
