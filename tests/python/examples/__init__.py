"""The examples of the manual's page about Python: each file is one, word by word. A test runs them."""
