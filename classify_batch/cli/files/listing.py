"""classify-batch files list"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from classify_batch.cli.jobs.options import api_options, json_option, load, page_size_option, page_token_option


@click.command("list")
@page_size_option
@page_token_option
@click.option("--file-id", "file_ids", multiple=True, metavar="ID", help="Only this file; may be repeated.")
@click.option("--name", "file_name", metavar="NAME", help="Only files of this name.")
@click.option("--all", "every_page", is_flag=True, help="All pages; as JSON a line for each file.")
@api_options
@json_option
def command(every_page: bool, as_json: bool, **options: Any) -> int:
    """Show one page of the project's files, in the API's order.

    \b
    Example:
      classify-batch files list --all --json > files.jsonl
    """
    import json
    import sys
    from functools import partial

    settings = load(options)

    from classify_batch.cli.jobs.api_call import call
    from classify_batch.cli.rendering.jobs import hint_of_next_page, listed, show
    from classify_batch.operations.uploads import each_page, list_files

    asked = {name: options[name] for name in ("page_size", "page_token", "file_ids", "file_name")}

    def table(page: Mapping[str, Any]) -> None:
        headings = ("id", "name", "type", "expires")
        show(page, partial(listed, headings, _rows(page), whole=("id", "expires")), as_json=as_json)

    def lines(page: Mapping[str, Any]) -> None:
        for item in page["items"]:
            click.echo(json.dumps(item))

    if every_page:
        call(partial(each_page, settings, lines if as_json or not sys.stdout.isatty() else table, **asked))
        return 0
    page = call(partial(list_files, settings, **asked))
    table(page)
    hint_of_next_page(page)
    return 0


def _rows(page: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    from classify_batch.cli.rendering.jobs import moment

    for item in page["items"]:
        yield item.get("id"), item.get("name"), item.get("file_type"), moment(item.get("expires_at"))
