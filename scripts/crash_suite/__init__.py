"""What `scripts/crash` runs."""
