"""What becomes of a child that a caller's function makes by `os.fork`: it may do what it likes inside that function.

Behind it, it would go on as its parent does. It has copies of the event loop, the sockets and the open files, which are
the parent's as well: what it did with them would happen to the run. So it ends there. (Where it comes to the loop in
another way, an asynchronous function that awaits something, the store and the network refuse it.)
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

log = logging.getLogger("classify_batch")


@contextmanager
def ending_children(what: str) -> Iterator[None]:
    """For a block that calls what the caller gave; `what`: that, as the log names it. A child by a fork in it doesn't
    come out: it ends, with the status of its SystemExit, else 1 for an error and 0 for none."""
    process = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() != process:
            _end_child(what, error)
        raise
    if os.getpid() != process:
        _end_child(what, None)


def _end_child(what: str, error: BaseException | None) -> NoReturn:
    """Without any cleaning up, which would be done to what is the parent's."""
    status = 0
    with suppress(Exception):
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            status = 1
            traceback.print_exception(error)
        log.debug("%s came back in a child process, which ends: a run is that of the process that began it", what)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
