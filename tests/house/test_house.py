"""What holds of the whole: imports, names, sizes, and a README and a manual that say what the code does."""

import ast
import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_args
from uuid import NAMESPACE_URL, uuid5

import click
import pytest
from pydantic import BaseModel

import classify_batch
from classify_batch import Settings, events
from classify_batch.cli.main import COMMANDS, cli
from classify_batch.errors import EXIT_STATUS_MEANINGS
from classify_batch.lifecycle import Ended, Tally
from classify_batch.model import AttemptKey
from classify_batch.operations import run as operation
from classify_batch.rundir.journal.entry import encode_facts
from classify_batch.settings.job_spec import ParsingConfiguration, Rule, WebhookConfiguration
from classify_batch.vocabulary import FailureCode, Kind

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "classify_batch"
MODULES = sorted(PACKAGE.rglob("*.py"))
PYTHON = [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "scripts").rglob("*.py"))]
MANUAL = PACKAGE / "manual"
TEXTS = [ROOT / "README.md", *sorted(MANUAL.glob("*.md"))]
"""What people read: each can name commands, files and settings, and each has to be true."""
README = (ROOT / "README.md").read_text()
HEAVY = {
    *("aiofiles", "anyio", "asyncio", "filelock", "httpx", "httpx_aiohttp", "pydantic", "pydantic_settings", "rich"),
    *("starlette", "tenacity", "uvicorn"),
}
FILES_LINES_MAX = 400
CLOSED_OTHERWISE = {"response.aiter_raw", "self._response.aiter_stream"}
"""Streams of a response, which is closed itself: one step less for each request."""


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def page(name: str) -> str:
    """A page of the manual."""
    return (MANUAL / f"{name}.md").read_text()


def section(text: str, title: str) -> str:
    """The text under a heading, with its subsections."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z|^# )", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title!r}"
    return found[2]


def blocks(language: str) -> list[Any]:
    """The code blocks in a language, each with the name of its text and its number there."""
    return [
        pytest.param(block, id=f"{text.name}-{number}")
        for text in TEXTS
        for number, block in enumerate(re.findall(rf"^```{language}\n(.*?)^```", text.read_text(), re.M | re.DOTALL))
    ]


def missing_from(text: str, names: Any) -> list[str]:
    """The names that don't stand in a text as `code`, also as the last part of one, as in `api.version`."""
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    return [
        name
        for name in names
        if not any(re.match(rf"(?:[\w. {{}},\"'=]*\W)?{re.escape(name)}(?:\W|$)", span) for span in spans)
    ]


# --- Imports ----------------------------------------------------------------------------------------------------


AS_A_PROGRAM = """
import runpy, sys
sys.argv = ["classify-batch", {arguments}]
try:
    runpy.run_module("classify_batch", run_name="__main__")
except SystemExit:
    pass
"""


@pytest.mark.parametrize(
    "code",
    [
        "import classify_batch",
        "import classify_batch; dir(classify_batch)",
        AS_A_PROGRAM.format(arguments="'--help'"),
        AS_A_PROGRAM.format(arguments="'run', '--help'"),
    ],
    ids=["import", "dir", "--help", "run --help"],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    """Importing the package and asking for help cost nothing: no library is loaded that a run will need."""
    script = f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert "classify_batch" in done.stderr.split()
    assert set(done.stderr.split()) & HEAVY == set()


def test_a_run_loads_no_command_line_of_httpx() -> None:
    """What a run needs is loaded without rich and pygments, which httpx's own command line brings."""
    code = "import sys\nfrom classify_batch.cli.main import leave_out_httpx_command_line as leave_out\nleave_out()\n"
    script = f"{code}import classify_batch.cli.running\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert {"httpx", "httpcore"} <= set(done.stdout.split())
    assert set(done.stdout.split()) & {"rich", "pygments", "rich.console"} == set()


def test_status_imports_nothing_heavy(tmp_path: Path) -> None:
    """`status` of a run, its journal and all, loads no library that a run will need."""
    values = {"format": 1, "run_id": "r", "created_at": "", "settings": {}, "identity": {}, "files": 2, "duplicates": 0}
    (tmp_path / "run.json").write_text(json.dumps(values | {"chunks": 1, "plan_sha256": ""}))
    ended = Ended(AttemptKey(0, 1), Kind.COLLECTED, tally=Tally({"classified": 2}, {"a": 2}))
    (tmp_path / "journal.jsonl").write_bytes(encode_facts(1, 1.0, 0, [ended]))
    code = AS_A_PROGRAM.format(arguments=f"'status', {str(tmp_path)!r}")
    script = f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert "2 of 2 have their outcome" in done.stdout
    assert set(done.stderr.split()) & (HEAVY | {"msgspec"}) == set()


def test_an_export_loads_no_settings() -> None:
    """An export of all outcomes, as text: pydantic would take longer to load than a small run to be written."""
    script = "import sys, classify_batch.operations.export.export_run\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert "classify_batch.operations.export.formats" in done.stdout.split()
    assert set(done.stdout.split()) & {"pydantic", "pydantic_settings", "classify_batch.settings"} == set()


def test_the_public_names_resolve() -> None:
    """Each name of `__all__` is there, lives where `_HOMES` says, and no other name is offered."""
    homes = classify_batch._HOMES
    assert sorted(classify_batch.__all__) == sorted(homes) == sorted(set(classify_batch.__all__))
    for name, home in homes.items():
        there = import_module(f"classify_batch.{home}")
        assert getattr(classify_batch, name) is getattr(there, name)
    assert set(classify_batch.__all__) <= set(dir(classify_batch))
    with pytest.raises(AttributeError, match="nope"):
        _ = classify_batch.nope


# --- Style ------------------------------------------------------------------------------------------------------


def test_every_module_tells_its_theory() -> None:
    """Every module of the package begins with a docstring."""
    assert [named(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_every_test_says_its_promise() -> None:
    """Every test has a docstring."""
    silent = [
        f"{named(path)}: {node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_what_programs_import_is_documented() -> None:
    """Every function and class that programs are offered, and every public method of it, has a docstring."""
    offered = [getattr(classify_batch, name) for name in classify_batch.__all__]
    offered += [
        each for name, each in vars(operation).items() if callable(each) and each.__module__ == operation.__name__
    ]
    members = [
        (f"{each.__name__}.{name}", getattr(member, "__doc__", None))
        for each in offered
        for name, member in vars(each).items()
        if isinstance(each, type) and callable(member) and not name.startswith("_")
    ]
    said = [(each.__name__, each.__doc__) for each in offered] + members
    assert [name for name, words in said if not name.startswith("_") and not words] == []


def test_no_room_for_odds_and_ends() -> None:
    """No module or package is called by a name that says nothing."""
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [named(path) for path in PYTHON if vague & {path.stem, *path.relative_to(ROOT).parts}] == []


def test_streams_are_closed_behind_their_readers() -> None:
    """Nobody reads a stream where it is made: `closing` has it, so that no file stays open behind an error."""
    open_streams = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.AsyncFor) and not (isinstance(node, ast.comprehension) and node.is_async):
                continue
            if isinstance(made := node.iter, ast.Call) and ast.unparse(made.func) not in CLOSED_OTHERWISE:
                open_streams.append(f"{named(path)}: {ast.unparse(made)}")
    assert open_streams == []


def test_only_the_command_changes_how_often_cycles_are_looked_for() -> None:
    """The thresholds are a program's, and a library leaves them alone."""
    code = "import gc; known = gc.get_threshold(); import {}; print(gc.get_threshold() == known)"
    for module, is_kept in (("classify_batch", "True"), ("classify_batch.__main__", "False")):
        done = subprocess.run([sys.executable, "-c", code.format(module)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == is_kept


def test_no_mocks() -> None:
    """Nothing is tested against a stand-in made up by the test."""
    words = re.compile(r"\b(unittest\.mo[c]k|unittest import mo[c]k|MagicMo[c]k|pytest_mo[c]k)\b")
    assert [named(path) for path in PYTHON if words.search(path.read_text())] == []


def test_nothing_is_left_to_do() -> None:
    """No note to do something later stands in the code, the scripts, the README or the manual."""
    words = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X]|HAC[K])\b")
    places = [*PYTHON, *TEXTS, *(path for path in (ROOT / "scripts").iterdir() if path.is_file())]
    assert [named(path) for path in places if words.search(path.read_text())] == []


def test_the_top_level_has_what_was_agreed() -> None:
    """Nothing was left there by accident; hidden files, and what git ignores, are nobody's concern."""
    ignored = {"build", "dist", "runs", "classify_batch.egg-info"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - ignored
    assert found == {"pyproject.toml", "README.md", "classify_batch", "tests", "configs", "scripts"}


def test_files_stay_small() -> None:
    """A file of the package that grows past 400 lines wants a wall."""
    sizes = {named(path): path.read_text().count("\n") for path in MODULES}
    assert {name: lines for name, lines in sizes.items() if lines > FILES_LINES_MAX} == {}


# --- Configs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.name)
def test_every_config_loads(config: Path) -> None:
    """Each of the shipped configs is accepted as it is."""
    assert Settings.load(config).job.rules


# --- The README and the manual ----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("toml"))
def test_written_configs_load(tmp_path: Path, block: str) -> None:
    """Each TOML block of the README and the manual is accepted as it is."""
    path = tmp_path / "written.toml"
    path.write_text(block)
    assert Settings.load(path).job.rules


@pytest.mark.parametrize("block", blocks("python"))
def test_written_python_is_python(block: str) -> None:
    """Each Python block of the README and the manual can be read by Python, and imports only names that are there."""
    tree = compile(block, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "classify_batch":
            assert {alias.name for alias in node.names} <= set(classify_batch.__all__)


def test_readme_has_an_example_of_each_kind() -> None:
    """Somebody who reads the README alone sees a config, a program, commands and an answer."""
    assert [kind for kind in ("toml", "python", "console", "json") if f"```{kind}\n" not in README] == []


def test_every_command_is_written_down() -> None:
    """Each command has a row in the README and a section of its own in the manual, and the texts name no other."""
    commands = page("commands")
    for command in COMMANDS:
        assert f"| `classify-batch {command}" in section(README, "Commands")
        assert section(commands, f"classify-batch {command}")
    called = r"^(?:\$ |\| `|.*exec |ExecStart=)?classify-batch ([a-z]+)\b"
    used = {name for text in TEXTS for name in re.findall(called, text.read_text(), re.MULTILINE)}
    used |= {name for text in TEXTS for name in re.findall(r"`classify-batch ([a-z]+)\b", text.read_text())}
    assert used == set(COMMANDS)


def options_of(command: str) -> set[str]:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    context, commands = click.Context(found), [found]
    if isinstance(found, click.Group):
        commands = [each for name in found.list_commands(context) if (each := found.get_command(context, name))]
    options = [option for each in commands for option in each.params if isinstance(option, click.Option)]
    return {name for option in options for name in (*option.opts, *option.secondary_opts)}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_written_down(command: str) -> None:
    """Each option of each command stands in the manual, and each in the command's section is an option."""
    own = page("sandbox") if command == "sandbox" else section(page("commands"), f"classify-batch {command}")
    assert missing_from(own if command == "sandbox" else page("commands"), sorted(options_of(command))) == []
    used = set(re.findall(r"`(--[a-z0-9-]+)", own))
    assert used <= {option for each in COMMANDS for option in options_of(each)}


def test_written_options_are_options() -> None:
    """Whatever option a text names is one of some command; those of other programs are named here."""
    others = {*("--help", "--version"), *("--no-deps",), *("--quick", "--picture", "--seed", "--minutes", "--short")}
    others |= {
        "--create-home",
        "--uid",
        "--no-cache-dir",
        "--file",
        "--tag",
        "--rm",
        "--env",
        "--volume",
        "--from",
    }  # containers
    others |= {"--command", "--csv", "--set", "--single-transaction"}  # psql
    known = others | {option for each in COMMANDS for option in options_of(each)} | {"--tree", "--clients"}
    used = {
        (text.name, name) for text in TEXTS for name in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text.read_text())
    }
    assert [(text, name) for text, name in sorted(used) if name not in known] == []


@pytest.mark.parametrize("text", [README, page("exit-statuses")], ids=["README", "exit-statuses"])
def test_every_exit_status_is_written_down(text: str) -> None:
    """Each exit status stands in the README and the manual with the meaning of `--help`, and no other does."""
    for status, meaning in EXIT_STATUS_MEANINGS.items():
        assert f"| {int(status)} | {meaning} |" in text
    assert set(map(int, re.findall(r"^\| (\d+) \|", text, re.MULTILINE))) == set(map(int, EXIT_STATUS_MEANINGS))


def _section(annotation: object) -> object:
    """A section's model, also of one that may be left out."""
    return next((each for each in get_args(annotation) if each is not type(None)), annotation)


def test_every_setting_is_written_down() -> None:
    """Each setting stands in the manual by its full name, the parts of a job by their own; no text names another."""
    text = page("settings")
    sections = {name: _section(field.annotation) for name, field in Settings.model_fields.items()}
    full = {
        f"{name}.{field}"
        for name, section in sections.items()
        if isinstance(section, type) and issubclass(section, BaseModel)
        for field in section.model_fields
    }
    assert [name for name in sorted(full) if f"`{name}`" not in text] == []
    parts = {name for model in (Rule, ParsingConfiguration, WebhookConfiguration) for name in model.model_fields}
    assert missing_from(text, sorted(parts)) == []
    names = rf"`((?:{'|'.join(sections)})\.[a-z_]+)`"
    used = {name for each in TEXTS for name in re.findall(names, each.read_text())}
    assert used - {"sandbox.toml", "job.toml", "plan.jsonl"} <= full


def test_written_defaults_are_the_defaults() -> None:
    """Where the manual gives a number as a setting's default, it is the default."""
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \| `?([\d.,]+)`? \|", page("settings"), re.MULTILINE)
    assert len(rows) > 5
    settings = Settings(job={"rules": [{"type": "a", "description": "0123456789"}]})
    for section_name, name, number in rows:
        assert getattr(getattr(settings, section_name), name) == float(number.replace(",", "")), (
            f"{section_name}.{name}"
        )


def test_every_variable_is_written_down() -> None:
    """The environment variables stand in the manual's account of the settings."""
    names = ("LLAMA_CLOUD_API_KEY", "LLAMA_CLOUD_API_KEY_FILE", "LLAMA_CLOUD_BASE_URL", "CLASSIFY_BATCH_LIMITS__")
    assert [name for name in names if name not in page("settings")] == []


def test_every_failure_code_and_kind_is_written_down() -> None:
    """Each failure code has a row that says what to do, and each kind of journal line stands in the manual."""
    table = section(page("failures"), "Failure codes")
    assert missing_from(table, list(FailureCode)) == []
    first_cells = " ".join(re.findall(r"^\| (`[^|]*`) \| [^|]+ \| [^|]* \|$", table, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", first_cells)) == set(FailureCode)
    assert missing_from(page("run-directory"), list(Kind)) == []


def test_every_key_of_the_run_directory_is_written_down(tmp_path: Path) -> None:
    """Each file, and each key in the files, that a real run leaves stands in the manual's account of them."""
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.txt").write_text("an invoice")
    settings = Settings(
        api={"base_url": "sandbox"},
        job={"rules": [{"type": "invoice", "description": "has an invoice number"}]},
        sandbox={"documents": tmp_path / "documents"},
        limits={"requests_per_s": 500.0, "settle_s": 0.5},
    )
    run_dir = tmp_path / "run"
    result = classify_batch.run(settings, [str(uuid5(NAMESPACE_URL, "a.txt")), "stranger"], run_dir)
    assert (result.counts["classified"] + result.counts["unmatched"], result.counts["failed"]) == (1, 1)

    text = page("run-directory")
    assert [path.name for path in run_dir.iterdir() if f"`{path.name}" not in text] == []
    objects = [json.loads((run_dir / name).read_text()) for name in ("run.json", "manifest.json")]
    objects += list(objects[1]["outputs"].values())
    for name in ("plan.jsonl", "journal.jsonl", "results.jsonl", "failures.jsonl"):
        objects += [json.loads(line) for line in (run_dir / name).read_text().splitlines()]
    assert missing_from(text, sorted({key for each in objects for key in each})) == []


def test_every_argument_of_run_and_every_event_is_written_down() -> None:
    """Each argument of `run`, each name that programs are offered, and each event stands in the manual."""
    arguments = set(inspect.signature(classify_batch.run).parameters) - {"settings", "run_dir"}  # in the example
    assert missing_from(page("python"), sorted(arguments)) == []
    assert missing_from(page("python"), sorted(classify_batch.__all__)) == []
    assert missing_from(page("python"), sorted(each.__name__ for each in get_args(events.Event))) == []


def test_every_script_is_written_down() -> None:
    """Each command for developers stands in the manual."""
    scripts = [path.name for path in (ROOT / "scripts").iterdir() if path.is_file() and not path.name.startswith("_")]
    assert [name for name in sorted(scripts) if f"scripts/{name}" not in page("developing")] == []


def test_no_message_names_what_a_wheel_has_not() -> None:
    """Hints and help name the manual, which comes with the package, and neither the README nor configs/."""
    words = re.compile(r"\b(README|configs/)")
    assert [named(path) for path in MODULES if words.search(path.read_text())] == []


def test_quoted_messages_are_messages() -> None:
    """What the manual quotes of a message, between its ellipses, stands so in the code."""
    code = "\n".join(path.read_text() for path in MODULES)
    quotes = re.findall(r'\*\*"([^"]+)"\*\*', page("troubleshooting"))
    assert len(quotes) > 5
    parts = {part.strip(" :") for quote in quotes for part in re.split("…|: ", quote)} - {""}
    assert [part for part in sorted(parts) if part not in code] == []


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_texts_point_at_files_that_exist(text: Path) -> None:
    """The scripts, configs, tests and modules that the README and the manual name are there."""
    names = r"(?<![\w/])(?:scripts|configs|tests|classify_batch)/[\w./-]*\w"
    assert [path for path in sorted(set(re.findall(names, text.read_text()))) if not (ROOT / path).exists()] == []
