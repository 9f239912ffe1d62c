"""The wheel: built, installed into an environment of its own, and tried."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from classify_batch.cli.manual import CONFIGS, PAGES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that neither an earlier build nor this one leaves anything in the tree."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "classify_batch", source / "classify_batch", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    built = subprocess.run(
        [*pip, "--wheel-dir", str(target), str(source)], capture_output=True, text=True, timeout=300, check=False
    )
    assert built.returncode == 0, built.stderr
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel. Its dependencies are those that the tests run with."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], capture_output=True, timeout=300, check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return home / "bin"


def call(command: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    ours = ("LLAMA_CLOUD_", "CLASSIFY_BATCH_", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [str(command), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=180, check=False
    )


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    """Each module, each page, each example config and `py.typed` is in it, and nothing from beside the package."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "classify_batch").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert there - names == set()
    assert {name.split("/")[0].partition("-")[0] for name in names - there} == {"classify_batch"}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    """Its metadata has the README, keywords, and classifiers for the Pythons that it runs on."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata: Message = email.message_from_string(archive.read(name).decode())
    classifiers = metadata.get_all("Classifier") or []
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Programming Language :: Python :: 3.11" in classifiers
    assert "Typing :: Typed" in classifiers
    assert "llamacloud" in str(metadata["Keywords"])
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert str(metadata.get_payload()).startswith("# classify_batch")


def test_the_installed_command_shows_the_manual(installed: Path, tmp_path: Path) -> None:
    """Somebody who has only the wheel reads every page and gets the example configs."""
    shown = call(installed / "classify-batch", "manual", cwd=tmp_path)
    assert [line.split()[0] for line in shown.stdout.splitlines() if line] == [*PAGES, *CONFIGS], shown.stderr
    home = "import classify_batch, pathlib; print(pathlib.Path(classify_batch.__file__).parent)"
    assert str(installed.parent) in call(installed / "python", "-c", home, cwd=tmp_path).stdout


@pytest.mark.slow
def test_the_installed_command_makes_a_run(installed: Path, tmp_path: Path) -> None:
    """The five minutes of the README, with nothing but the wheel: a config, a run over a folder, its report, and its
    proof."""
    command = installed / "classify-batch"
    (tmp_path / "inbox").mkdir()
    for number in range(20):
        (tmp_path / "inbox" / f"{number}.txt").write_text(f"Dear number {number}, yours sincerely")
    sandbox = ("--base-url", "sandbox", "--rule", "letter=dear, sincerely")
    for words in (
        ("init", "practice.toml", *sandbox),
        ("run", "practice.toml", "--input", "inbox/", "--run-dir", "runs/practice"),
        ("report", "runs/practice"),
    ):
        done = call(command, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "19.txt" in (tmp_path / "runs" / "practice" / "report.html").read_text()
    verified = call(command, "verify", "runs/practice", cwd=tmp_path)
    assert (verified.returncode, verified.stdout) == (0, "sound and complete: 20 files, each with one outcome\n")
