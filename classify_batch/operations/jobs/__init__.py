"""Single jobs, by single calls: create, get, list, results, cancel."""
