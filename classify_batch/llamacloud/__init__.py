"""The classifier's API over HTTP: one client, one file a version."""
