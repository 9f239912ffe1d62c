"""HTTP bodies as the server speaks them, shared by the client and the sandbox."""
