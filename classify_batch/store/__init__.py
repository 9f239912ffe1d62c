"""The run directory behind `ports.RunStore`: on disk, and in memory for tests in virtual time."""
