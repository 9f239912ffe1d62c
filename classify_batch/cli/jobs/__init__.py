"""classify-batch jobs: the verbs of the API's own reference, one call each.

options         what the verbs share
repeat_command  commands that can be pasted
api_call        a call, its interruption, and the last word

"""

from __future__ import annotations

import click

from classify_batch.cli.verbs import Verbs

VERBS = {"create": "create", "list": "listing", "get": "get", "get-results": "results", "cancel": "cancel"}
"""Each verb, and the file that it has."""


@click.group("jobs", cls=Verbs, package=__name__, verbs=VERBS, no_args_is_help=False)
def jobs_command() -> None:
    """Create, list, look at and cancel single jobs: one call each, answered in the API's own words.

    \b
    Example:
      classify-batch jobs create --file-id ID --rule "invoice=has an invoice number and a total"
    """
