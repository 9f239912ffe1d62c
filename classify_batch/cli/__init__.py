"""The command line: one file a command, no thinking here. Nothing heavy is imported before a command runs."""
