"""The manual's recipes: those that can run are run as they stand in the page, the others are read by a machine."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import resource
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml

from classify_batch.cli.main import COMMANDS, cli

MANUAL = Path(__file__).parents[2] / "classify_batch" / "manual"
PAGE = (MANUAL / "recipes.md").read_text("utf-8")
TOGETHER_S = 120
"""How much of a processor all recipes that are run may take together. A quarter of it is enough on an idle machine; one
that is shared takes up to twice as much for the same work."""

HANGS_S = 300
"""After so long something hangs, however busy the machine is."""


def section(title: str) -> str:
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z|^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"the page has no section {title!r}"
    return found[2]


def blocks(text: str) -> list[tuple[str, str]]:
    """The code blocks of a text, each with its language."""
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def environment(*folders: Path) -> dict[str, str]:
    """The user's own, with the tested command first on the PATH, and without what would lead to a real API."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLAMA_CLOUD_", "CLASSIFY_B"))}
    path = os.pathsep.join([*map(str, folders), str(Path(sys.executable).parent), os.environ["PATH"]])
    return kept | {"PATH": path}


def cpu_s() -> float:
    """What the processes that were started, and have ended, took of a processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
def test_the_recipes_to_try_run_as_they_stand(tmp_path: Path) -> None:
    """From the top to the bottom in one empty folder; each block of shell and Python ends with 0."""
    recipes = blocks(section("To try at once"))
    assert len(recipes) > 12
    shell, python = ["sh", "-eu", "-c"], [sys.executable, "-c"]
    said, until_s, before_s = [], time.monotonic() + HANGS_S, cpu_s()
    for language, block in recipes:
        command = [*(shell if language == "sh" else python), block]
        left_s = until_s - time.monotonic()
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=left_s, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout + done.stderr)
    assert cpu_s() - before_s < TOGETHER_S
    runs = {path.parent.name for path in tmp_path.glob("*/*/manifest.json")}
    assert runs == {"practice", "by-name", "parsed", "monday", "tuesday", "evening", "inbox", "from-python"}
    assert sum("state       complete" in words for words in said) >= 5
    assert (tmp_path / "review.csv").read_text().startswith("file_id,")
    assert len((tmp_path / "review.csv").read_text().splitlines()) > 1, "the recipe shows something to review"
    named = (tmp_path / "by-name.csv").read_text().splitlines()
    assert named[0].endswith(",name")
    assert all(line.endswith(".METADATA") or ".LICENSE" in line for line in named[1:])
    assert any('"state": "complete"' in words for words in said)


def test_recipes_can_be_given_in_one_shell_and_one_folder() -> None:
    """No recipe leaves a setting behind for the next one, and no run directory stands for runs of two configs."""
    shell = [block for language, block in blocks(PAGE) if language == "sh"]
    assert not [block for block in shell if re.search(r"^export CLASSIFY_BATCH_", block, re.MULTILINE)]
    commands = re.findall(r"classify-batch run (\S+\.toml) (?:[^\n]*\\\n)*[^\n]*--run-dir (\S+)", "\n".join(shell))
    assert len(commands) > 8
    configs: dict[str, set[str]] = {}
    for config, run_dir in commands:
        configs.setdefault(run_dir, set()).add(config)
    assert {run_dir: found for run_dir, found in configs.items() if len(found) > 1} == {}


def test_old_complete_runs_are_deleted_and_no_others(tmp_path: Path) -> None:
    """The recipe deletes a run that is old and complete; not the newest, an incomplete, a failed or a young one."""
    old_s = 40 * 24 * 3600
    runs = {
        "old": ("complete", 0, 3),
        "failed": ("complete", 1, 3),
        "cut": ("incomplete", 75, 3),
        "last": ("complete", 0, 2),
    }
    now_s = tmp_path.stat().st_mtime
    for name, (state, status, age) in runs.items():
        run_dir = tmp_path / "nights" / name
        run_dir.mkdir(parents=True)
        manifest = run_dir / "manifest.json"
        manifest.write_text(
            f'{{\n  "state": "{state}",\n  "reason": null,\n  "exit_status": {status},\n  "files": 1\n}}\n'
        )
        for path in (manifest, run_dir):
            os.utime(path, (now_s - age * old_s, now_s - age * old_s))
    ((_, block),) = blocks(section("Clean up old runs"))
    subprocess.run(
        ["sh", "-eu", "-c", block], cwd=tmp_path, env=environment(), capture_output=True, timeout=120, check=True
    )
    assert {path.name for path in (tmp_path / "nights").iterdir()} == {"failed", "cut", "last"}


@pytest.fixture
def night(tmp_path: Path) -> Any:
    """The nightly script, with a classify-batch that ends with given statuses and a mail that keeps its input."""
    ((_, script),) = blocks(section("One script for a night"))
    (tmp_path / "classify-nightly").write_text(script)
    (tmp_path / "classify-batch").write_text(
        '#!/bin/sh\necho "$@" >> calls\n[ "$1" = run ] && mkdir -p "$6" && touch "$6/run.json"\n'
        'echo "it ended with $(cat status)" >&2\nexit "$(cat status)"\n'
    )
    (tmp_path / "mail").write_text('#!/bin/sh\n(echo "$@"; cat) >> mails\n')
    (tmp_path / "date").write_text("#!/bin/sh\necho 2026-11-22\n")  # a test may begin right before midnight
    for name in ("classify-nightly", "classify-batch", "mail", "date"):
        (tmp_path / name).chmod(stat.S_IRWXU)

    def call(status: int, *last: str) -> tuple[int, str]:
        (tmp_path / "status").write_text(str(status))
        (tmp_path / "mails").write_text("")
        done = subprocess.run(
            ["./classify-nightly", "job.toml", "ids.txt", "runs", *last],
            cwd=tmp_path,
            env=environment(tmp_path),
            timeout=120,
            check=False,
        )
        return done.returncode, (tmp_path / "mails").read_text()

    return call


def test_a_night_that_ends_75_and_then_77_is_mailed(night: Any, tmp_path: Path) -> None:
    """75 is silent and the next call resumes; 77 is mailed once with what was said, and a new status again."""
    assert night(75) == (75, "")
    status, mail = night(77)
    assert status == 77
    assert "exit status 77" in mail
    assert "it ended with 77" in mail
    assert night(77) == (77, "")
    assert night(2)[1] != ""
    assert night(0) == (0, "")
    calls = (tmp_path / "calls").read_text().splitlines()
    words = [call.split()[0] for call in calls]
    assert words == ["run", "resume", "resume", "resume", "resume", "export", "report"]


def test_a_night_that_is_not_complete_in_the_morning_is_mailed(night: Any) -> None:
    """The last call of the script mails about 75 as well."""
    assert night(75) == (75, "")
    status, mail = night(75, "last")
    assert status == 75
    assert "exit status 75" in mail


@pytest.mark.slow
def test_two_nights_with_the_real_command(tmp_path: Path) -> None:
    """The second run takes over what the first has answered, beside the script's own files; a third call is quiet."""
    ((_, script),) = blocks(section("One script for a night"))
    (tmp_path / "classify-nightly").write_text(script)
    (tmp_path / "date").write_text("#!/bin/sh\ncat night\n")
    for name in ("classify-nightly", "date"):
        (tmp_path / name).chmod(stat.S_IRWXU)
    (tmp_path / "job.toml").write_text((MANUAL / "sandbox.toml").read_text("utf-8"))
    for date, files in (("2026-11-22", 20), ("2026-11-23", 30), ("2026-11-23", 30)):
        (tmp_path / "night").write_text(date)
        (tmp_path / "ids.txt").write_text("".join(f"file-{number}\n" for number in range(files)))
        call = ["./classify-nightly", "job.toml", "ids.txt", "runs"]
        done = subprocess.run(call, cwd=tmp_path, env=environment(tmp_path), timeout=180, check=False)
        assert done.returncode == 0, (tmp_path / "runs" / f"{date}.log").read_text()
    assert json.loads((tmp_path / "runs" / "2026-11-23" / "manifest.json").read_text())["reused"] == 20
    assert "complete already" in (tmp_path / "runs" / "2026-11-23.log").read_text()
    assert list((tmp_path / "runs").glob("*.told")) == []
    for date in ("2026-11-22", "2026-11-23"):
        assert "<h1>" in (tmp_path / "runs" / f"{date}.html").read_text()
        assert len((tmp_path / "runs" / f"{date}.csv").read_text().splitlines()) in (21, 31)


# --- What can't be run here -----------------------------------------------------------------------------------------


def options_of(command: str) -> set[str]:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    return {name for option in found.params for name in (*option.opts, *option.secondary_opts)}


def commands_in(language: str, block: str) -> list[list[str]]:
    """The calls of classify-batch in a block, as words."""
    if language == "python":
        lists = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.List)]
        words = [[each.value for each in node.elts if isinstance(each, ast.Constant)] for node in lists]
        joined = [word for each in words for word in each if isinstance(word, str)]
        return [joined[joined.index("classify-batch") + 1 :]] if "classify-batch" in joined else []
    if language == "yaml":
        items = re.findall(r"^ +- ([^\s{:]+)$", block, re.MULTILINE)
        return [items[items.index("classify-batch") + 1 :]] if "classify-batch" in items else []
    lines = re.sub(r"\\\n", " ", block).splitlines()
    found = [re.search(r"(?:^|exec |\| |; )\s*classify-batch ([^|;']*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


@pytest.mark.parametrize(
    ("language", "block"), blocks(PAGE), ids=[f"{n}-{kind}" for n, (kind, _) in enumerate(blocks(PAGE))]
)
def test_recipes_call_what_is_there(language: str, block: str) -> None:
    """Each call of the command in a recipe names a command that there is, and options that it has."""
    for command, *words in commands_in(language, block):
        assert command in COMMANDS
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= options_of(command)


def test_the_schedulers_call_the_command() -> None:
    """The check above finds the calls in the recipes for systemd, Kubernetes and Airflow."""
    for title, language in (("systemd", "ini"), ("Kubernetes", "yaml"), ("Airflow", "python")):
        calls = [
            call for kind, block in blocks(section(title)) if kind == language for call in commands_in(kind, block)
        ]
        assert [call[0] for call in calls] == ["run"], title
        assert {"--input", "--run-dir"} <= {word.partition("=")[0] for word in calls[0]}


def test_the_recipe_for_cron_is_a_crontab() -> None:
    """Variables, or five fields and the script with its words; a percent sign would be a line's end."""
    ((_, table),) = blocks(section("cron"))
    times = r"[\d*/,-]+"
    for line in table.splitlines():
        assert re.fullmatch(rf"[A-Z_]+=\S+|(?:{times} ){{5}}classify-nightly /\S+ /\S+ /\S+(?: last)?", line), line
        assert "%" not in line


def test_the_recipe_for_systemd_is_units() -> None:
    """Both units can be read; what a person must mend is not started again, and the shell gets its own signs."""
    service, timer = (block for kind, block in blocks(section("systemd")) if kind == "ini")
    parsed = []
    for unit in (service, timer):
        parser = configparser.RawConfigParser(strict=False)
        parser.read_string(unit)
        parsed.append(parser)
    assert parsed[0]["Service"]["RestartPreventExitStatus"] == "1 2 77"
    assert re.search(r"(?<!\$)\$\(|(?<!%)%F", parsed[0]["Service"]["ExecStart"]) is None
    assert "OnCalendar" in parsed[1]["Timer"]


def test_the_recipe_for_kubernetes_says_what_it_must() -> None:
    """It is YAML, it repeats no status that a person must mend, and service links don't become settings."""
    ((_, text),) = blocks(section("Kubernetes"))
    job = yaml.safe_load(text)["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    assert pod["enableServiceLinks"] is False
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] > 4
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [1, 2, 77]
    (container,) = pod["containers"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert {each["name"] for each in container["env"]} == set(
        re.findall(r"\$\((\w+)\)", " ".join(container["command"]))
    )


SHOWN_FILES = {
    "classify-nightly": ("One script for a night", 0),
    "classify.service": ("systemd", 0),
    "classify.timer": ("systemd", 1),
    "cronjob.yaml": ("Kubernetes", 0),
    "Dockerfile": ("A container", 0),
}


@pytest.mark.parametrize("name", SHOWN_FILES)
def test_the_files_for_schedulers_are_those_that_the_page_shows(name: str) -> None:
    """What is tested here of the page holds of the files in configs/, too."""
    title, place = SHOWN_FILES[name]
    path = MANUAL.parents[1] / "configs" / name
    assert path.read_text("utf-8") == blocks(section(title))[place][1]
    assert os.access(path, os.X_OK) == (name == "classify-nightly")


def test_the_container_runs_as_a_user_and_gets_a_signal_to_stop() -> None:
    """The base image has a version, the last user is not root, and the command gets signals itself."""
    lines = [line.split(maxsplit=1) for line in blocks(section("A container"))[0][1].splitlines() if line]
    said = dict(lines)
    froms = [at for at, (instruction, _) in enumerate(lines) if instruction == "FROM"]
    copied = [words for instruction, words in lines[: froms[-1]] if instruction == "COPY"]
    assert copied == ["pyproject.toml README.md /src/", "classify_batch /src/classify_batch"], "no key beside them"
    assert all((MANUAL.parents[1] / word).exists() for words in copied for word in words.split()[:-1])
    assert [words for instruction, words in lines[froms[-1] :] if instruction == "COPY"] == [
        "--from=build /opt/classify-batch /opt/classify-batch"
    ]
    assert "install -d -o classify /data" in said["RUN"]
    assert re.fullmatch(r"python:3\.\d+-slim", said["FROM"])
    assert said["USER"] == "10001"
    assert said["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(said["ENTRYPOINT"]) == ["classify-batch"]
    assert not any("KEY" in line[1] for line in lines)


def test_the_recipe_for_airflow_fails_where_a_person_must_act() -> None:
    """1, 2 and 77 fail the task for good, 0 is its success, and everything else is tried again."""
    ((_, source),) = blocks(section("Airflow"))

    class FailError(Exception):
        pass

    def task(**_options: object) -> Any:
        return lambda function: function

    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and "airflow" in str(node.module))]
    names: dict[str, Any] = {"AirflowFailException": FailError, "task": task}
    exec(compile(tree, "airflow recipe", "exec"), names)
    for status in (0, 1, 2, 70, 75, 77, 130, 143):
        done = subprocess.CompletedProcess[bytes]([], status)
        names["subprocess"] = SimpleNamespace(run=lambda _command, done=done: done)
        if status == 0:
            names["classify"]("2026-11-22")
            continue
        with pytest.raises(FailError if status in (1, 2, 77) else RuntimeError):
            names["classify"]("2026-11-22")
