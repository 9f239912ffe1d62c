"""The jobs that the sandbox has accepted: what each is at a moment, what the list shows, what is kept on disk."""
