"""classify-batch manual

The pages are Markdown files that ship with the package, in `classify_batch/manual`. Beside them lie example configs,
which are printed as they stand, so that `classify-batch manual sandbox.toml > my.toml` makes one.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.markdown import Markdown

PAGES = (
    "start",
    "commands",
    "settings",
    "sources",
    "run-directory",
    "exit-statuses",
    "failures",
    "python",
    "recipes",
    "shards",
    "accounts",
    "sandbox",
    "money",
    "performance",
    "growing",
    "reliability",
    "troubleshooting",
    "architecture",
    "developing",
    "changelog",
)
"""In the order in which somebody new would read them."""

CONFIGS = ("sandbox.toml", "invoices-and-contracts.toml")

_LINK = re.compile(r"\[([^\]]+)\]\((?:([\w-]+)\.md)?(?:#[\w-]+)?\)")
"""To another page, or to a heading of the same one."""


@click.command("manual", short_help="Show a page of the manual; without PAGE, the list.")
@click.argument("page", metavar="[PAGE]", required=False)
def manual_command(page: str | None) -> int:
    """Show a page of the manual; without PAGE, the list of its pages and example configs.

    \b
    Examples:
      classify-batch manual recipes
      classify-batch manual sandbox.toml > my.toml
    """
    from classify_batch.errors import UsageError

    if page is None:
        _echo_as_utf8(_contents())
    elif page in CONFIGS:
        _echo_as_utf8(_read_page_text(page))
    elif page in PAGES:
        _show_markdown(_read_page_text(f"{page}.md"))
    else:
        raise UsageError(
            f"the manual has no page {page!r}",
            hint=f"the pages are {', '.join(PAGES)}; the example configs {' and '.join(CONFIGS)}",
        )
    return 0


def _read_page_text(name: str) -> str:
    from importlib.resources import files

    return (files("classify_batch") / "manual" / name).read_text("utf-8")


def _contents() -> str:
    """A line for each page, with the first sentence under its title, and for each example config, with its first."""
    pages = {page: _read_page_text(f"{page}.md").split("\n\n")[1].replace("\n", " ") for page in PAGES}
    configs = {config: _read_page_text(config).partition("\n")[0].removeprefix("# ") for config in CONFIGS}
    return f"{_format_page_list(pages)}\n{_format_page_list(configs)}"


def _format_page_list(about: Mapping[str, str]) -> str:
    width = max(map(len, about))
    return "".join(f"{name:<{width}}  {words.split('. ')[0].rstrip('.')}\n" for name, words in about.items())


def _echo_as_utf8(text: str) -> None:
    """As UTF-8, whatever the terminal's encoding: a page is a file like any other."""
    click.echo(text.encode(), nl=False)


def _show_markdown(markdown: str) -> None:
    """Rendered on a terminal; as it stands elsewhere, and where nothing is there to render it."""
    if sys.stdout.isatty() and sys.stdout.encoding.lower().startswith("utf"):
        try:
            from rich.console import Console
            from rich.markdown import Markdown
        except ImportError:
            pass
        else:
            _show_in_pager(Console(), Markdown(_LINK.sub(words_of_link, markdown)))
            return
    _echo_as_utf8(markdown)


def _show_in_pager(console: Console, page: Markdown) -> None:
    """By the user's pager, as git does: most pages are longer than a screen, and their beginning would scroll away."""
    if not sys.stdin.isatty() or console.is_dumb_terminal:
        console.print(page)
        return
    os.environ.setdefault("LESS", "FRX")  # a page that fits is printed, colours stay, and so does the page
    with console.capture() as captured:
        console.print(page)
    click.echo_via_pager(captured.get())


def words_of_link(link: re.Match[str]) -> str:
    """What a terminal shows of a link, which it can't follow: its words, and the page."""
    words, page = link[1], link[2]
    return words if not page or page in words.lower() else f"{words} (`manual {page}`)"
