"""Whether other users could make us write, read or send what they like, through a run directory.

Who may write to a run directory decides what the API key is used for: run.json names the server and the rules, the plan
names the files, and a link in the place of a file names what is overwritten. So before anything is written or sent:

    the directory   may be any user's, but not another one's in which every user may write
    its files       are files, and no links; where every user may write, they are not another user's
    its shards      are folders, and no links; where every user may write to `shards`, they are not another user's

The user who runs the command and root are no "other user": whoever mistrusts root has lost already, and Kubernetes
mounts its empty volumes as root's, for all to write. A team's directory, which its group may write to, is fine:
somebody made these people a group. So are the directories of a user for whom root runs the command; but no links in
them.

Some file systems show every file as one owner's, whoever made it: network mounts that squash users, mounts from the
host of a virtual machine. There a new file of ours is that owner's too; so `own_uid`, read from such a file, is ours.

The run directory itself may be a link, and lie behind links: whoever named it meant what it leads to, and that is what
is looked at. Whoever trusts a directory all the same says so (`--trust-run-dir`); then links to files are followed.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from classify_batch.errors import RunDirectoryError
from classify_batch.protocol.sanitize import printable_line
from classify_batch.store.holder import LOCK
from classify_batch.vocabulary import (
    EARLIER_EVENTS_JSONL,
    EVENTS_JSONL,
    MANIFEST_JSON,
    PATHS_JSONL,
    PLAN_JSONL,
    REQUESTS,
    RUN_JSON,
    SANDBOX_FOLDER,
    SANDBOX_LEDGER,
    SHARDS_FOLDER,
    Log,
)

_ROOT = 0
_EVENTS = (EVENTS_JSONL, EARLIER_EVENTS_JSONL)
RUN_FILES = (RUN_JSON, PLAN_JSONL, PATHS_JSONL, MANIFEST_JSON, *REQUESTS, *REQUESTS.values(), LOCK, *Log, *_EVENTS)
"""The files of a run directory, besides those of `NUMBERED_FILES`."""
_NAMES = (*RUN_FILES, SANDBOX_FOLDER, SANDBOX_LEDGER, SHARDS_FOLDER)
_FOLDERS = (SANDBOX_FOLDER, SHARDS_FOLDER)
_SHARD = re.compile(r"\d{5}")
NUMBERED_FILES = re.compile(r"(?:failures|retry|lease)\.\d+\.jsonl")
_TARGET_CHARACTERS = 200
_TRUST = "if you trust all who may write to this one, give --trust-run-dir (in Python trust_run_dir=True)"


def refuse_untrusted(directory: Path, own_uid: int, *, trusted: bool = False) -> None:
    """Raises RunDirectoryError naming all by which others could misuse the directory; `trusted`: all that can't work.

    Args:
        own_uid: whose a new file of ours is in this directory.
    """
    found = [*find_impossible_files(directory)]
    if found:
        raise _refusal(
            directory, found, "a run's files are plain files, its shards folders: remove what is in their place"
        )
    if trusted:
        return
    ours = frozenset({os.geteuid(), own_uid, _ROOT})  # the effective user: by that one the kernel judges
    if found := [*find_links(directory), *find_foreign_files(directory, ours)]:
        raise _refusal(
            directory,
            found,
            f"name another run directory, or put the files and folders themselves there; {_TRUST}",
        )
    status = directory.stat()
    if not is_shared_by(status, ours):
        return
    raise RunDirectoryError(
        f"run directory {directory} belongs to {name_user(status.st_uid)}, and every user may write to it "
        f"(mode {stat.S_IMODE(status.st_mode):04o}): anybody could change what a run sends, and where to",
        hint=f"name a new directory in it, which will be yours, or one elsewhere; {_TRUST}",
    )


def is_trusted_already(directory: Path) -> bool:
    """Whether a directory would be refused to this user, and holds a run that is theirs: they trusted it before, or
    they would have no run there. Nobody else can make a file that is theirs, so nobody else can say so for them."""
    try:
        if (directory / RUN_JSON).stat().st_uid != os.geteuid():
            return False
        refuse_untrusted(directory, os.geteuid())
    except OSError:
        return False
    except RunDirectoryError:
        return True
    return False


def is_shared_by(status: os.stat_result, ours: frozenset[int]) -> bool:
    """Whether a directory is another user's, and every user may write to it."""
    return status.st_uid not in ours and bool(status.st_mode & stat.S_IWOTH)


def find_impossible_files(directory: Path) -> Iterator[str]:
    """What stands in the place of a file or a shard, and can't be one: a folder, a pipe, a link that leads nowhere."""
    for name, path, status in _present_files(directory):
        if name == LOCK and stat.S_ISLNK(status.st_mode):
            yield f"{describe_link(name, path)}, and a lock is never taken through a link"
            continue
        try:
            mode = path.stat().st_mode
        except OSError:  # nothing is there, or a circle
            yield f"{describe_link(name, path)}, where nothing is"
            continue
        is_folder = name in _FOLDERS or name.startswith(f"{SHARDS_FOLDER}/")
        wanted, words = (stat.S_ISDIR, "no folder") if is_folder else (stat.S_ISREG, "no plain file")
        if not wanted(mode):
            yield f"{name} is {words}"


def find_links(directory: Path) -> Iterator[str]:
    """Links in the place of files and shards: what is written would go elsewhere."""
    for name, path, status in _present_files(directory):
        if stat.S_ISLNK(status.st_mode):
            yield describe_link(name, path)


def find_foreign_files(directory: Path, ours: frozenset[int]) -> Iterator[str]:
    """Files of other users in a directory to which every user may write: anybody may have put them there."""
    for name, path, status in _present_files(directory):
        if status.st_uid not in ours and path.parent.stat().st_mode & stat.S_IWOTH:
            yield f"{name} belongs to {name_user(status.st_uid)}, and every user may put files there"


def name_user(uid: int) -> str:
    """A user by name and number, as far as this machine knows the name."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _present_files(directory: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    """The files of a run that are there, links among them, and how they are; and the shards that are to be looked at
    more closely."""
    numbered = (each.name for each in os.scandir(directory) if NUMBERED_FILES.fullmatch(each.name))
    for name in (*_NAMES, *sorted(numbered), *sorted(_noticeable_shards(directory / SHARDS_FOLDER))):
        path = directory / name
        try:
            yield name, path, path.lstat()  # the link itself, not what it leads to
        except (FileNotFoundError, NotADirectoryError):
            continue


def _noticeable_shards(folder: Path) -> Iterator[str]:
    """The shards that are no folders, or links; all of them where every user may put some there.

    There may be 10,000, and the start of each shard comes by here: what kind they are the folder itself says, and not
    each of them has to be asked.
    """
    if not folder.is_dir():
        return
    all_may_write = folder.stat().st_mode & stat.S_IWOTH
    with os.scandir(folder) as entries:
        for each in entries:
            if _SHARD.fullmatch(each.name) and (all_may_write or not each.is_dir(follow_symlinks=False)):
                yield f"{SHARDS_FOLDER}/{each.name}"


def describe_link(name: str, path: Path) -> str:
    """A link and where it leads, in words."""
    # Printable, since another user may have named it.
    return f"{name} is a link to {printable_line(str(path.readlink()), _TARGET_CHARACTERS)}"


def _refusal(directory: Path, found: list[str], hint: str) -> RunDirectoryError:
    words = found[0] if len(found) == 1 else "\n  ".join([f"{len(found)} of its files can't be used", *found])
    return RunDirectoryError(f"run directory {directory}: {words}", hint=hint)
