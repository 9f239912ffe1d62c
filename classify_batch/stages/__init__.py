"""What happens to a chunk, one stage a file; stages are siblings that don't import each other."""
