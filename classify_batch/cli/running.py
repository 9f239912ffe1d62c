"""What `run` and `resume` share: signals, the live view, the summary, the last line of stdout."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import click

from classify_batch.cli import signals
from classify_batch.cli.rendering.outputs import printing
from classify_batch.cli.rendering.progress import watching
from classify_batch.cli.rendering.summary import describe
from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.engine.submit_only import COLLECT_LATER
from classify_batch.errors import ExitStatus
from classify_batch.operations.result import RunResult
from classify_batch.operations.run import carry_out
from classify_batch.operations.run_request import RunRequest
from classify_batch.settings import Settings
from classify_batch.vocabulary import RunState


class _ToStderr(logging.Handler):
    """The library's warnings, for a person."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


def run_to_end(
    settings: Settings,
    source: str | None,
    run_dir: Path,
    *,
    again: str,
    as_json: bool,
    deadline: float | None,
    max_runtime: float | None,
    column: str | None = None,
    reuse: Sequence[Path] = (),
    retry_failed: bool = False,
    submit_only: bool = False,
) -> int:
    """Runs until complete or stopped; returns the exit status. `again`: the command that goes on, and collects."""
    ends = [deadline] if deadline is not None else []
    ends += [time.time() + max_runtime] if max_runtime is not None else []
    request = RunRequest(
        settings,
        source,
        run_dir,
        column=column,
        reuse=reuse,
        retry_failed=retry_failed,
        until_s=min(ends, default=None),
        submit_only=submit_only,
    )
    logger = logging.getLogger("classify_batch")
    handler = _ToStderr(logging.WARNING)
    logger.addHandler(handler)
    try:
        with watching() as observe:
            result = anyio.run(partial(_run, replace(request, on_progress=observe)))
    finally:
        signals.hear(lambda _name: None)  # the run has ended: what is left to say is said
        logger.removeHandler(handler)
    cut_short = submit_only and result.hint != COLLECT_LATER
    _summarise(result, f"{again} --submit-only" if cut_short else again)
    if as_json:
        with printing(result.exit_status):
            click.echo(json.dumps(result.manifest, ensure_ascii=False))
    return int(result.exit_status)


async def _run(request: RunRequest) -> RunResult:
    shutdown = Shutdown()
    loop = asyncio.get_running_loop()

    def ask(name: str) -> None:
        stop = Stop(f"interrupted by {name}")
        loop.call_soon_threadsafe(shutdown.ask, stop)

    signals.hear(ask)
    return await carry_out(request, shutdown)


def resume_command_for(run_dir: Path, settings: Settings, config: Path | None) -> str:
    """The command that goes on. Webhook headers are stored nowhere, so a run that has some needs its config again."""
    command = ["classify-batch", "resume", str(run_dir)]
    if config is not None and any(each.webhook_headers for each in settings.job.webhook_configurations):
        command += ["--config", str(config)]
    return shlex.join(command)


def _summarise(result: RunResult, again: str) -> None:
    lines = [] if result.called else ["this run was complete already: nothing was called, nothing was written"]
    lines += describe(result.manifest)
    lines.append(f"outcomes    {result.run_dir / 'results.jsonl'}")
    if result.counts["failed"]:
        lines.append(f"            {result.run_dir / 'failures.jsonl'}")
    for line in lines:
        click.echo(line, err=True)
    if result.state is RunState.COMPLETE:
        if result.exit_status is ExitStatus.FAILURES:
            click.echo("hint: `resume DIR --retry-failed` gives the failed files a new chance", err=True)
        click.echo(f"next: {shlex.join(['classify-batch', 'verify', str(result.run_dir)])}", err=True)
    else:
        click.echo(f"hint: {result.hint}", err=True)
        click.echo(f"next: {again}", err=True)
