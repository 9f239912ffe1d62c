"""What people read: tables, progress, the last words, and the streams that carry them."""
