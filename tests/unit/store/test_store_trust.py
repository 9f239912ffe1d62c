"""Which run directories other users could misuse: real owners, modes and links."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from classify_batch.errors import ExitStatus, RunDirectoryError, StoreError
from classify_batch.store import place_of
from classify_batch.store.disk import DiskStore
from classify_batch.store.lock import hold
from classify_batch.vocabulary import Log

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
OTHER, THIRD = 54_321, 54_322
"""Users that this machine doesn't know."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A directory of ours with the files of a run."""
    directory = tmp_path / "run"
    directory.mkdir(mode=0o755)
    for name in ("run.json", "journal.jsonl", "results.jsonl", "lock"):
        (directory / name).write_bytes(b"")
    return directory


def entries(directory: Path) -> dict[str, tuple[int, ...]]:
    """Each name's kind, place, owner, size and time of the last write; to look at a link changes only its `atime`."""
    found = {path.name: path.lstat() for path in directory.iterdir()}
    return {
        name: (entry.st_mode, entry.st_ino, entry.st_uid, entry.st_gid, entry.st_size, entry.st_mtime_ns)
        for name, entry in found.items()
    }


async def refused(directory: Path, *, trusted: bool = False) -> str:
    """What is said of a directory that is refused with 2, and left as it was."""
    before = entries(directory)
    with pytest.raises(RunDirectoryError) as caught:
        await DiskStore(directory, trusted=trusted).prepare()
    assert entries(directory) == before
    assert caught.value.exit_status == ExitStatus.USAGE
    assert caught.value.hint
    return str(caught.value)


async def accepted(directory: Path, *, trusted: bool = False) -> None:
    """A directory that a run can use: it is prepared, locked, written to and left."""
    async with DiskStore(directory, trusted=trusted) as store:
        await store.prepare()
        async with store.lock():
            await store.open_log(Log.JOURNAL, 0)
            store.append(Log.JOURNAL, b"fact\n")
            await store.commit()


# --- Directories ----------------------------------------------------------------------------------------------------


@as_root
async def test_another_users_directory_for_all_to_write_is_refused(run: Path) -> None:
    """Owner and mode are named; who trusts it says so."""
    os.chown(run, OTHER, OTHER)
    run.chmod(0o777)
    words = await refused(run)
    assert f"{run} belongs to uid {OTHER}, and every user may write to it (mode 0777)" in words
    run.chmod(0o1777)
    await refused(run)
    await accepted(run, trusted=True)


@as_root
@pytest.mark.parametrize(
    ("owner", "mode"),
    [
        (0, 0o700),
        (0, 0o777),  # an empty volume of Kubernetes; ours in WSL
        (0, 0o1777),
        (OTHER, 0o755),  # root runs in a user's directory
        (OTHER, 0o2775),  # a team's
        (OTHER, 0o770),
    ],
)
async def test_other_directories_are_fine(run: Path, owner: int, mode: int) -> None:
    """Our own, root's, a user's for whom root runs, and a team's."""
    run.chmod(mode)
    os.chown(run, owner, owner)
    await accepted(run)


@as_root
async def test_a_team_shares_its_directory() -> None:
    """A member who is not root uses a directory that another member made, with the group's bit set."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # pytest's own lets no other user in
        team = Path(folder, "team")
        team.mkdir()
        os.chown(team, OTHER, OTHER)
        team.chmod(0o2775)
        groups = os.getgroups()
        try:
            os.setgroups([OTHER])
            os.seteuid(THIRD)
            await accepted(team)
        finally:
            os.seteuid(0)
            os.setgroups(groups)
        assert (team / "journal.jsonl").stat().st_uid == THIRD


async def test_a_new_directory_is_ours(tmp_path: Path) -> None:
    """Also inside one that every user may write to: it is made for its owner only."""
    tmp_path.chmod(0o777)
    await accepted(tmp_path / "nights" / "monday")
    assert stat.S_IMODE((tmp_path / "nights").stat().st_mode) == 0o700


async def test_the_directory_itself_may_be_a_link(run: Path, tmp_path: Path) -> None:
    """Whoever names a link means what it leads to, and that is what is looked at."""
    (tmp_path / "today").symlink_to(run)
    (tmp_path / "folder").symlink_to(tmp_path)
    await accepted(tmp_path / "today")
    await accepted(tmp_path / "folder" / "run")
    (run / "plan.jsonl").symlink_to(tmp_path / "elsewhere")
    assert "plan.jsonl is a link" in await refused(tmp_path / "today")


# --- Files ----------------------------------------------------------------------------------------------------------

NAMES = ["run.json", "plan.jsonl", "manifest.json", "tune.json", "cancel.json", "lock", "failures.12.jsonl"]
NAMES += ["retry.12.jsonl", "sandbox", *map(str, Log)]


@pytest.mark.parametrize("name", NAMES)
async def test_links_in_the_place_of_files_are_refused(run: Path, tmp_path: Path, name: str) -> None:
    """Whether something is there or not; nothing is made or changed where the link leads."""
    target = tmp_path / "target"
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(target)
    assert f"{name} is a link to {target}, " in await refused(run)
    assert not target.exists()
    if name == "sandbox":
        target.mkdir()
    else:
        target.write_bytes(b"precious")
    assert f"{name} is a link to {target}" in await refused(run)
    assert name == "sandbox" or target.read_bytes() == b"precious"


async def test_a_link_to_the_sandboxs_jobs_is_refused(run: Path, tmp_path: Path) -> None:
    """Also where the folder is none."""
    (run / "sandbox").mkdir()
    (run / "sandbox" / "jobs.jsonl").symlink_to(tmp_path / "target")
    assert "sandbox/jobs.jsonl is a link to " in await refused(run)


async def test_where_a_link_leads_reaches_no_terminal_as_it_is(run: Path) -> None:
    """Another user may have chosen the words: escape codes and line breaks are replaced."""
    (run / "plan.jsonl").symlink_to("evil\x1b[2J\nerror: nothing")
    words = await refused(run)
    assert words.isprintable()
    assert "evil [2J error: nothing" in words


async def test_all_links_are_named_at_once(run: Path, tmp_path: Path) -> None:
    """One message names all of them."""
    (tmp_path / "target").touch()
    for name in ("plan.jsonl", "manifest.json"):
        (run / name).symlink_to(tmp_path / "target")
    words = await refused(run)
    assert "plan.jsonl is a link" in words
    assert "manifest.json is a link" in words


@pytest.mark.parametrize("name", ["shards", "shards/00000", "shards/00042"])
async def test_links_in_the_place_of_shards_are_refused(run: Path, tmp_path: Path, name: str) -> None:
    """A shard's journal and results would be written elsewhere. Who trusts the directory has them followed."""
    (tmp_path / "elsewhere").mkdir()
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(tmp_path / "elsewhere")
    assert f"{name} is a link to {tmp_path / 'elsewhere'}" in await refused(run)
    await accepted(run, trusted=True)


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    "make",
    [Path.touch, os.mkfifo, lambda path: path.symlink_to("nowhere"), lambda path: path.symlink_to(path.name)],
    ids=["file", "pipe", "dangling", "circle"],
)
async def test_a_shard_that_is_no_folder_is_refused_by_whom_ever(
    run: Path, make: Callable[[Path], None], trusted: bool
) -> None:
    """Also where the directory is trusted: nothing can be written there."""
    (run / "shards" / "00000").mkdir(parents=True)
    make(run / "shards" / "00001")
    (run / "shards" / "notes").symlink_to("nowhere")  # none of ours
    assert "run: shards/00001 is " in await refused(run, trusted=trusted)
    (run / "shards" / "00001").unlink()
    await accepted(run, trusted=trusted)


@as_root
async def test_other_users_shards_are_refused_where_all_may_put_them(run: Path) -> None:
    """Anybody may have made the shard, and say in its run.json what is sent where."""
    (run / "shards" / "00000").mkdir(parents=True)
    os.chown(run / "shards" / "00000", OTHER, OTHER)
    await accepted(run)  # only we may write to `shards`, so we let it be there
    (run / "shards").chmod(0o777)
    assert f"shards/00000 belongs to uid {OTHER}, and every user may put files there" in await refused(run)
    await accepted(run, trusted=True)


@pytest.mark.parametrize("trusted", [False, True])
async def test_a_run_directory_that_leads_nowhere_is_named(run: Path, trusted: bool) -> None:
    """A link to a directory that isn't there is no directory of this name: the words say so."""
    (run / "link").symlink_to("nowhere")
    for directory in (run / "link", run / "link" / "inner"):
        with pytest.raises(RunDirectoryError, match="link is a link to nowhere, where nothing is") as caught:
            await DiskStore(directory, trusted=trusted).prepare()
        assert caught.value.hint
    assert not (run / "nowhere").exists()


async def test_links_that_are_trusted_are_followed(run: Path, tmp_path: Path) -> None:
    """A journal on another disk: what is appended goes there."""
    target = tmp_path / "journal"
    target.write_bytes(b"")
    (run / "journal.jsonl").unlink()
    (run / "journal.jsonl").symlink_to(target)
    await refused(run)
    await accepted(run, trusted=True)
    assert target.read_bytes() == b"fact\n"


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("name", ["journal.jsonl", "results.jsonl", "run.json", "lock"])
@pytest.mark.parametrize(
    "make",
    [os.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere"), lambda path: path.symlink_to(path.name)],
    ids=["folder", "pipe", "dangling", "circle"],
)
async def test_what_is_no_file_is_refused_by_whom_ever(
    run: Path, name: str, make: Callable[[Path], None], trusted: bool
) -> None:
    """A folder, a pipe that would be waited for, or a link that leads nowhere: also where the directory is trusted."""
    (run / name).unlink(missing_ok=True)
    make(run / name)
    assert f"{name} is " in await refused(run, trusted=trusted)
    assert not (run / "nowhere").exists()


async def test_other_peoples_links_beside_the_run_are_none_of_ours(run: Path) -> None:
    """Only names of a run's files count: notes, a link to a report, hidden files stay as they are."""
    for name in ("notes", "report.html", ".hidden", "failures.x.jsonl"):
        (run / name).symlink_to("nowhere")
    await accepted(run)


@as_root
async def test_other_users_files_are_refused_where_all_may_put_them(run: Path) -> None:
    """In root's directory for all, the plan of another user may be an attack; in a team's it is a colleague's."""
    os.chown(run / "run.json", OTHER, OTHER)
    run.chmod(0o777)
    assert f"run.json belongs to uid {OTHER}, and every user may put files there" in await refused(run)
    await accepted(run, trusted=True)
    run.chmod(0o2775)
    await accepted(run)


# --- While a run is on ----------------------------------------------------------------------------------------------


async def test_a_link_that_comes_later_is_not_followed(run: Path, tmp_path: Path) -> None:
    """Somebody puts a link in the place of a log between the check and the first append: an error, and no file."""
    (run / "journal.jsonl").unlink()
    store = DiskStore(run)
    await store.prepare()
    (run / "journal.jsonl").symlink_to(tmp_path / "target")
    store.append(Log.JOURNAL, b"fact\n")
    with pytest.raises(RunDirectoryError, match=r"journal\.jsonl is a link that is not followed"):
        await store.commit()
    with pytest.raises((RunDirectoryError, StoreError)):
        await store.commit()
    assert not (tmp_path / "target").exists()
    (tmp_path / "target").write_bytes(b"precious")
    with pytest.raises(RunDirectoryError, match=r"journal\.jsonl is a link that is not followed"):
        await DiskStore(run).open_log(Log.JOURNAL, 0)
    assert (tmp_path / "target").read_bytes() == b"precious"


async def test_giving_the_lock_up_empties_no_other_file(run: Path, tmp_path: Path) -> None:
    """The lock's file was exchanged for a link while the run was on: the link's target stays as it is."""
    (tmp_path / "target").write_bytes(b"precious")
    async with hold(run):
        (run / "lock").unlink()
        (run / "lock").symlink_to(tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"precious"


async def test_a_place_hands_its_trust_on(run: Path, tmp_path: Path) -> None:
    """What `place_of` is given, the store that it opens knows."""
    (tmp_path / "target").touch()
    (run / "results.jsonl").unlink()
    (run / "results.jsonl").symlink_to(tmp_path / "target")
    await place_of(run, trusted=True).open().prepare()
    with pytest.raises(RunDirectoryError):
        await place_of(str(run)).open().prepare()
