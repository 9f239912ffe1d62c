"""Run directories, and other files, whose names can't be: refused by every command with 2, and with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from classify_batch.cli.rendering.metrics_file import MetricsFile
from classify_batch.errors import ClassifyBatchError
from tests.support.command_line import command, environment
from tests.support.start_command import COMMAND, run_process

CONFIG = """
[api]
base_url = "sandbox"
[job]
rules = [{ type = "invoice", description = "has line items and a total" }]
"""

NAME = "NAME"
PLAN = ("c.toml", "--input", "ids", "--run-dir")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "c.toml").write_text(CONFIG)
    (tmp_path / "ids").write_text("a\n")
    (tmp_path / "circle").symlink_to("circle")
    return tmp_path


@pytest.mark.parametrize("name", ["x" * 256, "circle", "é" * 128])
@pytest.mark.parametrize(
    "words",
    [
        ("run", *PLAN),
        ("plan", *PLAN),
        ("resume",),
        ("status",),
        ("verify",),
        ("tune", "--pause"),
        ("diff", NAME),
        ("run", *PLAN, "run", "--reuse"),
    ],
    ids=lambda words: words[0],
)
def test_a_name_that_can_not_be_is_refused_with_2(folder: Path, name: str, words: tuple[str, ...]) -> None:
    """It said 70, or that the same command goes on later, which it never does."""
    done = command(*[name if word == NAME else word for word in words], name, folder=folder, status=2)
    assert name in done.stderr
    assert "hint: " in done.stderr
    assert not (folder / "run").exists()


def test_an_export_beside_such_a_name_is_refused_with_2(folder: Path) -> None:
    """The run's directory is named before the target."""
    assert "can't be a run directory" in command("export", "x" * 256, "out.csv", folder=folder, status=2).stderr


INIT_RULE = ("--rule", "invoice=has line items and a total")


@pytest.mark.parametrize("name", ["x" * 256, "x" * 256 + "/in", "x/" * 2500], ids=["name", "folder", "path"])
@pytest.mark.parametrize(
    "words",
    [
        ("init", NAME, *INIT_RULE),
        ("run", *PLAN, "run", "--log-file", NAME),
        ("run", *PLAN, "run", "--metrics-file", NAME),
        ("run", *PLAN, "run", "--summary-file", NAME),
        ("files", "upload", NAME),
        ("files", "upload", "--recursive", NAME),
        ("files", "delete", NAME, "--yes"),
        ("run", "documents.toml", "--input", "ids", "--run-dir", "run"),
        ("check", "documents.toml", "--input", "ids"),
    ],
    ids=" ".join,
)
def test_a_name_that_is_too_long_is_refused_with_2(folder: Path, name: str, words: tuple[str, ...]) -> None:
    """Every name that a person gives: it was taken for a fault of ours, with 70."""
    (folder / "documents.toml").write_text(f'{CONFIG}[sandbox]\ndocuments = "{name}"\n')
    done = command(*[name if word == NAME else word for word in words], folder=folder, status=2)
    assert name[:60] in done.stderr + done.stdout
    assert "hint: " in done.stderr or words[0] == "check"
    assert not (folder / "run").exists()


def test_names_as_long_as_may_be_are_written(folder: Path) -> None:
    """A name may have 255 bytes, and such a file is first written under another one, which is no longer."""
    names = [each + "x" * 254 for each in "ms"] + ["e" * 251 + ".csv", "r" * 250 + ".html", "i" * 255]
    metrics, summary, table, page, config = names
    command("run", *PLAN, "run", "--metrics-file", metrics, "--summary-file", summary, folder=folder, status=0)
    command("export", "run", table, folder=folder, status=0)
    command("report", "run", "--output", page, folder=folder, status=0)
    command("init", config, *INIT_RULE, folder=folder, status=0)
    assert all((folder / name).stat().st_size for name in names)


def test_a_table_in_a_folder_whose_name_is_too_long_is_refused_with_2(folder: Path) -> None:
    """An export into a partition of it; the run is complete."""
    command("run", *PLAN, "run", folder=folder, status=0)
    words = ("export", "run", f"{'x' * 256}/table", "--partition", "dt=2026-11-22")
    assert "File name too long" in command(*words, folder=folder, status=2).stderr


def test_a_folder_of_certificates_whose_name_is_too_long_is_refused_with_2(folder: Path) -> None:
    """SSL_CERT_DIR may name several folders; the error names the variable."""
    environ = {"SSL_CERT_DIR": f"absent:{'x' * 256}", "SSL_CERT_FILE": ""}
    done = command("jobs", "list", "--base-url", "https://127.0.0.1:1", folder=folder, environ=environ, status=2)
    assert "SSL_CERT_DIR" in done.stderr


def test_metrics_that_can_not_be_written_end_no_run(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where no file can have such a name, for one: a warning, once."""
    metrics = MetricsFile(folder / ("x" * 256), folder)
    for _ in range(2):
        metrics.end_with_error(ClassifyBatchError("gone"))
    assert caplog.text.count("File name too long") == 1
    assert list(folder.glob("*x*")) == []


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("check", "{folder}/c.toml", "--input", "{folder}/ids"), 0),
        (("check", "{folder}/c.toml", "--input", "."), 2),
        (("run", "{folder}/c.toml", "--input", ".", "--run-dir", "{folder}/run"), 2),
        (("run", "{folder}/c.toml", "--input", "{folder}/ids", "--run-dir", "{folder}/run", "--reuse", "."), 2),
        (("report", "{folder}/old", "--output", "page.html"), 2),
        (("merge", "{folder}/old", "--output", "merged"), 2),
        (("sandbox", "--documents", "."), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_folder_that_was_removed_is_named(folder: Path, words: tuple[str, ...], status: int) -> None:
    """A deployment removes the folder in which a shell stands: relative paths mean nothing then. It was 70."""
    command("run", *PLAN, "old", folder=folder, status=0)
    gone = folder / "gone"
    gone.mkdir()
    given = [word.format(folder=folder) for word in words]
    script = ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *COMMAND, *given]
    done = run_process(script, cwd=gone, env=environment(), stdin="")
    assert done.returncode == status, done.stderr
    if status:
        assert done.stderr == (
            "error: the folder in which this was started is gone\n"
            "hint: `cd` to one that is there, or give absolute paths, and the same command begins again\n"
        )
    assert not (folder / "run").exists()
