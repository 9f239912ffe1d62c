"""What of a folder never leaves, in mean cases: links, second names, other runs, what is no file; and odd names."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from classify_batch.inputs import folder
from tests.support.command_line import KEY, asked, command, sandbox
from tests.support.folder_run import INVOICE, configure, lines, listed, make_inbox, run_words


@pytest.fixture
def server() -> Iterator[str]:
    """The base URL of a sandbox."""
    with sandbox() as base_url:
        yield base_url


@pytest.fixture
def place(tmp_path: Path, server: str) -> Path:
    """A folder that holds an inbox of three contents at four paths, and its config."""
    configure(make_inbox(tmp_path), server)
    return tmp_path


def paths_of(place: Path, name: str = "today") -> set[str]:
    """The paths of all documents that were answered."""
    carried = [each["carried"] for each in lines(place, name)]
    return {str(each["path"]) for one in carried for each in (one if isinstance(one, list) else [one])}


FOUR = {"a.txt", "copy.txt", "sub/b.txt", "c.md"}


@pytest.mark.parametrize("how", ["its name", "a link above it", "dots", "a link to the folder"])
def test_the_run_directory_in_the_folder_never_leaves(place: Path, how: str) -> None:
    """Whatever way leads to it, neither its report nor its exports are documents, of its run or of another."""
    inbox = place / "inbox"
    (inbox / "runs").mkdir()
    (place / "way").symlink_to(inbox if how == "a link to the folder" else inbox / "runs")
    run_dir = {
        "its name": "inbox/runs/x",
        "a link above it": "way/x",
        "dots": "inbox/sub/../runs/x",
        "a link to the folder": "way/runs/x",
    }[how]
    source = "way" if how == "a link to the folder" else "inbox"
    words = ["run", "c.toml", "--input", source, "--run-dir", run_dir]
    command(*words, folder=place, status=0)
    command("report", run_dir, folder=place, status=0)
    command("export", run_dir, f"{run_dir}/all.csv", folder=place, status=0)
    assert "protected" in command(*words, folder=place, status=0).stderr
    command(*run_words("second"), folder=place, status=0)  # another run, for which the first is no own directory
    assert paths_of(place, "second") == FOUR
    assert "run directory" in command("check", "c.toml", "--input", "inbox", folder=place, status=0).stdout


def test_a_folder_that_is_the_run_directory_is_refused(place: Path) -> None:
    """Its own files would be its documents."""
    said = command("run", "c.toml", "--input", "inbox", "--run-dir", "inbox", folder=place, status=2).stderr
    assert "is the run directory itself" in said
    assert "hint:" in said
    assert not (place / "inbox" / "run.json").exists()


@pytest.mark.parametrize(("name", "mark"), [("ids.csv", None), ("IDS.Parquet", None), ("export", "_SUCCESS")])
def test_a_table_in_parts_is_no_folder_of_documents(place: Path, name: str, mark: str | None) -> None:
    """Spark writes a folder in the place of a table: its parts hold file IDs, and are neither uploaded nor paid."""
    (place / name).mkdir()
    (place / name / "part-00000.csv").write_text("file_id\nfile-1\n")
    if mark is not None:
        (place / name / mark).touch()
    for words in (("run", "c.toml", "--run-dir", "today"), ("check", "c.toml")):
        done = command(*words, "--input", name, folder=place, status=2)
        assert f"{name} is a table in parts" in done.stdout + done.stderr
        assert "hint:" in done.stdout + done.stderr
    assert not (place / "today").exists()
    command("plan", "c.toml", "--input", f"{name}/part-00000.csv", "--run-dir", "today", folder=place, status=0)


@pytest.mark.parametrize("how", ["its name", "a link", "a hard link"])
def test_the_file_of_the_key_never_leaves(place: Path, server: str, how: str) -> None:
    """Neither under its own name, nor under a second one."""
    key = place / "inbox" / "key.txt"
    key.write_text("llx-s3cr3t-key\n")
    named = place / "elsewhere.txt"
    if how == "a link":
        named.symlink_to(key)
    elif how == "a hard link":
        os.link(key, named)
    else:
        named = key
    environ = {"LLAMA_CLOUD_API_KEY": None, "LLAMA_CLOUD_API_KEY_FILE": str(named)}
    said = command(*run_words(), folder=place, status=0, environ=environ).stderr
    assert "1 protected" in said
    assert paths_of(place) == FOUR
    assert len(listed(place, server)) == 3


def test_the_file_of_an_accounts_key_never_leaves(place: Path, server: str) -> None:
    """An account's variable has a name of its own; `check` and `run` leave the file that it names alone."""
    configure(place, server, more='[[accounts]]\nname = "east"\napi_key_env = "EAST_KEY"')
    key = place / "inbox" / "east.txt"
    key.write_text(f"{KEY}\n")
    environ = {"LLAMA_CLOUD_API_KEY": None, "EAST_KEY_FILE": str(key)}
    checked = command("check", "c.toml", "--input", "inbox", folder=place, status=0, environ=environ).stdout
    assert "1 protected" in checked
    assert "1 protected" in command(*run_words(), "--shards", "1", folder=place, status=0, environ=environ).stderr
    assert paths_of(place, "today/shards/00000") == FOUR
    assert len(listed(place, server)) == 3


@pytest.mark.parametrize("how", ["in a folder", "by its name"])
def test_files_upload_sends_no_key(place: Path, server: str, how: str) -> None:
    """The file of the key is named on stderr as failed, and the others are uploaded (1)."""
    key = place / "inbox" / "key.json"
    key.write_text(f"{KEY}\n")
    environ = {"LLAMA_CLOUD_API_KEY": None, "LLAMA_CLOUD_API_KEY_FILE": str(key)}
    paths = ["--recursive", "inbox"] if how == "in a folder" else ["inbox/a.txt", "inbox/key.json"]
    done = command("files", "upload", *paths, "--base-url", server, folder=place, status=1, environ=environ)
    assert "failed: inbox/key.json: it holds the API key, which never leaves" in done.stderr
    assert "key.json" not in done.stdout
    assert {each["name"] for each in listed(place, server)}.isdisjoint({"key.json"})
    assert listed(place, server)


def test_what_is_hidden_or_no_document_is_counted_and_stays(
    place: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, in every case of letters; pipes and sockets; links to files, to folders, in circles, and to nowhere."""
    inbox = place / "inbox"
    for name in (".env", ".ENV", ".env.txt", ".hidden.pdf"):
        (inbox / name).write_text("SECRET=1")
    (inbox / ".git").mkdir()
    (inbox / ".git" / "notes.txt").write_text("secret")
    for name in (
        "prod.env",
        "id_rsa",
        "server.pem",
        "server.key",
        "SERVER.KEY",
        "x.p12",
        "no suffix",
        "txt",
        "trailing.",
    ):
        (inbox / name).write_text("SECRET=1")
    os.mkfifo(inbox / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(inbox)  # a socket's path is short
        listening.bind("socket.txt")
        (inbox / "circle").symlink_to(inbox)
        (inbox / "sub" / "up").symlink_to("..")
        (inbox / "itself.txt").symlink_to("itself.txt")
        (inbox / "nowhere.txt").symlink_to("nowhere")
        (inbox / "passwd.txt").symlink_to("/etc/passwd")
        (inbox / "UPPER.TXT").write_text(INVOICE + " upper")
        (inbox / "Mixed.PdF").write_text(INVOICE + " mixed")
        said = command(*run_words(), folder=place, status=0).stderr
    assert "5 hidden, 5 link, 2 no regular file, 9 other suffix" in said
    assert paths_of(place) == FOUR | {"UPPER.TXT", "Mixed.PdF"}
    assert len(listed(place, server)) == 5


ODD_NAMES = (
    b"caf\xe9 latin-1.txt",
    b"\xff\xfe.txt",
    b"new\nline.txt",
    b"tab\there.txt",
    b"esc\x1b[31mred.txt",
    b"bell\x07.txt",
    b'quote".txt',
    b"back\\slash.txt",
    "\u202eright to left.txt".encode(),
    "日本語.txt".encode(),
    b"-rf.txt",
    b"a,b;c.txt",
    b" lead and trail .txt",
    b"*.txt",
)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_documents_of_any_name_are_answered_by_it(place: Path, server: str, version: str) -> None:
    """Names are bytes: each comes back as Python reads it from the disk, uploads and messages are text, and nothing
    that is printed moves a terminal."""
    configure(place, server, version)
    for number, name in enumerate(ODD_NAMES):
        (place / "inbox" / os.fsdecode(name)).write_text(f"{INVOICE} odd {number}")
    (place / "inbox" / os.fsdecode(b"odd\xff\n")).mkdir()
    (place / "inbox" / os.fsdecode(b"odd\xff\n") / "empty\x1b[2J.txt").touch()
    command("check", "c.toml", "--input", "inbox", folder=place, status=0)
    done = command(*run_words(), folder=place, status=1)
    assert "\x1b" not in done.stdout + done.stderr
    assert paths_of(place) == FOUR | set(map(os.fsdecode, ODD_NAMES))
    (failure,) = lines(place, file="failures.jsonl")
    assert os.fsencode(failure["carried"]["path"]) == b"odd\xff\n/empty\x1b[2J.txt"
    assert len(listed(place, server)) == 3 + len(ODD_NAMES)
    for words in (["verify"], ["status"], ["report"]):
        command(*words, "runs/today", folder=place, status=0)
    command("export", "runs/today", "all.csv", folder=place, status=0)
    command(*run_words("again", "--reuse", "runs/today"), folder=place, status=1)
    assert asked(server)["files_billed"] == 3 + len(ODD_NAMES)


def test_a_folder_that_goes_away_while_it_is_read_is_no_plan(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a folder must not become a whole run."""
    hash_document = folder.hash_document

    def hash_and_remove(root: Path, path: str) -> tuple[str, int]:
        if path == "c.md":
            root.rename(place / "away")
        return hash_document(root, path)

    monkeypatch.setattr(folder, "hash_document", hash_and_remove)
    said = command(*run_words(), folder=place, status=2).stderr
    assert "is not there as it was" in said
    assert not (place / "runs" / "today" / "run.json").exists()
