"""classify-batch merge"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from classify_batch.cli.options import PATH, json_option, trust_option

if TYPE_CHECKING:
    from classify_batch.operations.result import RunResult


@click.command("merge", short_help="Make one run of complete runs of different files.")
@click.argument("directories", metavar="DIR…", type=PATH, nargs=-1, required=True)
@click.option("--output", type=PATH, required=True, help="The directory of the merged run, which is new.")
@json_option
@trust_option
def merge_command(directories: tuple[Path, ...], output: Path, as_json: bool, trust_run_dir: bool) -> int:
    """Make one run of the complete runs in DIR…: all of their outcomes, each as it was paid for.

    A DIR may also be a folder of runs. Refused are runs of other rules, a file that is in two of them, and a run that
    isn't complete. Nothing is called, and the runs stay as they are. The merged run is a run for every command that
    reads one, for `diff` and for `--reuse`; it sends nothing itself.

    \b
    Example:
      classify-batch merge runs/emea runs/apac --output runs/all
    """
    from classify_batch.cli.event_loop import run_in_event_loop
    from classify_batch.cli.running import print_result
    from classify_batch.operations.merge.merge_runs import amerge

    async def merge() -> RunResult:
        return await amerge(directories, output, trust_run_dir=trust_run_dir)

    return print_result(run_in_event_loop(merge), "", as_json=as_json)
