"""The operations on a run: one public function for each command. Python programs call the same functions."""
