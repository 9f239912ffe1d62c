"""What can be done with a run, one public function a command; Python programs call the same."""
