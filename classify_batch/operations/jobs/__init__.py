"""Single jobs, by single calls of the API: create, get, list, get results, cancel."""
