"""Bad input as a user meets it: the real command, one message with a hint, nothing sent, nothing half-written."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from classify_batch.rundir.run_json import FORMAT
from tests.support.command_line import KEY, command, command_process, contents

IDS = [f"file-{number}" for number in range(30)]
RULES = '[{ type = "invoice", description = "has an invoice number and a total" }]'
OPTIONS = ("--input", "ids.txt", "--run-dir", "run")
RUN = ("run", "c.toml", *OPTIONS)


class Place:
    """A folder with a config and an input, beside a server that must never hear of it."""

    def __init__(self, folder: Path, server: socket.socket) -> None:
        self.folder = folder
        self._server = server
        self.base_url = f"http://127.0.0.1:{server.getsockname()[1]}"
        self.configure()
        (folder / "ids.txt").write_text("\n".join(IDS) + "\n")

    def configure(self, text: str = f"[job]\nrules = {RULES}\n") -> None:
        """Writes the config; the server's address stands in its first two lines."""
        (self.folder / "c.toml").write_text(f'[api]\nbase_url = "{self.base_url}"\n{text}')

    def contents_and_events(self) -> tuple[dict[str, bytes | None], bytes]:
        """What is in the folder; apart from it the run's event log, to which a start that fails is added."""
        found = dict(contents(self.folder))
        return found, found.pop("run/events.jsonl", None) or b""

    def refused(self, *arguments: str, stdin: str | None = None, **values: str) -> str:
        """What the command says when it refuses; checks what holds of every refusal."""
        before, told_before = self.contents_and_events()
        if stdin is None:
            done = command(*arguments, folder=self.folder, environ=values)
        else:
            done = command_process(*arguments, folder=self.folder, stdin=stdin, environ=values)
        said = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert [line for line in said if line.startswith("error: ")] == said[:1]
        assert [line for line in said if line.startswith("hint: ")] == said[-1:]
        assert len(said[-1]) > len("hint: ")
        assert KEY not in done.stderr
        after, told = self.contents_and_events()
        assert after == before
        assert told.startswith(told_before)
        with pytest.raises(BlockingIOError):
            self._server.accept()
        return done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[socket.socket]:
    """Listens and never answers; whoever connects stays in its queue."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.fixture
def place(tmp_path: Path, server: socket.socket) -> Place:
    return Place(tmp_path, server)


# --- The key ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"LLAMA_CLOUD_API_KEY": ""}, "no API key"),
        ({"LLAMA_CLOUD_API_KEY": f"{KEY} {KEY}"}, "the API key from LLAMA_CLOUD_API_KEY has spaces"),
        ({"LLAMA_CLOUD_API_KEY": "", "LLAMA_CLOUD_API_KEY_FILE": "absent"}, "absent, which can't be read"),
        ({"LLAMA_CLOUD_API_KEY": "", "LLAMA_CLOUD_API_KEY_FILE": "empty"}, "no API key"),
    ],
)
def test_a_run_without_an_api_key_is_refused_with_a_hint(place: Place, environment: dict[str, str], words: str) -> None:
    """Without a key that can stand in a header nothing begins, and the hint says where one may be put."""
    (place.folder / "empty").touch()
    said = place.refused(*RUN, **environment)
    assert words in said
    assert "export LLAMA_CLOUD_API_KEY=" in said.split("hint: ")[1]


# --- The settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[job]\n", "line 3: job.rules: missing"),
        ("", "job: missing"),
        ("[job]\nrules = []\n", "line 4: job.rules: must not be empty"),
        ("[job]\nrules = 3\n", "line 4: job.rules: must be a list"),
        (f"[job]\nrules = {RULES}\ncolour = 1\n", "line 5: job.colour: unknown setting"),
        (f"[job]\nrules = {RULES}\n[nope]\nx = 1\n", "line 5: nope: unknown setting"),
        (f'key = "{KEY}"\n[job]\nrules = {RULES}\n', "line 3: api.key: unknown setting"),
        (f'[job]\nrules = {RULES}\n[limits]\nattempts = "x"\n', "line 6: limits.attempts: "),
        (f"[job]\nrules = {RULES}\n[limits]\nattempts = true\n", "line 6: limits.attempts: "),
        (f"[job]\nrules = {RULES[:-1]}, {RULES[1:]}\n", "line 4: job.rules: rule types must be unique"),
        ('[[job.rules]]\ntype = "a"\ndescription = "short"\n', "line 5: job.rules.0.description: "),
        (f'[job]\nrules = {RULES}\nmode = "SLOW"\n', "line 5: job.mode: "),
        (
            f'[job]\nrules = {RULES}\n[job.parsing_configuration]\nlang = "xx"\n',
            "line 6: job.parsing_configuration.lang",
        ),
        (f"[job]\nrules = {RULES}\n[plan]\nfiles_per_job = 0\n", "line 6: plan.files_per_job: "),
        (f"[job]\nrules = {RULES}\n[plan]\nfiles_per_job = 501\n", "line 6: plan.files_per_job: "),
        ("[job\n", "not TOML: "),
    ],
)
def test_an_error_in_the_config_names_file_line_and_setting(place: Place, text: str, words: str) -> None:
    """An error in the config is named with file, line and setting."""
    place.configure(text)
    said = place.refused(*RUN)
    assert words in said
    assert "c.toml" in said.splitlines()[0]


def test_all_errors_of_a_config_are_reported_at_once(place: Place) -> None:
    """A config with many errors can be fixed in one go: all are reported, each with its line."""
    place.configure('[job]\nmode = "SLOW"\nrules = []\n[plan]\nfiles_per_job = 0\n[nope]\n')
    said = place.refused(*RUN).splitlines()
    assert said[0] == "error: 4 faults in the settings"
    assert [line.split(": ")[0] for line in said[1:-1]] == [f"  c.toml, line {number}" for number in (4, 5, 7, 8)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLASSIFY_BATCH_NOPE__X", "1"),
        ("CLASSIFY_BATCH_LIMITS__NOPE", KEY),
        ("CLASSIFY_BATCH_LIMITS__ATTEMPTS", "many"),
        ("CLASSIFY_BATCH_PLAN__FILES_PER_JOB", "501"),
        ("CLASSIFY_BATCH_JOB__RULES", "[{"),
        ("LLAMA_CLOUD_BASE_URL", "http://example.com"),
    ],
)
def test_an_error_in_the_environment_names_the_variable(place: Place, name: str, value: str) -> None:
    """An error in the environment names the variable, and no file."""
    said = place.refused(*RUN, **{name: value})
    assert name in said
    assert "c.toml" not in said


def test_the_key_is_never_sent_over_plain_http_to_another_machine(place: Place) -> None:
    """The key is never sent in the clear to another machine, whether by config or by option."""
    said = place.refused(*RUN, "--base-url", "http://192.0.2.1")
    assert "in the clear" in said
    (place.folder / "c.toml").write_text(f'[api]\nbase_url = "http://192.0.2.1"\n[job]\nrules = {RULES}\n')
    assert "c.toml, line 2: api.base_url: http://" in place.refused(*RUN)


def test_an_error_in_an_option_names_the_option(place: Place) -> None:
    """A setting that is wrong as an option is reported as an option."""
    assert "given as an option: plan.files_per_job: " in place.refused(*RUN, "--files-per-job", "501")


@pytest.mark.parametrize("config", ["absent.toml", "."])
def test_a_config_that_can_not_be_read_is_named(place: Place, config: str) -> None:
    """A config that can't be read is named."""
    assert f"config {config} can't be read" in place.refused("run", config, *OPTIONS)


def test_a_missing_documents_folder_is_an_error_before_planning(place: Place) -> None:
    """A folder of documents that isn't there is noticed before anything is planned."""
    (place.folder / "c.toml").write_text(
        f'[api]\nbase_url = "sandbox"\n[job]\nrules = {RULES}\n[sandbox]\ndocuments = "absent"\n'
    )
    assert f"no folder {place.folder / 'absent'}" in place.refused(*RUN)


# --- The input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("absent.txt", None, "'absent.txt' can't be read"),
        ("in.txt", b"", "in.txt holds no file IDs"),
        ("in.txt", b"\n# only a comment\n", "in.txt holds no file IDs"),
        ("in.csv", b"", "in.csv holds no file IDs"),
        ("in.jsonl", b"", "in.jsonl holds no file IDs"),
        ("in.txt", b"a\n\nb c\n", "in.txt, line 3: 'b c' has a space"),
        ("in.txt", b"a\nb\x07c\n", "in.txt, line 2: "),
        ("in.txt", b"a\nb\x1b[31m\n", "in.txt, line 2: "),
        ("in.txt", b"# x\n" + 201 * b"a" + b"\n", "in.txt, line 2: "),
        ("in.txt", b"a\nb\xff\n", "in.txt, line 2: not UTF-8"),
        ("in.csv", b"file_id\na\nb c\n", "in.csv, line 3: 'b c' has a space"),
        ("in.csv", b"id\na\n", "in.csv, line 1: no column 'file_id'; there is 'id'"),
        ("in.jsonl", b'{"file_id": "a"}\n{"file_id": 3}\n', "in.jsonl, line 2: 3 is not a string"),
        ("in.jsonl", b'{"file_id": "a"}\nb\n', "in.jsonl, line 2: "),
        ("in.parquet", b"file_id\na\n", "in.parquet is no parquet file: it doesn't begin like one"),
    ],
)
def test_a_bad_input_names_file_line_and_value(place: Place, name: str, data: bytes | None, words: str) -> None:
    """An input that doesn't hold file IDs is reported with file, line and value, and no directory is made for it."""
    if data is not None:
        (place.folder / name).write_bytes(data)
    said = place.refused("run", "c.toml", "--input", name, "--run-dir", "deep/run")
    assert words in said
    assert said.isprintable() or said.replace("\n", "").isprintable()


def test_a_bad_stdin_is_refused_like_a_file(place: Place) -> None:
    """Stdin is judged like a file; an empty one may be a command before the pipe that failed."""
    arguments = ("run", "c.toml", "--input", "-", "--run-dir", "run")
    assert "stdin holds no file IDs" in place.refused(*arguments, stdin="")
    assert "stdin, line 2: 'b c'" in place.refused(*arguments, stdin="a\nb c\n")


def test_a_bad_input_leaves_an_existing_directory_unchanged(place: Place) -> None:
    """A bad input adds nothing to a directory that was there, whether empty or somebody's."""
    (place.folder / "bad.txt").write_text("a b\n")
    for name in ("empty", "somebodys"):
        (place.folder / name).mkdir()
    (place.folder / "somebodys" / "notes.txt").write_text("mine")
    for name in ("empty", "somebodys"):
        place.refused("run", "c.toml", "--input", "bad.txt", "--run-dir", name)


# --- The run directory ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, server: socket.socket) -> Path:
    """A run that is planned and not begun."""
    place = Place(tmp_path_factory.mktemp("planned"), server)
    command("plan", *RUN[1:], folder=place.folder, status=0)
    return place.folder / "run"


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory, server: socket.socket) -> Path:
    """A complete run of three jobs, one after the other, from the embedded sandbox."""
    place = Place(tmp_path_factory.mktemp("complete"), server)
    options = ("--base-url", "sandbox", "--files-per-job", "10", "--requests-per-s", "500", "--jobs-in-flight", "1")
    command(*RUN, *options, folder=place.folder, status=0)
    return place.folder / "run"


def interrupt(run: Path) -> None:
    """Takes a complete run back to where its last job was not collected yet, as a kill would have left it."""
    (run / "manifest.json").unlink()
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    collected = [number for number, line in enumerate(lines) if json.loads(line)["kind"] == "collected"]
    assert len(collected) > 1, "the test needs jobs that were collected one after the other"
    (run / "journal.jsonl").write_bytes(b"".join(lines[: collected[-1]]))


def replace(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def cut(path: Path, size: int) -> None:
    assert path.stat().st_size > size
    os.truncate(path, size)


def forget_line_2(run: Path) -> None:
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (run / "journal.jsonl").write_bytes(b"".join(lines[:1] + lines[2:]))


@pytest.mark.parametrize("run_dir", ["ids.txt", "ids.txt/run", "ids.txt/deep/run"])
def test_a_run_directory_that_is_a_file_is_refused(place: Place, run_dir: str) -> None:
    """A file is no run directory, and neither is anything below one."""
    assert run_dir in place.refused("run", "c.toml", "--input", "ids.txt", "--run-dir", run_dir)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where nobody can write, not even root")
def test_a_run_directory_that_can_not_be_created_is_refused(place: Place) -> None:
    """Where nothing can be made no run begins, for root neither."""
    for run_dir in ("/proc/run", "/proc/self"):
        said = place.refused("run", "c.toml", "--input", "ids.txt", "--run-dir", run_dir)
        assert f"{run_dir} can't be used as a run directory" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_directory_without_write_permission_is_refused(place: Place) -> None:
    """A directory without the right to write is refused."""
    (place.folder / "run").mkdir(mode=0o500)
    assert "Permission denied" in place.refused(*RUN)


FILE_READERS = ("resume", "status", "verify", "cancel", "report")


@pytest.mark.parametrize(
    "command", [("resume", "run"), ("status", "run"), ("verify", "run"), *((name, "ids.txt") for name in FILE_READERS)]
)
def test_commands_on_a_directory_without_a_run_create_nothing(place: Place, command: tuple[str, str]) -> None:
    """A command on a run says that there is none, and makes no directory."""
    assert f"{command[1]} holds no run" in place.refused(*command)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--base-url", "https://elsewhere.example"), 'base URL (api.base_url): the run has "http://127.0.0.1:'),
        (("--project-id", "p"), 'project (api.project_id): the run has none, the command "p"'),
    ],
)
def test_a_run_of_another_address_or_project_is_refused(
    place: Place, planned: Path, options: tuple[str, ...], words: str
) -> None:
    """A run of another address or project is not gone on with; the message shows both sides."""
    shutil.copytree(planned, place.folder / "run")
    assert words in place.refused("resume", "run", *options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"[job]\nrules = {RULES.replace('invoice', 'letter')}\n", "rules (job.rules): the run has"),
        (f'[job]\nrules = {RULES}\nmode = "MULTIMODAL"\n', 'mode (job.mode): the run has "FAST", the command "MULTI'),
        (
            f"[job]\nrules = {RULES}\nparsing_configuration = {{ max_pages = 3 }}\n",
            "(job.parsing_configuration): the run",
        ),
    ],
)
def test_a_run_of_other_rules_mode_or_parsing_is_refused(place: Place, planned: Path, text: str, words: str) -> None:
    """A run of other rules, another mode or other parsing is not gone on with; the message names what differs."""
    shutil.copytree(planned, place.folder / "run")
    place.configure(text)
    assert words in place.refused(*RUN)


def test_all_differences_of_a_refused_run_are_named(place: Place, planned: Path) -> None:
    """One message names all differences, not the first."""
    shutil.copytree(planned, place.folder / "run")
    place.configure(f'project_id = "p"\n[job]\nrules = {RULES.replace("invoice", "letter")}\nmode = "MULTIMODAL"\n')
    said = place.refused(*RUN)
    assert all(words in said for words in ("project (", "mode (", "rules ("))


def test_a_run_of_other_file_ids_is_refused_with_examples(place: Place, planned: Path) -> None:
    """A run of other IDs is not gone on with; the message counts what is new and what is gone, with examples."""
    shutil.copytree(planned, place.folder / "run")
    (place.folder / "ids.txt").write_text("\n".join([*IDS[1:], "new-1", "new-2"]))
    said = place.refused(*RUN)
    assert "2 of the given ones are not in its plan (new-1, new-2)" in said
    assert f"1 of its plan are not given ({IDS[0]})" in said


def test_a_run_of_a_newer_version_is_refused(place: Place, planned: Path) -> None:
    """A run of a newer version is left to that version."""
    shutil.copytree(planned, place.folder / "run")
    replace(place.folder / "run" / "run.json", b'"format": 3', f'"format": {FORMAT + 1}'.encode())
    for words in (RUN, ("verify", "run")):
        assert f"has format {FORMAT + 1}" in place.refused(*words)


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("run.json is garbage", lambda run: (run / "run.json").write_bytes(b"{"), "run.json in run is damaged"),
    ("run.json is empty", lambda run: cut(run / "run.json", 0), "run.json in run is damaged"),
    ("run.json is a list", lambda run: (run / "run.json").write_text("[]"), "run.json in run is damaged"),
    ("run.json lost a key", lambda run: replace(run / "run.json", b'"files"', b'"flies"'), "damaged: files"),
    ("run.json is gone", lambda run: (run / "run.json").unlink(), "but no run.json"),
    (
        "run.json was edited",
        lambda run: replace(run / "run.json", b'"attempts": 3', b'"attempts": 4'),
        "run.json in run",
    ),
    ("a byte of the plan", lambda run: replace(run / "plan.jsonl", b'"file-7"', b'"file-8"'), "plan.jsonl in run"),
    ("the plan is gone", lambda run: (run / "plan.jsonl").unlink(), "plan.jsonl in run: missing"),
    (
        "a byte of the journal",
        lambda run: replace(run / "journal.jsonl", b'"submitting"', b'"submittinh"'),
        "line 2, byte",
    ),
    ("a line of the journal", forget_line_2, "journal.jsonl in run, line 2, byte"),
    ("results are shorter", lambda run: cut(run / "results.jsonl", 100), "results.jsonl has 100 bytes, but"),
    ("results are gone", lambda run: (run / "results.jsonl").unlink(), "results.jsonl has 0 bytes, but"),
]


@pytest.mark.parametrize(("damage", "words"), [each[1:] for each in DAMAGES], ids=[each[0] for each in DAMAGES])
def test_a_damaged_incomplete_run_stops_and_nothing_is_overwritten(
    place: Place, complete: Path, damage: Callable[[Path], object], words: str
) -> None:
    """What was committed and is no longer so stops an interrupted run; the file is named and nothing overwritten."""
    run = shutil.copytree(complete, place.folder / "run")
    interrupt(run)
    damage(run)
    assert words in place.refused(*RUN, "--base-url", "sandbox", "--progress", "none")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda run: replace(run / "journal.jsonl", b'"kind":"submitted"', b'"kind":"submittet"'),
            "journal.jsonl in run",
        ),
        (lambda run: cut(run / "journal.jsonl", 300), "journal.jsonl in run"),
        (lambda run: cut(run / "results.jsonl", 100), "results.jsonl in run has 100 bytes, and"),
        (lambda run: (run / "plan.jsonl").unlink(), "plan.jsonl in run has 0 bytes, and"),
    ],
    ids=["a byte of the journal", "the journal is shorter", "results are shorter", "the plan is gone"],
)
def test_a_damaged_complete_run_is_not_called_complete(
    place: Place, complete: Path, damage: Callable[[Path], object], words: str
) -> None:
    """A complete run that lost what it had is not called complete again."""
    damage(shutil.copytree(complete, place.folder / "run"))
    assert words in place.refused("resume", "run")


# --- The command line itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        ((), "Missing command", "classify-batch --help"),
        (("nope",), "there is no command 'nope'", "classify-batch --help"),
        (("--nope",), "No such option", "classify-batch --help"),
        (("run",), "Missing argument 'CONFIG'", "classify-batch run --help"),
        (("run", "c.toml", "--run-dir", "run"), "Missing option '--input'", "classify-batch run --help"),
        (("run", "c.toml", "--input", "ids.txt"), "Missing option '--run-dir'", "classify-batch run --help"),
        ((*RUN, "--nope"), "No such option", "classify-batch run --help"),
        ((*RUN, "extra"), "unexpected extra argument", "classify-batch run --help"),
        ((*RUN, "--jobs-in-flight", "x"), "'x' is not a valid integer", "classify-batch run --help"),
        (
            ("run", "c.toml", "--input", "ids.txt", "--run-dir", ""),
            "'--run-dir': it is empty",
            "classify-batch run --help",
        ),
        (("run", "c.toml", "--input", "", "--run-dir", "run"), "'--input': it is empty", "classify-batch run --help"),
        (("resume",), "Missing argument 'DIR'", "classify-batch resume --help"),
        (("status", "--nope", "run"), "No such option", "classify-batch status --help"),
    ],
)
def test_a_wrong_command_line_is_one_message_with_a_hint(
    place: Place, arguments: tuple[str, ...], words: str, hint: str
) -> None:
    """A command line that makes no sense gets one message; the hint is the help that explains it."""
    said = place.refused(*arguments)
    assert words in said
    assert said.endswith(f"\nhint: {hint}\n")
