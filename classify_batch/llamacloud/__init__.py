"""The client of LlamaCloud's API over HTTP.

client         sends requests through the gate, and turns every failure into an ApiError
access         where the API is, and who asks
connection     one connection as an httpx transport; `network` has its sockets
failures       what each failure means: try again, give up, or unknown whether it was accepted
redaction      hides the API key and the webhooks' headers in what the server says
v1, v2         each version's calls: for a run (`batch_api`, behind ports.Api) and for a person (`single_calls`)
results_pages  all pages of a job's results, as far as they can be had
batch_api      what both versions' calls for a run share
single_calls   what both versions' calls for a person share; `raw_bodies` reads what the server sent
file_client    the project's files, the same for both versions
"""
