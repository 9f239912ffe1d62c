"""classify-batch files list"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from classify_batch.cli.jobs.options import (
    api_options,
    json_option,
    load_call_settings,
    page_size_option,
    page_token_option,
)

if TYPE_CHECKING:
    from classify_batch.llamacloud.raw_bodies import Body


@click.command("list")
@page_size_option
@page_token_option
@click.option("--file-id", "file_ids", multiple=True, metavar="ID", help="Only this file; may be repeated.")
@click.option("--name", "file_name", metavar="NAME", help="Only files of this name.")
@click.option("--all", "every_page", is_flag=True, help="All pages; as JSON a line for each file.")
@api_options
@json_option
def list_files_command(every_page: bool, as_json: bool, **options: Any) -> int:
    """Show one page of the project's files, in the API's order.

    \b
    Example:
      classify-batch files list --all --json > files.jsonl
    """
    import json
    import sys
    from functools import partial

    settings = load_call_settings(options)

    from classify_batch.cli.interruption import run_until_signal
    from classify_batch.cli.rendering.files_progress import showing_files
    from classify_batch.cli.rendering.jobs import make_item_table, print_body, print_next_page_hint
    from classify_batch.operations.uploads import for_each_page, list_files

    query = {name: options[name] for name in ("page_size", "page_token", "file_ids", "file_name")}

    def print_table(page: Body) -> None:
        headings = ("id", "name", "type", "expires")
        print_body(page, partial(make_item_table, headings, file_rows(page), whole=("id", "expires")), as_json=as_json)

    def print_json_lines(page: Body) -> None:
        for item in page["items"]:
            click.echo(json.dumps(item))

    if every_page:
        print_page = print_json_lines if as_json or not sys.stdout.isatty() else print_table
        with showing_files() as progress:
            listed = 0

            def print_and_count(page: Body) -> None:
                nonlocal listed
                print_page(page)
                listed += len(page["items"])
                total = page.get("total_size")
                progress.update(f"{listed:,}{f' of {total:,}' if isinstance(total, int) else ''} files listed")

            run_until_signal(partial(for_each_page, settings, print_and_count, **query))
        return 0
    page = run_until_signal(partial(list_files, settings, **query))
    print_table(page)
    print_next_page_hint(page)
    return 0


def file_rows(page: Body) -> Iterator[tuple[object, ...]]:
    from classify_batch.cli.rendering.jobs import format_time

    for item in page["items"]:
        yield item.get("id"), item.get("name"), item.get("file_type"), format_time(item.get("expires_at"))
