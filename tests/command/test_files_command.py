"""`classify-batch files`: nothing is uploaded twice, nothing big is held in memory, and each failure has its reason."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from classify_batch.sandbox.server.uploads import read_uploads
from tests.support.command_line import (
    PATIENCE_S,
    WIDTH,
    Call,
    calling,
    command,
    environment,
    on_a_terminal,
    sandbox,
    served,
)
from tests.support.start_command import COMMAND, CommandProcess, run_process

PATH = "/api/v1/beta/files"
BIG_BYTES = 160 * 1024 * 1024


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """`classify-batch files`, in this process."""
    return calling(capsys, monkeypatch, tmp_path, "files", patience_s="2")


def external_id(content: bytes) -> str:
    return f"sha256-{hashlib.sha256(content).hexdigest()}"


# --- A store of files with habits -------------------------------------------------------------------------------------


@dataclass
class Habits:
    """What a store does to uploads and looks; each is asked with the number of the call, from 1."""

    upload: Callable[[int, str], int] = lambda _number, _name: 200
    """The status of an upload; 0: it is kept, and the connection ends without an answer."""
    look: Callable[[int], int] = lambda _number: 200
    expires_at: str | None = None
    heeds_filter: bool = True


class Store(ThreadingHTTPServer):
    """Keeps what is uploaded, by the vendor's description; it shares no code with the program or its sandbox."""

    daemon_threads = True

    def __init__(self, habits: Habits) -> None:
        super().__init__(("127.0.0.1", 0), _StoreHandler)
        self.habits = habits
        self.files: list[dict[str, Any]] = []
        self.calls: Counter[str] = Counter()
        self.at_once = self.at_once_max = 0
        self.awaited_at_once = 0
        """The first uploads are answered when so many are under way."""
        self.all_are_here = threading.Event()
        self.lock = threading.Lock()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client that went away."""


class _StoreHandler(BaseHTTPRequestHandler):
    server: Store
    protocol_version = "HTTP/1.1"

    def log_message(self, *_words: object) -> None:
        pass

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.calls["look"] += 1
            status = self.server.habits.look(self.server.calls["look"])
            wanted = parse_qs(urlsplit(self.path).query).get("external_file_id")
            heeds = self.server.habits.heeds_filter and wanted is not None
            items = [each for each in self.server.files if not heeds or [each["external_file_id"]] == wanted]
        self._say(status, {"items": items, "next_page_token": None} if status == 200 else {"detail": "no"})

    def do_POST(self) -> None:
        assert urlsplit(self.path).path == PATH
        with self.server.lock:
            self.server.calls["upload"] += 1
            number = self.server.calls["upload"]
            self.server.at_once += 1
            self.server.at_once_max = max(self.server.at_once_max, self.server.at_once)
            if self.server.at_once >= self.server.awaited_at_once:
                self.server.all_are_here.set()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts: dict[str, Any] = {}
        for part in BytesParser().parsebytes(head + body).get_payload():
            assert not isinstance(part, str)
            name = part.get_param("name", header="content-disposition")
            parts[str(name)] = (part.get_filename(), part.get_payload(decode=True))
        self.server.all_are_here.wait(PATIENCE_S)
        time.sleep(0.02)
        with self.server.lock:
            self.server.at_once -= 1
            file_name, content = parts["file"]
            status = self.server.habits.upload(number, file_name)
            stored = {
                "id": f"id-{number}",
                "name": file_name,
                "external_file_id": parts["external_file_id"][1].decode(),
                "purpose": parts["purpose"][1].decode(),
                "expires_at": self.server.habits.expires_at,
                "content": hashlib.sha256(content).hexdigest(),
            }
            if status in (0, 200):
                self.server.files.append(stored)
        if status == 0:
            self.close_connection = True
        else:
            self._say(status, stored if status == 200 else {"detail": f"not {file_name}"})

    def _say(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def store(**habits: Any) -> Iterator[Store]:
    with served(Store(Habits(**habits))) as server:
        yield server


def write(folder: Path, count: int) -> list[Path]:
    """So many files, each of another content."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:02}.txt" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_text(f"document {number}\r\n--boundary--\r\n")
    return paths


# --- Upload -----------------------------------------------------------------------------------------------------------


def test_each_uploaded_file_is_printed_as_a_line_of_json(call: Call, tmp_path: Path) -> None:
    """Each file arrives whole, known by its content, and its line names path, id and name; folders are searched."""
    paths = write(tmp_path / "in" / "deep", 5) + write(tmp_path / "other", 1)
    (tmp_path / "in" / "empty.bin").write_bytes(b"")
    (tmp_path / "in" / ".hidden").write_text("not this one")
    write(tmp_path / "in" / ".git", 1)
    odd = tmp_path / "in" / 'ä "quoted"\n.txt'
    odd.write_bytes(bytes(range(256)))
    with store() as server:
        done = call(server.base_url, "upload", "--recursive", "in", "other/00.txt")
    assert done.status == 0, done.err
    expected = [path.relative_to(tmp_path) for path in [*paths, odd, tmp_path / "in" / "empty.bin"]]
    assert sorted(line["path"] for line in done.lines) == sorted(map(str, expected))
    kept = {each["id"]: each for each in server.files}
    for line in done.lines:
        assert set(line) == {"path", "file_id", "external_file_id", "name"}
        content = (tmp_path / line["path"]).read_bytes()
        assert line["external_file_id"] == external_id(content)
        assert kept[line["file_id"]]["external_file_id"] == external_id(content)
        assert kept[line["file_id"]]["content"] == hashlib.sha256(content).hexdigest()
        assert kept[line["file_id"]]["purpose"] == "classify"
    assert len(kept) == len(server.files) == 7, "two of the eight are copies"
    assert "7 files uploaded, 1 were there already, 0 failed" in done.err


def test_the_same_command_again_sends_nothing(call: Call, tmp_path: Path) -> None:
    """What is there is found by its content, also under another name; what is new goes up."""
    write(tmp_path / "in", 3)
    with store() as server:
        first = call(server.base_url, "upload", "in", "--recursive")
        again = call(server.base_url, "upload", "in", "--recursive")
        assert server.calls["upload"] == 3
        (tmp_path / "in" / "00.txt").rename(tmp_path / "in" / "renamed.txt")
        (tmp_path / "in" / "new.txt").write_text("new")
        third = call(server.base_url, "upload", "in", "--recursive")
        assert server.calls["upload"] == 4
    assert sorted(first.lines, key=str) == sorted(again.lines, key=str)
    assert "0 files uploaded, 3 were there already" in again.err
    assert "1 files uploaded, 3 were there already" in third.err
    ids = {line["path"]: line["file_id"] for line in first.lines}
    assert {line["path"]: line["file_id"] for line in third.lines}["in/renamed.txt"] == ids["in/00.txt"]


def test_copies_of_a_file_are_uploaded_once(call: Call, tmp_path: Path) -> None:
    """Also when they are uploaded at the same time."""
    for number in range(12):
        (tmp_path / f"copy-{number}.txt").write_text("the same")
    with store() as server:
        done = call(server.base_url, "upload", "--concurrency", "6", *(f"copy-{number}.txt" for number in range(12)))
        assert server.calls["upload"] == 1
    assert {line["file_id"] for line in done.lines} == {"id-1"}
    assert len(done.lines) == 12


def test_an_upload_whose_answer_was_lost_is_looked_up_before_a_retry(call: Call, tmp_path: Path) -> None:
    """Every third upload is kept and its answer lost: each content is there once."""
    write(tmp_path / "in", 9)
    with store(upload=lambda number, _name: 0 if number % 3 == 0 else 200) as server:
        done = call(server.base_url, "upload", "--recursive", "in")
        assert server.calls["upload"] == 9
    assert done.status == 0, done.err
    assert set(Counter(each["external_file_id"] for each in server.files).values()) == {1}
    assert len(done.lines) == len(server.files) == 9


def test_an_upload_is_retried_after_503_and_429(call: Call, tmp_path: Path) -> None:
    """503 and 429 are for later."""
    write(tmp_path / "in", 2)
    with store(upload=lambda number, _name: {1: 503, 2: 429}.get(number, 200)) as server:
        done = call(server.base_url, "upload", "--recursive", "in")
    assert (done.status, len(done.lines), len(server.files)) == (0, 2, 2)


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_file_that_the_api_refuses_is_named(call: Call, tmp_path: Path, status: int) -> None:
    """Its path and the API's words go to stderr, the others go up, and the command exits with 1."""
    write(tmp_path / "in", 4)
    with store(upload=lambda _number, name: status if name == "02.txt" else 200) as server:
        done = call(server.base_url, "upload", "--recursive", "in")
        assert server.calls["upload"] == 4
    assert done.status == 1
    assert f"failed: in/02.txt: upload: HTTP {status}: not 02.txt\n" in done.err
    assert "3 files uploaded, 0 were there already, 1 failed" in done.err
    assert len(done.lines) == 3


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "check LLAMA_CLOUD_API_KEY"), (402, "buy credits"), (403, "check LLAMA_CLOUD_API_KEY"), (404, "HTTP 404")],
)
def test_a_bad_key_ends_an_upload_with_77(call: Call, tmp_path: Path, status: int, words: str) -> None:
    """Key, credits and address concern no single file: 77, after what was uploaded."""
    write(tmp_path / "in", 9)
    with store(upload=lambda number, _name: status if number > 3 else 200) as server:
        done = call(server.base_url, "upload", "--recursive", "--concurrency", "1", "in")
    assert (done.status, words in done.err) == (77, True)
    assert len(done.lines) == 3
    assert "3 files uploaded" in done.err


def test_an_api_that_is_down_ends_an_upload_with_75(call: Call, tmp_path: Path) -> None:
    """75 once patience ends; what had gone up is printed, and the same command goes on from there."""
    write(tmp_path / "in", 5)
    down = [True]
    with store(upload=lambda number, _name: 503 if down[0] and number > 2 else 200) as server:
        done = call(server.base_url, "upload", "--recursive", "--concurrency", "1", "in")
        assert (done.status, len(done.lines)) == (75, 2), done.err
        assert "upload: HTTP 503" in done.err
        down[0] = False
        done = call(server.base_url, "upload", "--recursive", "in")
    assert (done.status, len(done.lines), len(server.files)) == (0, 5, 5)


def test_an_expired_file_is_uploaded_again(call: Call, tmp_path: Path) -> None:
    """A file that the API still lists, but doesn't read anymore, is missing."""
    [path] = write(tmp_path, 1)
    with store(expires_at="2020-01-01T00:00:00Z") as server:
        for _ in range(2):
            assert call(server.base_url, "upload", path.name).status == 0
        assert server.calls["upload"] == 2
    with store(expires_at="2999-01-01T00:00:00Z") as server:
        for _ in range(2):
            assert call(server.base_url, "upload", path.name).status == 0
        assert server.calls["upload"] == 1


def test_a_server_without_filters_is_handled(call: Call, tmp_path: Path) -> None:
    """Another file of the list is never taken for ours."""
    write(tmp_path / "in", 3)
    with store(heeds_filter=False) as server:
        done = call(server.base_url, "upload", "--recursive", "in", "--concurrency", "1")
    assert len({line["file_id"] for line in done.lines}) == 3
    for line in done.lines:
        assert line["external_file_id"] == external_id((tmp_path / line["path"]).read_bytes())


def test_concurrency_bounds_the_uploads_in_flight(call: Call, tmp_path: Path) -> None:
    """`--concurrency` bounds the uploads that are under way, and reaches the bound."""
    write(tmp_path / "in", 20)
    for asked in (1, 3):
        with store() as server:
            server.awaited_at_once = asked
            assert call(server.base_url, "upload", "--recursive", "in", "--concurrency", str(asked)).status == 0
        assert server.at_once_max == asked


def test_files_that_can_not_be_read_fail_with_their_reason(call: Call, tmp_path: Path) -> None:
    """A pipe and a broken link fail with their reason; nobody waits for the pipe."""
    write(tmp_path / "in", 1)
    os.mkfifo(tmp_path / "in" / "pipe")
    (tmp_path / "in" / "link\x1b").symlink_to("gone")
    with store() as server:
        done = call(server.base_url, "upload", "--recursive", "in")
    assert done.status == 1
    assert "failed: in/pipe: it is not a regular file\n" in done.err
    assert "failed: in/link: No such file or directory\n" in done.err
    assert len(done.lines) == 1


def test_the_file_of_the_key_is_never_uploaded(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither out of a folder, nor by its own name, nor by a link or a second name."""
    write(tmp_path / "in", 1)
    (tmp_path / "in" / "key.txt").write_text("llx-s3cr3t-key")
    (tmp_path / "in" / "link.txt").symlink_to("key.txt")
    os.link(tmp_path / "in" / "key.txt", tmp_path / "in" / "other.txt")
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY_FILE", str(tmp_path / "in" / "key.txt"))
    with store() as server:
        done = call(server.base_url, "upload", "--recursive", "in", "in/key.txt")
    assert done.status == 1
    assert [line["path"] for line in done.lines] == ["in/00.txt"]
    assert [each["external_file_id"] for each in server.files] == [done.lines[0]["external_file_id"]]
    for name in ("key.txt", "link.txt", "other.txt"):
        assert f"failed: in/{name}: it holds the API key, which never leaves\n" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing argument 'PATH...'"),
        (("",), "it is empty (is a variable not set?)"),
        (("gone", "00.txt", "lost"), "there is no gone, lost"),
        (("folder", "00.txt"), "folder is a folder"),
        (("--recursive", "folder"), "the given paths hold no file"),
        (("00.txt", "--concurrency", "0"), "Invalid value for '--concurrency'"),
        (("00.txt", "--base-url", "sandbox"), "lives as long as a run"),
    ],
)
def test_wrong_usage_sends_nothing(call: Call, tmp_path: Path, arguments: Sequence[str], words: str) -> None:
    """All that is wrong with the paths is named at once, with 2."""
    write(tmp_path, 1)
    (tmp_path / "folder").mkdir()
    with store() as server:
        at = () if "--base-url" in arguments else ("--base-url", server.base_url)
        done = call(None, "upload", *arguments, *at)
        assert not server.calls
    assert (done.status, words in done.err) == (2, True), done.err
    assert "\nhint: " in done.err


@pytest.mark.slow
def test_a_big_file_is_never_held_in_memory(tmp_path: Path) -> None:
    """160 MiB go up in a process that takes no more than a small file's, and a half."""
    (tmp_path / "small").write_bytes(b"x")
    with (tmp_path / "big").open("wb") as file:
        file.truncate(BIG_BYTES)
    script = (
        "import resource, sys\nfrom classify_batch.cli import main\n"
        "try:\n    main.main()\n"
        "finally:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )

    def peak_bytes(name: str) -> int:
        arguments = ["files", "upload", str(tmp_path / name), "--base-url", base_url]
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], env=environment(), capture_output=True, text=True, check=True
        )
        return int(done.stderr.splitlines()[-1]) * 1024

    with sandbox("--ledger", str(tmp_path / "ledger")) as base_url:
        small, big = peak_bytes("small"), peak_bytes("big")
    assert [each.size_bytes for each in read_uploads(tmp_path / "ledger")] == [1, BIG_BYTES]
    assert big - small < 24 * 1024 * 1024


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_upload_and_the_same_command_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    """It leaves at once with 75, says how far it came, and the same command goes on."""
    write(tmp_path / "in", 200)
    signalled = threading.Event()

    def wait_for_signal(upload: int, _name: str) -> int:
        if upload > 20:
            signalled.wait(PATIENCE_S)
        return 200

    with store(upload=wait_for_signal) as server:
        command = [*COMMAND, "files", "upload", "--recursive", "in", "--base-url", server.base_url]
        with CommandProcess(
            command, cwd=tmp_path, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            printed = [process.stdout.readline()]
            process.send_signal(number)
            signalled.set()
            # `communicate` would leave out what `readline` has read ahead.
            printed += process.stdout
            err = process.stderr.read()
            process.wait(timeout=PATIENCE_S)
        assert process.returncode == 75
        told = [json.loads(line) for line in printed]
        assert 0 < len(told) < 200
        assert f"error: interrupted by {number.name}\nhint: the same command goes on" in err
        assert " files uploaded, " in err
        done = run_process(command, cwd=tmp_path, env=environment())
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 200
        assert set(Counter(each["external_file_id"] for each in server.files).values()) == {1}


# --- Against the sandbox ----------------------------------------------------------------------------------------------


def test_uploaded_files_are_an_input_for_a_run(call: Call, tmp_path: Path) -> None:
    """The lines of an upload are the input of a run, also where the project holds documents of its own."""
    paths = write(tmp_path / "in", 7)
    write(tmp_path / "documents", 2)
    (tmp_path / "c.toml").write_text('[job]\nrules = [{ type = "a", description = "anything at all" }]\n')
    with sandbox("--documents", str(tmp_path / "documents"), "--ledger", str(tmp_path / "ledger")) as base_url:
        done = call(base_url, "upload", "--recursive", "in")
        assert done.status == 0, done.err
        (tmp_path / "files.jsonl").write_text(done.out)
        again = call(base_url, "upload", "--recursive", "in")
        assert sorted(done.lines, key=str) == sorted(again.lines, key=str)
        words = ("run", "c.toml", "--input", "files.jsonl", "--run-dir", "run", "--base-url", base_url)
        command(*words, folder=tmp_path, status=0)
        total = json.loads(call(base_url, "list").out)["total_size"]
    results = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert {each["file_id"] for each in results} == {each["file_id"] for each in done.lines}
    assert total == len(paths) + 2
    kept = {each.file_id: each for each in read_uploads(tmp_path / "ledger")}
    for line in done.lines:
        assert kept[line["file_id"]].sha256 == hashlib.sha256((tmp_path / line["path"]).read_bytes()).hexdigest()
    with sandbox("--ledger", str(tmp_path / "ledger")) as base_url:
        assert "0 files uploaded, 7 were there already" in call(base_url, "upload", "--recursive", "in").err


# --- List -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listing() -> Iterator[str]:
    """The base URL of a sandbox whose project lists 25 files."""
    with sandbox("--files", "25") as base_url:
        yield base_url


def test_list_prints_one_page_of_files(call: Call, listing: str) -> None:
    """`list` prints a page as the API tells it, and the options choose which."""
    page = json.loads(call(listing, "list", "--page-size", "10").out)
    assert (len(page["items"]), page["total_size"]) == (10, 25)
    assert {"id", "name", "project_id", "external_file_id", "file_type", "expires_at"} <= set(page["items"][0])
    after = json.loads(call(listing, "list", "--page-size", "10", "--page-token", page["next_page_token"]).out)
    assert len(after["items"]) == 10
    assert page["items"][0] not in after["items"]
    two = [each["id"] for each in after["items"][:2]]
    chosen = json.loads(call(listing, "list", "--file-id", two[0], "--file-id", two[1]).out)
    assert [each["id"] for each in chosen["items"]] == two
    named = json.loads(call(listing, "list", "--name", page["items"][3]["name"]).out)
    assert named["items"] == [page["items"][3]]


def test_list_all_prints_a_line_for_each_file(call: Call, listing: str, tmp_path: Path) -> None:
    """`--all` goes through the pages, a line a file: an input for a run."""
    done = call(listing, "list", "--all", "--page-size", "4")
    assert len({line["id"] for line in done.lines}) == len(done.lines) == 25


def test_a_file_list_that_never_ends_is_an_error(call: Call) -> None:
    """A server that gives out the same token again is not followed for ever."""
    with store() as server:
        server.RequestHandlerClass = _EndlessHandler
        done = call(server.base_url, "list", "--all")
    assert (done.status, "does not come to an end" in done.err) == (2, True)


class _EndlessHandler(_StoreHandler):
    def do_GET(self) -> None:
        self._say(200, {"items": [{"id": "a"}], "next_page_token": "t"})


@pytest.mark.parametrize("options", [("--page-size", "5000"), ("--page-token", "nonsense")])
def test_a_page_that_the_api_refuses_exits_with_77(call: Call, listing: str, options: tuple[str, ...]) -> None:
    """It is for a person."""
    done = call(listing, "list", *options)
    assert (done.status, "files: HTTP 422" in done.err) == (77, True)


def test_a_terminal_shows_files_in_a_table_of_80_columns(listing: str) -> None:
    """80 columns, no id cut, and how to go on."""
    text = on_a_terminal("files", "list", "--page-size", "3", "--base-url", listing, stderr=True)
    lines = text.splitlines()
    assert max(map(len, lines[:4])) <= WIDTH
    assert lines[0].split() == ["id", "name", "type", "expires"]
    assert [len(line.split()[0]) for line in lines[1:4]] == [36, 36, 36]
    told = f"next: classify-batch files list --page-size 3 --base-url {listing} --page-token "
    assert told in " ".join(lines)


def test_every_subcommand_has_help_with_an_example(call: Call) -> None:
    """With an example."""
    for verb in ((), ("upload",), ("list",)):
        done = call(None, *verb, "--help")
        assert (done.status, done.err, "Example" in done.out) == (0, "", True)
