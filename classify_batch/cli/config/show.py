"""classify-batch config show"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from classify_batch.cli.options import config_argument, group_by_section, json_option, settings_options


@click.command("show")
@config_argument
@json_option
@settings_options
def show_config_command(config: Path, as_json: bool, **options: Any) -> int:
    """Show each setting of CONFIG, its value, and where that came from: an option, a variable of the environment, a
    line of the file, or the default. Secrets are never shown.

    \b
    Example:
      classify-batch config show my.toml --requests-per-s 50
    """
    import json

    from classify_batch.cli.rendering.outputs import printable
    from classify_batch.settings.origins import format_settings, list_settings

    listed = list_settings(config, group_by_section(options))
    if as_json:
        click.echo(json.dumps({each.name: {"value": each.value, "origin": each.origin} for each in listed}))
    else:
        for line in format_settings(listed):
            click.echo(printable(line))
    return 0
