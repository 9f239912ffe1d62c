"""A LlamaCloud to practise on: a real server on 127.0.0.1 that speaks v1 and v2 of the classifier's API strictly.

    documents    what files a project has and how they are classified: real texts by a ranking of their words, or any
                 file ID at random
    faults       what goes wrong, and how often: with requests, and with jobs
    jobs         the accepted jobs and their futures, what the list shows of them, the jobs that somebody else creates
                 in the project, and the ledger that keeps them on disk
    server       the ASGI application, v1 and v2, and a real socket around it
    options      how a sandbox behaves

It classifies by a ranking of words or at random: a stand-in, not a language model. Embedded:

    with opened(Options(ledger=path, documents=folder)) as app:
        async with serving(app) as base_url:
            ...
"""

from classify_batch.sandbox.documents.document_folder import Documents
from classify_batch.sandbox.documents.project import OpenProject
from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.sandbox.jobs.job_table import JobTable
from classify_batch.sandbox.jobs.ledger import Ledger, read_billed, read_jobs
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server.app import App
from classify_batch.sandbox.server.responses import AnswerLost
from classify_batch.sandbox.server.serve import open_sandbox, serve_in_loop, serve_until_stopped

__all__ = [
    "AnswerLost",
    "App",
    "Documents",
    "Faults",
    "JobTable",
    "Ledger",
    "OpenProject",
    "Options",
    "open_sandbox",
    "read_billed",
    "read_jobs",
    "serve_in_loop",
    "serve_until_stopped",
]
