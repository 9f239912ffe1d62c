"""What the command line shows, without processes."""
