"""What `run`, `resume` and `cancel` write for other programs: a log, metrics, a summary. Checked before anything is
sent, and imported only where it was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from classify_batch.errors import ClassifyBatchError, UsageError
from classify_batch.operations.own_files import is_file_of_run

if TYPE_CHECKING:
    from classify_batch.engine.progress import Progress
    from classify_batch.operations.result import RunResult
    from classify_batch.operations.run_request import OnProgress


class RunOutputs(NamedTuple):
    """What a command was asked to write.

    Attributes:
        log_format: text or json; None: not asked for.
        log_file: where the log goes; None: to stderr, if a format was asked for.
        metrics_file, summary_file: None: not asked for.
    """

    log_format: str | None = None
    log_file: Path | None = None
    metrics_file: Path | None = None
    summary_file: Path | None = None

    @property
    def logs_on_stderr(self) -> bool:
        """Whether stderr has the log in place of progress, warnings and summary."""
        return self.log_format is not None and self.log_file is None

    def refuse_bad_targets(self, run_dir: Path, read: Sequence[Path] = ()) -> None:
        """Raises UsageError for a file that can't be written, or that is there for something else.

        `read`: the files that the command reads.
        """
        taken = [*read]
        for path in (self.log_file, self.metrics_file, self.summary_file):
            if path is not None:
                try:
                    _refuse_bad_target(path, is_replaced=path is not self.log_file)
                    _refuse_taken_target(path, run_dir, taken)
                except OSError as error:  # the name is too long, or the folder may not be read
                    reason = error.strerror or str(error)
                    raise UsageError(f"{path} can't be written: {reason}", hint="name another file") from None
                taken.append(path)


def _refuse_bad_target(path: Path, *, is_replaced: bool) -> None:
    from classify_batch.store.atomic_file import beside

    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="name a file")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", hint="create it first, or name another file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{path} can't be written", hint="change its permissions, or name another file")
    if is_replaced:
        beside(path).exists()  # raises where no file can have such a name


def _refuse_taken_target(path: Path, run_dir: Path, taken: Iterable[Path]) -> None:
    """Nothing is written over a run's own files, nor over what the command reads or writes besides."""
    if is_file_of_run(path, run_dir):
        raise UsageError(f"{path} is a file of the run itself", hint="name another file")
    if path.exists() and not path.is_file():
        return  # a device, or a pipe: what goes there stands beside other words
    if any(path.resolve() == each.resolve() for each in taken):
        raise UsageError(f"{path} is a file that this command reads, or writes besides", hint="name another file")


class OutputFiles:
    """The metrics and the summary of one command. `run_dir`: as the command names it."""

    def __init__(self, outputs: RunOutputs, run_dir: Path) -> None:
        from classify_batch.cli.rendering.metrics_file import MetricsFile
        from classify_batch.cli.rendering.summary_file import SummaryFile

        self._metrics = None if outputs.metrics_file is None else MetricsFile(outputs.metrics_file, run_dir)
        self._summary = None if outputs.summary_file is None else SummaryFile(outputs.summary_file, run_dir)

    def with_metrics(self, on_progress: OnProgress | None) -> OnProgress | None:
        """An `on_progress` that also writes the metrics."""
        metrics = self._metrics
        if metrics is None:
            return on_progress

        async def show_and_write(progress: Progress) -> None:
            if on_progress is not None:
                on_progress(progress)
            await metrics.update(progress)

        return show_and_write

    def write_end(self, result: RunResult) -> None:
        """Writes how the run stands."""
        if self._metrics is not None:
            self._metrics.write_end(result)
        if self._summary is not None:
            self._summary.write_end(result)

    def end_with_error(self, error: ClassifyBatchError) -> None:
        """Writes what ended the command."""
        if self._metrics is not None:
            self._metrics.end_with_error(error)
        if self._summary is not None:
            self._summary.end_with_error(error)


@contextmanager
def writing_outputs(
    outputs: RunOutputs, run_dir: Path, read: Sequence[Path], *, verbose: bool, quiet: bool
) -> Iterator[OutputFiles | None]:
    """Writes the log inside the block, and at an error of it what else was asked for. `read`: files that are read."""
    if outputs == RunOutputs():
        yield None
        return
    outputs.refuse_bad_targets(run_dir, read)
    files = OutputFiles(outputs, run_dir)
    with _log_to_outputs(outputs, verbose=verbose, quiet=quiet):
        try:
            yield files
        except ClassifyBatchError as error:
            files.end_with_error(error)
            raise


@contextmanager
def _log_to_outputs(outputs: RunOutputs, *, verbose: bool, quiet: bool) -> Iterator[None]:
    if outputs.log_format is None and outputs.log_file is None:
        yield
        return
    from classify_batch.cli.rendering.log_output import writing_log

    with writing_log(outputs.log_format or "text", outputs.log_file, verbose=verbose, quiet=quiet):
        yield
