"""What holds of the whole: imports, names, sizes, and a README that says what the code does."""

import ast
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
from classify_batch import Settings
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
README = (ROOT / "README.md").read_text()
HEAVY = {
    *("aiofiles", "anyio", "asyncio", "filelock", "httpx", "httpx_aiohttp", "pydantic", "pydantic_settings", "rich"),
    *("starlette", "tenacity", "uvicorn"),
}
FILES_LINES_MAX = 400


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def readme_section(title: str) -> str:
    """The text under a heading of the README, with its subsections."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z|^# )", README, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no section {title!r}"
    return found[2]


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def missing_from(text: str, names: Any) -> list[str]:
    """The names that don't stand in a text as `code`, also as the last part of one, as in `api.version`."""
    return [name for name in names if not re.search(rf"`(?:[\w. {{}},\"'=]*\W)?{re.escape(name)}(?:\W[^`]*)?`", text)]


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
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert "classify_batch" in done.stderr.split()
    assert set(done.stderr.split()) & HEAVY == set()


def test_status_imports_nothing_heavy(tmp_path: Path) -> None:
    """`status` of a run, its journal and all, loads no library that a run will need."""
    values = {"format": 1, "run_id": "r", "created_at": "", "settings": {}, "identity": {}, "files": 2, "duplicates": 0}
    (tmp_path / "run.json").write_text(json.dumps(values | {"chunks": 1, "plan_sha256": ""}))
    ended = Ended(AttemptKey(0, 1), Kind.COLLECTED, tally=Tally({"classified": 2}, {"a": 2}))
    (tmp_path / "journal.jsonl").write_bytes(encode_facts(1, 1.0, 0, [ended]))
    code = AS_A_PROGRAM.format(arguments=f"'status', {str(tmp_path)!r}")
    script = f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert "2 of 2 have their outcome" in done.stdout
    assert set(done.stderr.split()) & (HEAVY | {"msgspec"}) == set()


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


def test_no_mocks() -> None:
    """Nothing is tested against a stand-in made up by the test."""
    words = re.compile(r"\b(unittest\.mo[c]k|unittest import mo[c]k|MagicMo[c]k|pytest_mo[c]k)\b")
    assert [named(path) for path in PYTHON if words.search(path.read_text())] == []


def test_nothing_is_left_to_do() -> None:
    """No note to do something later stands in the code, the scripts or the README."""
    words = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X]|HAC[K])\b")
    places = [*PYTHON, ROOT / "README.md", *(path for path in (ROOT / "scripts").iterdir() if path.is_file())]
    assert [named(path) for path in places if words.search(path.read_text())] == []


def test_files_stay_small() -> None:
    """A file of the package that grows past 400 lines wants a wall."""
    sizes = {named(path): path.read_text().count("\n") for path in MODULES}
    assert {name: lines for name, lines in sizes.items() if lines > FILES_LINES_MAX} == {}


# --- Configs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.name)
def test_every_config_loads(config: Path) -> None:
    """Each of the shipped configs is accepted as it is."""
    assert Settings.load(config).job.rules


# --- The README -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(readme_blocks("toml"))))
def test_readme_configs_load(tmp_path: Path, number: int) -> None:
    """Each TOML block of the README is accepted as it is."""
    path = tmp_path / "readme.toml"
    path.write_text(readme_blocks("toml")[number])
    assert Settings.load(path).job.rules


def test_readme_python_is_python() -> None:
    """Each Python block of the README can be read by Python, and imports only names that are there."""
    blocks = readme_blocks("python")
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "classify_batch":
                assert {alias.name for alias in node.names} <= set(classify_batch.__all__)


def test_readme_names_every_command() -> None:
    """Each command has a section of its own, and the README names no other."""
    for command in COMMANDS:
        assert readme_section(f"classify-batch {command}")
    used = set(re.findall(r"^(?:\$ |command: .*exec )?classify-batch ([a-z]+)\b", README, re.MULTILINE))
    assert used <= set(COMMANDS)


def options_of(command: str) -> set[str]:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    context, verbs = click.Context(found), [found]
    if isinstance(found, click.Group):
        verbs = [verb for name in found.list_commands(context) if (verb := found.get_command(context, name))]
    options = [option for verb in verbs for option in verb.params if isinstance(option, click.Option)]
    return {name for option in options for name in (*option.opts, *option.secondary_opts)}


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_names_every_option(command: str) -> None:
    """Each option of each command stands in the README, and each in the command's section is an option."""
    assert missing_from(readme_section("Commands"), sorted(options_of(command))) == []
    used = set(re.findall(r"`(--[a-z0-9-]+)", readme_section(f"classify-batch {command}")))
    assert used <= {option for each in COMMANDS for option in options_of(each)}


def test_readme_tells_every_exit_status() -> None:
    """Each exit status stands in the README with the meaning that `--help` gives it, and no other does."""
    table = readme_section("Exit statuses")
    for status, meaning in EXIT_STATUS_MEANINGS.items():
        assert f"| {int(status)} | {meaning} |" in table
    assert set(map(int, re.findall(r"^\| (\d+) \|", table, re.MULTILINE))) == set(map(int, EXIT_STATUS_MEANINGS))


def _section(annotation: object) -> object:
    """A section's model, also of one that may be left out."""
    return next((each for each in get_args(annotation) if each is not type(None)), annotation)


def test_readme_names_every_setting() -> None:
    """Each setting stands in the README by its full name, the parts of a job by their own, and no other does."""
    text = readme_section("Settings")
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
    named_ones = set(re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_]+)`", text))
    assert named_ones - {"sandbox.toml"} <= full


def test_readme_defaults_are_the_defaults() -> None:
    """Where the README gives a number as a setting's default, it is the default."""
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \| `?([\d.,]+)`? \|", readme_section("Settings"), re.MULTILINE)
    assert len(rows) > 5
    settings = Settings(job={"rules": [{"type": "a", "description": "0123456789"}]})
    for section, name, number in rows:
        assert getattr(getattr(settings, section), name) == float(number.replace(",", "")), f"{section}.{name}"


def test_readme_names_every_variable() -> None:
    """The environment variables stand in the README."""
    names = ("LLAMA_CLOUD_API_KEY", "LLAMA_CLOUD_API_KEY_FILE", "LLAMA_CLOUD_BASE_URL", "CLASSIFY_BATCH_LIMITS__")
    assert [name for name in names if name not in README] == []


def test_readme_names_every_failure_code_and_kind() -> None:
    """Each failure code and each kind of journal line stands in the README's account of the run directory."""
    assert missing_from(readme_section("Failure codes"), list(FailureCode)) == []
    assert missing_from(readme_section("The run directory"), list(Kind)) == []


def test_readme_names_every_key_of_the_run_directory(tmp_path: Path) -> None:
    """Each file, and each key in the files, that a real run leaves stands in the README's account of them."""
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

    text = readme_section("The run directory")
    assert [path.name for path in run_dir.iterdir() if f"`{path.name}" not in text] == []
    objects = [json.loads((run_dir / name).read_text()) for name in ("run.json", "manifest.json")]
    objects += list(objects[1]["outputs"].values())
    for name in ("plan.jsonl", "journal.jsonl", "results.jsonl", "failures.jsonl"):
        objects += [json.loads(line) for line in (run_dir / name).read_text().splitlines()]
    assert missing_from(text, sorted({key for each in objects for key in each})) == []


def test_readme_points_at_files_that_exist() -> None:
    """The scripts and configs that the README names are there."""
    paths = set(re.findall(r"\b(?:scripts|configs|tests)/[\w./-]*\w", README))
    assert len(paths) > 3
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
