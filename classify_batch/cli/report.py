"""classify-batch report"""

from __future__ import annotations

from pathlib import Path

import click

from classify_batch.cli.options import PATH, NonEmptyPath


@click.command("report", short_help="Write a page about a run, or about two, for any browser.")
@click.argument("directory", metavar="DIR", type=PATH)
@click.argument("after", metavar="[DIR_B]", type=PATH, required=False)
@click.option(
    "--output",
    metavar="FILE",
    type=NonEmptyPath(),
    help="Where to write the page: an .html file, or an object (s3://BUCKET/KEY).  [default: report.html in the "
    "(later) run directory]",
)
@click.option("--open", "opens", is_flag=True, help="Show the page in the browser.")
@click.option("--no-examples", is_flag=True, help="Name no file, and repeat none of the server's words.")
def report_command(directory: Path, after: Path | None, output: str | None, opens: bool, no_examples: bool) -> int:
    """Write a page about the run in DIR, or about what changed from DIR to DIR_B: one HTML file for any browser.

    The page needs no network and has no script. The run may be incomplete, or still running. Prints the page's path.

    \b
    Examples:
      classify-batch report runs/today --open
      classify-batch report runs/monday runs/tuesday --output week.html
    """
    from functools import partial

    from classify_batch.cli.interruption import run_until_signal
    from classify_batch.cli.rendering.outputs import printable
    from classify_batch.errors import UsageError
    from classify_batch.object_store.url import is_object_url
    from classify_batch.operations.report.write_report import areport

    if opens and is_object_url(output):
        raise UsageError("--open shows a file, and the page is an object", hint="leave --open out")
    places = [directory] if after is None else [directory, after]
    page = run_until_signal(partial(areport, places, output, not no_examples))
    click.echo(printable(str(page)))
    if opens and not open_in_browser(Path(page)):
        click.echo("no browser could be started: open the page yourself", err=True)
    return 0


def open_in_browser(path: Path) -> bool:
    """Whether a browser was started with the page."""
    import webbrowser

    try:
        return webbrowser.open(path.as_uri())
    except (OSError, webbrowser.Error):
        return False
