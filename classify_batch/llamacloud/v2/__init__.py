"""The client of v2: `batch_api` for runs, `single_calls` for a person."""
