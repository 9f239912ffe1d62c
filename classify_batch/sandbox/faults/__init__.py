"""What goes wrong in a sandbox: with requests, and with jobs. Pure."""
