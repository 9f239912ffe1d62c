"""Streams of bytes and file IDs that never need more memory than a block or a bucket."""
