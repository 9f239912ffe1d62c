"""A LlamaCloud to practise on: a real server on 127.0.0.1 that speaks v1 and v2 of the classifier's API strictly.

    faults       what goes wrong, and how often: endings (of jobs), misfortunes (of requests)
    world        the jobs and their futures (job, endings), what the list shows of them (listing), and
                 the jobs that somebody else makes in the project (others): pure
    project      what files there are and how they are answered: documents (a ranking of real texts) or any ID by lot
    ledger       accepted jobs on disk
    app          the ASGI application: asking and orders (what is wanted), admission (what a create is refused for),
                 calls_v1 and calls_v2, results, bodies, answers, struck (what a misfortune looks like)
    serve        a real socket around it

It classifies by a ranking of words or by lot: a stand-in, not a language model. Embedded:

    with opened(Options(ledger=path, documents=folder)) as app:
        async with serving(app) as base_url:
            ...
"""

from classify_batch.sandbox.answers import AnswerLost
from classify_batch.sandbox.app import App
from classify_batch.sandbox.documents import Documents
from classify_batch.sandbox.faults import Faults
from classify_batch.sandbox.ledger import Ledger, read_billed, read_jobs
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.project import OpenProject
from classify_batch.sandbox.serve import opened, serve_until_stopped, serving
from classify_batch.sandbox.world import World

__all__ = [
    "AnswerLost",
    "App",
    "Documents",
    "Faults",
    "Ledger",
    "OpenProject",
    "Options",
    "World",
    "opened",
    "read_billed",
    "read_jobs",
    "serve_until_stopped",
    "serving",
]
