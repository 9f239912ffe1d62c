"""What `scripts/demo` runs."""
