"""The jobs that the sandbox has accepted: their state, what the list shows of them, and the ledger on disk."""
