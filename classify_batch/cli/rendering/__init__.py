"""What people read: tables, progress, summaries and warnings, and the streams that carry them."""
