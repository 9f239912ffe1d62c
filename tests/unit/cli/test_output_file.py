"""Small files for other programs: replaced where they are plain files, written to where they are anything else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from classify_batch.cli.rendering import output_file
from classify_batch.cli.rendering.output_file import overwrite_output, replace_output


def test_a_plain_file_is_replaced_whole(tmp_path: Path) -> None:
    """Whoever reads the old one reads on; everybody may read the new one, and nothing is left beside it."""
    path = tmp_path / "out"
    path.write_text("old")
    with path.open() as reader:
        replace_output(path, b"new")
        assert reader.read() == "old"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) & 0o444
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [replace_output, overwrite_output])
def test_a_pipe_is_written_to_and_stays(tmp_path: Path, write: output_file.Write) -> None:
    """As with a device: whoever is root would take it from everybody."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(path, b"new")
        assert os.read(reader, 100) == b"new"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(path.lstat().st_mode)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [replace_output, overwrite_output])
def test_a_pipe_that_nobody_reads_is_an_error(tmp_path: Path, write: output_file.Write) -> None:
    """At once: the command ends although nobody comes."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device or address"):
        write(tmp_path / "pipe", b"new")


@pytest.mark.parametrize("write", [replace_output, overwrite_output])
def test_a_link_of_the_system_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: output_file.Write
) -> None:
    """`/dev/stdout` leads to a plain file where stdout goes to one: what stands there stays, and so does the link."""
    monkeypatch.setattr(output_file, "_OF_THE_SYSTEM", (tmp_path,))
    target, link = tmp_path / "log", tmp_path / "stdout"
    target.write_text("before\n")
    link.symlink_to(target)
    write(link, b"new\n")
    assert link.is_symlink()
    assert target.read_text() == "before\nnew\n"


def test_nothing_is_left_beside_a_file_that_can_not_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mounted file can't be: the other way overwrites all of it."""
    path = tmp_path / "mounted"
    path.write_text("before, and longer")
    inode = path.stat().st_ino

    def refuse(self: Path, target: Path) -> Path:
        raise OSError("busy")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="busy"):
        replace_output(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
    overwrite_output(path, b"new")
    assert (path.read_bytes(), path.stat().st_ino) == (b"new", inode)
