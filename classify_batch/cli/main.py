"""The group of commands, and the one place where errors become messages and exit statuses."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from classify_batch.cli import signals
from classify_batch.cli.rendering import outputs
from classify_batch.cli.subcommands import CommandGroup, HelpContext
from classify_batch.errors import EXIT_STATUS_MEANINGS, ClassifyBatchError, ExitStatus, UsageError

# Not where an error is met: with too many open files nothing more can be imported.
from classify_batch.store.os_errors import NO_ROOM, TOO_MANY_OPEN, hint_for

COMMANDS = (
    "run",
    "resume",
    "plan",
    "check",
    "config",
    "init",
    "status",
    "tune",
    "cancel",
    "verify",
    "export",
    "report",
    "diff",
    "merge",
    "jobs",
    "files",
    "sandbox",
    "manual",
    "completion",
)

PROGRAM = "classify-batch"
COMPLETION_VARIABLE = "_CLASSIFY_BATCH_COMPLETE"
"""By which a shell asks for completions."""

_NO_THREAD = "can't start new thread"
"""All that Python's RuntimeError says."""

EPILOG = "\b\nExit statuses:\n" + "\n".join(
    f"  {int(status):>3}  {meaning}" for status, meaning in EXIT_STATUS_MEANINGS.items()
)


class LazyCommands(CommandGroup):
    """Imports a command's file only when that command is given: `--help` loads no library that a run needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"classify_batch.cli.{cmd_name}"), f"{cmd_name}_command")
        command.context_class = HelpContext
        return command


@click.group(
    cls=LazyCommands,
    epilog=EPILOG,
    no_args_is_help=False,  # a usage error like any other: "Missing command."
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(None, "-V", "--version", package_name="classify-batch", prog_name=PROGRAM)
def cli() -> None:
    """Classify very many LlamaCloud files: planned, paced, resumable, nothing lost, nothing paid twice.

    \b
    Examples:
      classify-batch init practice.toml --base-url sandbox
      classify-batch run practice.toml --input inbox/ --run-dir runs/first
      classify-batch report runs/first --open
    """


def main() -> NoReturn:
    """Runs the command line and leaves with its exit status."""
    outputs.install_streams()
    leave_out_httpx_command_line()
    status = run_command_line()
    signals.ignore_late_signals(status)
    sys.exit(status)


def leave_out_httpx_command_line() -> None:
    """Keeps `import httpx` from importing httpx's own command line, and with it rich and pygments: a tenth of the CPU
    time that a start takes. httpx does without it where it can't be imported. Only where the process is ours: a program
    that imports the package may want it."""
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None: its import fails


def run_command_line() -> int:  # noqa: C901, PLR0911 - one return for each kind of end
    """Runs the command that `sys.argv` names; prints the error that ends it, if one does."""
    try:
        refuse_stray_completion()
        status = cli.main(prog_name=PROGRAM, standalone_mode=False, complete_var=COMPLETION_VARIABLE)
        sys.stdout.flush()  # here, where an error can still become a message and a status
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "classify-batch"
        return print_error(error.format_message(), f"{path} --help", ExitStatus.USAGE)
    except click.ClickException as error:
        return print_error(error.format_message(), "classify-batch --help", ExitStatus.USAGE)
    except (click.Abort, KeyboardInterrupt):
        return print_error("interrupted", "the same command goes on", ExitStatus.INCOMPLETE)
    except ClassifyBatchError as error:
        if error.exit_status is ExitStatus.BUG:
            return report_internal_error(error)
        return print_error(str(error), error.hint, error.exit_status)
    except (BrokenPipeError, SystemExit):
        if os.environ.get(COMPLETION_VARIABLE):
            return 0  # a shell asked for completions, and has them
        discard_output()  # click leaves with 1 when a pipe breaks, and 1 would mean failed files
        return ExitStatus.INCOMPLETE
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        if isinstance(error, MemoryError) or str(error) == _NO_THREAD:
            hint = "raise the limit of memory (`ulimit -v`) or threads (`ulimit -u`); the same command goes on"
            return print_error(str(error) or "there is no memory left", hint, ExitStatus.INCOMPLETE)
        if isinstance(error, OSError) and error.errno in NO_ROOM | TOO_MANY_OPEN:
            where = f"{error.filename}: " if error.filename and error.errno in NO_ROOM else ""
            return print_error(f"{where}{error.strerror}", hint_for(error), ExitStatus.INCOMPLETE)
        if isinstance(error, FileNotFoundError) and error.filename is None and is_working_directory_gone():
            hint = "`cd` to one that is there, or give absolute paths, and the same command begins again"
            return print_error("the folder in which this was started is gone", hint, ExitStatus.USAGE)
        return report_internal_error(error)
    return int(status or 0)


def is_working_directory_gone() -> bool:
    """Whether relative paths mean nothing: somebody removed the folder in which the command was started."""
    try:
        os.getcwd()  # noqa: PTH109 - no pathlib before a command needs it
    except FileNotFoundError:
        return True
    return False


def refuse_stray_completion() -> None:
    """Raises UsageError where no shell asks for completions, and the variable by which one does is set: click would
    answer it, and the command would do nothing."""
    asked = os.environ.get(COMPLETION_VARIABLE)
    if not asked:
        return
    from classify_batch.cli.completion import SHELLS

    shell, _, what = asked.partition("_")
    word = os.environ.get("COMP_CWORD")
    # fish gives the word itself, the others its number.
    has_words = "COMP_WORDS" in os.environ and word is not None and (shell == "fish" or word in map(str, range(10_000)))
    if shell not in SHELLS or not (what == "source" or (what == "complete" and has_words)):
        raise UsageError(
            f"{COMPLETION_VARIABLE} in the environment is {asked!r}, and no shell asks for completions",
            hint=f"unset {COMPLETION_VARIABLE}: only shells set it, when they complete a command",
        )


def print_error(message: str, hint: str, status: ExitStatus) -> int:
    """Prints an error and its hint on stderr; returns the exit status."""
    from classify_batch.cli.rendering.outputs import color_label, printable

    click.echo(f"{color_label('error:', 'red', sys.stderr)} {printable(message)}", err=True)
    click.echo(f"{color_label('hint:', 'cyan', sys.stderr)} {printable(hint or 'classify-batch --help')}", err=True)
    return int(status)


def discard_output() -> None:
    """Sends what is still buffered to /dev/null: nobody reads it, and flushing it at exit would fail once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def report_internal_error(error: BaseException) -> int:
    """An error that nobody foresaw: its traceback goes to a file, without the values of variables (some are secret)."""
    message = f"a bug in classify-batch: {type(error).__name__}: {error}"
    try:
        hint = f"report it with {save_traceback(error)}; the run can be resumed"
    except OSError as refused:
        why = refused.strerror or str(refused)
        hint = f"report it; its traceback could not be kept ({why}; TMPDIR names a place). The run can be resumed"
    return print_error(message, hint, ExitStatus.BUG)


def save_traceback(error: BaseException) -> str:
    """Writes the traceback to a temporary file; returns its path. Raises OSError, and then leaves no file behind."""
    import tempfile
    import traceback
    from pathlib import Path

    descriptor, path = tempfile.mkstemp(prefix="classify-batch-", suffix=".log", text=True)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(error))
    except OSError:
        Path(path).unlink(missing_ok=True)
        raise
    return path
