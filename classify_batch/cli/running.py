"""What `run` and `resume` share: signals, the live view, the summary, the JSON on stdout."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path

import click

from classify_batch.cli import signals
from classify_batch.cli.event_loop import run_in_event_loop
from classify_batch.cli.rendering.outputs import color_line, printable, printing_result, to_json_line
from classify_batch.cli.rendering.progress import Display, Verbosity, showing_run
from classify_batch.cli.rendering.summary import format_run_summary
from classify_batch.cli.run_outputs import writing_outputs
from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.engine.submit_only import COLLECT_LATER
from classify_batch.errors import ExitStatus
from classify_batch.inputs.open import STDIN, SeveralSources, SourceSpec
from classify_batch.inputs.reading import Reading
from classify_batch.operations.result import RunResult
from classify_batch.operations.run_request import Executor, RunRequest
from classify_batch.operations.shards.carry_out import carry_out
from classify_batch.operations.shards.choice import ShardChoice
from classify_batch.settings import Settings
from classify_batch.settings.api_key import key_files
from classify_batch.shell_words import command_of
from classify_batch.store import place_of
from classify_batch.vocabulary import SHARDS_FOLDER, RunState

DEFAULT_VERBOSITY = Verbosity()
ALL_SHARDS = ShardChoice()


def run_to_end(
    settings: Settings,
    source: SourceSpec | None,
    run_dir: Path,
    *,
    next_command: str,
    as_json: bool,
    deadline: float | None,
    max_runtime: float | None,
    reading: Reading | None = None,
    reuse: Sequence[Path] = (),
    retry_failed: bool = False,
    submit_only: bool = False,
    trusted: bool = False,
    verbosity: Verbosity = DEFAULT_VERBOSITY,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    config: Path | None = None,
    chosen: ShardChoice = ALL_SHARDS,
    executor: Executor | None = None,
) -> int:
    """Runs until complete or stopped; returns the exit status.

    `next_command`: goes on with an incomplete run; it is shown to the user. `trusted`: whether the run directory is
    used also where other users could misuse it. `chosen`: which shards are carried out, of a run that has some.
    `executor`: who carries them out; None: this process.
    """
    request = RunRequest(
        settings,
        source,
        place_of(run_dir, trusted=trusted),
        reading=reading or Reading(),
        reuse=reuse,
        retry_failed=retry_failed,
        until_s=deadline,
        max_runtime_s=max_runtime,
        submit_only=submit_only,
        include=include,
        exclude=exclude,
        config=config,
        shards=chosen.shards,
        shard=chosen.shard,
        executor=executor,
    )

    async def carry_out_shown(display: Display, shutdown: Shutdown) -> RunResult:
        shown = replace(request, on_progress=display.on_progress, observers=display.observers)
        return await carry_out(shown, shutdown)

    result = run_until_stopped(carry_out_shown, run_dir, verbosity, files_of(source, config, settings))
    # An interrupted --submit-only has jobs left to create; a plain `resume` would collect first.
    cut_short = submit_only and result.hint != COLLECT_LATER
    return print_result(
        result,
        f"{next_command} --submit-only" if cut_short else next_command,
        as_json=as_json,
        with_summary=not verbosity.outputs.logs_on_stderr,
    )


def run_until_stopped(
    carry_out: Callable[[Display, Shutdown], Awaitable[RunResult]],
    run_dir: Path,
    verbosity: Verbosity = DEFAULT_VERBOSITY,
    read: Sequence[Path] = (),
) -> RunResult:
    """Shows the progress of what is carried out; the first signal asks it to stop. `read`: the files that it reads."""
    how = verbosity.outputs
    try:
        with (
            writing_outputs(how, run_dir, read, verbose=verbosity.verbose, quiet=verbosity.quiet) as files,
            showing_run(verbosity) as display,
        ):
            if files is None:
                return run_in_event_loop(_stop_on_signal, partial(carry_out, display))
            watched = display._replace(on_progress=files.with_metrics(display.on_progress))
            result = run_in_event_loop(_stop_on_signal, partial(carry_out, watched))
            files.write_end(result)
            return result
    finally:
        signals.on_first_signal(lambda _name: None)  # the run has ended: a signal must not cut its summary off


def files_of(source: SourceSpec | None, config: Path | None, settings: Settings | None) -> list[Path]:
    """The files that a command reads: those that it names, and those of API keys."""
    specs = source.specs if isinstance(source, SeveralSources) else (source,)
    named = [Path(each) for each in (*specs, config) if isinstance(each, str | PathLike) and each != STDIN]
    return [*named, *key_files(() if settings is None else settings.accounts)]


async def _stop_on_signal(carry_out: Callable[[Shutdown], Awaitable[RunResult]]) -> RunResult:
    shutdown = Shutdown()
    loop = asyncio.get_running_loop()

    def request_stop(name: str) -> None:
        stop = Stop(f"interrupted by {name}")
        loop.call_soon_threadsafe(shutdown.request_stop, stop)  # a signal handler may not touch the loop directly

    signals.on_first_signal(request_stop)
    try:
        return await carry_out(shutdown)
    finally:
        signals.on_first_signal(lambda _name: None)  # the loop is about to be closed


def print_result(result: RunResult, next_command: str, *, as_json: bool, with_summary: bool = True) -> int:
    """Prints the summary on stderr, and with `as_json` the manifest on stdout; returns the exit status."""
    if with_summary:
        print_summary(result, next_command)
    if as_json:
        with printing_result(result.exit_status):
            click.echo(to_json_line(result.manifest))
    return int(result.exit_status)


def print_summary(result: RunResult, next_command: str) -> None:
    """Prints the summary of a run on stderr, and what to do next."""
    untouched = result.state is RunState.COMPLETE and not result.called
    lines = ["this run was complete already: nothing was called, nothing was written"] if untouched else []
    lines += format_run_summary(result.manifest)
    folder = result.run_dir / SHARDS_FOLDER / "*" if "shards" in result.manifest else result.run_dir
    lines.append(f"outcomes    {folder / 'results.jsonl'}")
    if result.counts["failed"]:
        lines.append(f"            {folder / 'failures.jsonl'}")
    lines.append(f"as a page   {command_of('report', Path(result.run_dir), '--open')}")
    for line in lines:
        print_line(line)
    if result.state is RunState.COMPLETE:
        command = command_of("verify", Path(result.run_dir))
        if result.exit_status is ExitStatus.FAILURES:
            print_line(f"hint: {result.manifest.get('hint')}")
            command = result.manifest.get("next", command)
        print_line(f"next: {command}")
    else:
        print_line(f"hint: {result.hint}")
        print_line(f"next: {next_command}")


def print_line(line: str) -> None:
    """Prints a line of the summary on stderr."""
    click.echo(color_line(printable(line), sys.stderr), err=True)
