"""`classify-batch` and `python -m classify_batch`: a process that is ours alone."""

import atexit
import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

from classify_batch.cli import signals

# Whatever is made while modules are imported stays: to look for cycles in it again and again takes a tenth of the
# start. Who imports the package keeps thresholds of their own.
gc.set_threshold(10_000, 20, 50)

signals.install_handlers()

from classify_batch.cli.main import main as run_command  # noqa: E402 - the handlers stand before anything heavy is imported


def main() -> NoReturn:
    """Runs the command line and ends the process with its exit status."""
    try:
        run_command()
    except SystemExit as ending:
        if "obstore" in sys.modules and isinstance(ending.code, int):
            exit_before_teardown(ending.code)
        raise
    finally:
        gc.freeze()  # to look for cycles in all that ends with the process takes a tenth of a second


def exit_before_teardown(status: int) -> NoReturn:
    """Ends the process like `sys.exit`, but before the interpreter is torn down: a thread of obstore's may come back to
    it then, and aborts. An export to S3 that went well ended with 134, three times of a hundred on a busy machine."""
    atexit._run_exitfuncs()  # noqa: SLF001 - there is no other way to call what others registered, such as a trace's end
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
