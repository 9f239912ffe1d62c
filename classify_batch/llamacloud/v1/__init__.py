"""The client of v1: `batch_api` for runs, `single_calls` for a person."""
