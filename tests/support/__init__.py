"""What tests share: servers to run against, runs to judge, and stand-ins for the ports.

| module | what it gives a test |
|---|---|
| `command_line` | the command, in this process, in one of its own, or on a terminal; a sandbox and a mirror to call |
| `jobs_command` | `classify-batch jobs` on either version |
| `complete_run` | the directory of a complete run of any size |
| `real_run` | the real command against a real server, and the judgement of what came of it |
| `simulated_run` | a whole run in virtual time: engine, store in memory, and sandbox in one process |
| `independent_server` | v1 as a second author would write it: a process that shares no code with the program |
| `served_api` | either version of the API through the engine's port, against a sandbox on a socket |
| `sandbox_client_v2` | requests to a sandbox in this process, on v2 |
| `vendor_sdk` | the vendor's SDKs in environments of their own |
| `api_reference` | verbs, fields, modes, statuses and languages of the API's own reference |
| `scripted_ports` | an API and a journal of which a test says what they answer |
| `evidence_stage` | attempts, jobs, and the reconciler's evidence step by step |
| `rate_limited_server` | servers that answer 429 by a limit, and callers that keep the request gate busy |
| `networking` | a proxy that tunnels, and servers with certificates of an authority of their own |
| `loop_clock` | a wall clock that follows virtual time |
"""
