"""Turns OSErrors into this package's errors, so that no raw errno leaves this room."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from io import UnsupportedOperation
from pathlib import Path

from classify_batch.errors import ClassifyBatchError, RunDirectoryError, StoreError

NOT_SUPPORTED = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, 524})
"""That a file system lacks something. 524 is the kernel's own ENOTSUPP: of NFS and some others it reaches programs, and
Python has no name for it."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_ROOM = _FULL | {errno.EFBIG}
"""That a file can't grow: the disk is full, or one file may not be larger."""
TOO_MANY_OPEN = frozenset({errno.EMFILE, errno.ENFILE})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_FAILING = NO_ROOM | TOO_MANY_OPEN | {errno.EIO}
_IMPOSSIBLE_NAME = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ})
"""No later time makes such a name work."""
_NO_FILE = frozenset({errno.EISDIR, errno.ESPIPE, errno.ENXIO})
"""What is read is a folder, a pipe or a socket."""


def refused(path: Path, error: OSError) -> StoreError:
    """The medium refused an operation on `path` in the middle of a run."""
    return StoreError(f"{path}: {error.strerror or error}", hint=hint_for(error))


def other_writer(path: Path, size: int, expected: int) -> StoreError:
    """A log has grown, though we didn't write to it."""
    return StoreError(
        f"{path} has {size} bytes where {expected} were expected: somebody else writes to it",
        hint="let nothing else touch the run directory, then the same command goes on",
    )


def taken_away(path: Path) -> StoreError:
    """What a process works with has lost its name: somebody moved or removed the file, or a folder above it."""
    return StoreError(
        f"{path} was moved, removed or replaced while the run was on",
        hint="leave a run directory and its files alone until the process has ended, its lock too; put back what was "
        "there, then the same command goes on",
    )


def unusable(path: Path, error: OSError) -> ClassifyBatchError:
    """`path` can't serve as a run directory: a person's to mend, unless the medium is full or failing."""
    if error.errno in _FAILING:
        return refused(path, error)
    if error.errno in _IMPOSSIBLE_NAME:
        return RunDirectoryError(
            f"{path} can't be a run directory: {error.strerror or error}",
            hint="name another path: file systems take names of up to 255 bytes, and no circles of links",
        )
    return RunDirectoryError(
        f"{path} can't be used as a run directory: {error.strerror or error}",
        hint="name a directory that this user may create or write to",
    )


def not_plain_error(path: Path) -> RunDirectoryError:
    """What stands in the place of a run's file is a folder, a pipe, a socket or a device."""
    return RunDirectoryError(
        f"{path} is no plain file", hint="a run's files are plain files: put the file itself there"
    )


@contextmanager
def refusals(path: Path, *, but: type[OSError] | tuple[type[OSError], ...] = ()) -> Iterator[None]:
    """Turns every OSError inside into a StoreError that names `path`, or into a RunDirectoryError where the name itself
    can't be; `but` are part of the contract."""
    try:
        yield
    except OSError as error:
        if isinstance(error, but):
            raise
        # What O_NOFOLLOW says of a link. A circle of links says the same, and is taken for an impossible name below.
        if error.errno == errno.ELOOP and path.is_symlink():
            raise RunDirectoryError(
                f"{path} is a link that is not followed",
                hint="put the file itself there; if you didn't make the link, somebody else writes to the directory",
            ) from error
        if error.errno in _NO_FILE or isinstance(error, UnsupportedOperation):
            raise not_plain_error(path) from error
        if error.errno in _IMPOSSIBLE_NAME:
            raise unusable(path.parent, error) from error
        raise refused(path, error) from error


def hint_for(error: OSError) -> str:
    """What to do about an operation that the medium refused; the one place where these words stand."""
    if error.errno in _FULL:
        return "make room (or raise the quota), then the same command goes on"
    if error.errno == errno.EFBIG:  # a bound on the size of one file: the disk may be empty
        return (
            "raise the limit of a file's size (`ulimit -f`; some file systems have one of their own), then the same "
            "command goes on"
        )
    if error.errno in TOO_MANY_OPEN:
        return "raise the limit of open files (`ulimit -n`), then the same command goes on"
    if error.errno in _FORBIDDEN:
        return "make it writable for this user, then the same command goes on"
    return "see to the disk, then the same command goes on"
