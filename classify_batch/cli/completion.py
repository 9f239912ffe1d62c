"""classify-batch completion"""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print what makes a shell complete commands and paths.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> int:
    """Print what makes a shell complete commands, options and paths.

    \b
    Examples:
      eval "$(classify-batch completion bash)"   # in ~/.bashrc
      eval "$(classify-batch completion zsh)"    # in ~/.zshrc
      classify-batch completion fish | source    # in ~/.config/fish/config.fish
    """
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    from classify_batch.cli.main import COMPLETION_VARIABLE, PROGRAM, cli

    classes = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
    click.echo(classes[shell](cli, {}, PROGRAM, COMPLETION_VARIABLE).source())
    return 0
