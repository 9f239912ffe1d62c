"""Suites about very many files and no server: planning, reusing, verifying, exporting.

With `--tree OTHER` each command is run by the package in that checkout as well, in turn, on the same files. Beside them
stand the floors: reading the same bytes, their bare CRC-32 and SHA-256, and `sort -u` of the same IDs.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from bench_suite.clients import CONFIG, file_id
from bench_suite.lab import SCRIPTS, Cost, Lab
from bench_suite.table import print_table

Rows = list[dict[str, Any]]
MANY_FILES = 10_000_000
EXPORTED_FILES = 1_000_000
NEW_FILES = 10_000


def plan(lab: Lab, options: argparse.Namespace) -> Rows:
    """planning 10 million lines with exact de-duplication; 5 % of them repeat an earlier ID"""
    rows: Rows = []
    for lines in options.files or [MANY_FILES]:
        with make_folder() as folder:
            ids = folder / "ids.txt"
            with ids.open("w") as file:
                file.writelines(repeating_lines(lines))
            words = ("plan", folder / "config.toml", "--input", ids, "--run-dir", folder / "run")
            told = ("--files-per-job", options.files_per_job or 100)
            rows += measure_in_turn(lab, options, lines, [*words, *told], folder / "run")
            rows += measure_floors(lab, lines, {name: [ids] for name in ("read", "sha256", "sort -u")})
    return show(rows)


def repeating_lines(lines: int) -> Iterator[str]:
    distinct = 0
    for line in range(lines):
        if line % 20 == 19:
            yield f"{file_id(line * 7919 % distinct)}\n"
        else:
            yield f"{file_id(distinct)}\n"
            distinct += 1


def reuse(lab: Lab, options: argparse.Namespace) -> Rows:
    """planning with `--reuse` of a run of 10 million files: the same files again, and 10,000 new ones"""
    rows: Rows = []
    for files in options.files or [MANY_FILES]:
        with make_folder() as folder:
            run = build_whole_run(lab, folder, files, options)
            ids = folder / "ids.txt"
            with ids.open("w") as file:
                file.writelines(f"{file_id(number)}\n" for number in range(files + NEW_FILES))
            words = ("plan", folder / "config.toml", "--input", ids, "--run-dir", folder / "again")
            told = ("--files-per-job", options.files_per_job or 100, "--reuse", run)
            rows += measure_in_turn(lab, options, files, [*words, *told], folder / "again")
            results = [run / "results.jsonl"]
            rows += measure_floors(lab, files, {"read": results, "crc32": results, "sort -u": [ids]})
    return show(rows)


def verify(lab: Lab, options: argparse.Namespace) -> Rows:
    """verifying a run of 10 million files, which takes 3.5 GB"""
    rows: Rows = []
    for files in options.files or [MANY_FILES]:
        with make_folder() as folder:
            run = build_whole_run(lab, folder, files, options)
            rows += measure_in_turn(lab, options, files, ["verify", run])
            logs = [run / name for name in ("plan.jsonl", "journal.jsonl", "results.jsonl")]
            rows += measure_floors(lab, files, dict.fromkeys(("read", "crc32", "sha256"), logs))
    return show(rows)


def export(lab: Lab, options: argparse.Namespace) -> Rows:
    """exporting a run of a million files as CSV and as Parquet"""
    rows: Rows = []
    for files in options.files or [EXPORTED_FILES]:
        with make_folder() as folder:
            run = build_whole_run(lab, folder, files, options)
            for name in ("table.csv", "table.parquet"):
                trees = options if name != "table.parquet" or writes_parquet(options.tree) else only_this(options)
                rows += measure_in_turn(lab, trees, files, ["export", run, folder / name], what=f"export of {name}")
            results = [run / "results.jsonl"]
            rows += measure_floors(lab, files, dict.fromkeys(("read", "crc32"), results))
    return show(rows)


def writes_parquet(tree: Path | None) -> bool:
    """Whether the other checkout, if there is one, has such an export."""
    return tree is None or (tree / "classify_batch" / "operations" / "export" / "arrow_files.py").exists()


def only_this(options: argparse.Namespace) -> argparse.Namespace:
    """The options without the other checkout."""
    return argparse.Namespace(**{**vars(options), "tree": None})


@contextmanager
def make_folder() -> Iterator[Path]:
    """A folder with a config, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="classify-batch-bench-") as name:
        (Path(name) / "config.toml").write_text(CONFIG)
        yield Path(name)


def build_whole_run(lab: Lab, folder: Path, files: int, options: argparse.Namespace) -> Path:
    """A complete run, which other checkouts can read as well."""
    print(f"building a run of {files:,} files …", file=sys.stderr, flush=True)
    words = [folder, "--files", files, "--files-per-job", options.files_per_job or 100, "--whole"]
    replace(lab, tree=None).cost([sys.executable, SCRIPTS / "build_run.py", *words])
    return folder / "run"


def measure_in_turn(
    lab: Lab,
    options: argparse.Namespace,
    files: int,
    words: Sequence[object],
    made: Path | None = None,
    what: str | None = None,
) -> Rows:
    """A command by this checkout, and by the other one if there is one.

    Args:
        made: a directory that it makes.
        what: how it is called; by its first word, if that is not given.
    """
    trees = {str(options.tree): lab} if options.tree is not None else {}
    trees["this"] = replace(lab, tree=None)
    costs: dict[str, list[Cost]] = {name: [] for name in trees}
    for number in range(options.rounds):
        for name, each in trees.items():
            print(f"round {number + 1}: {words[0]}, {name} …", file=sys.stderr, flush=True)
            costs[name].append(each.cost(each.classify_batch(*words)))
            if made is not None:
                shutil.rmtree(made)
    return [to_row(files, f"{what or words[0]} by {name}", each) for name, each in costs.items()]


def measure_floors(lab: Lab, files: int, floors: Mapping[str, Sequence[Path]]) -> Rows:
    """What reading these files, and no more, takes."""
    script = SCRIPTS / "floors.py"
    return [
        to_row(files, f"bare {name}", [lab.cost([sys.executable, script, name.partition(" ")[0], *paths])])
        for name, paths in floors.items()
    ]


def to_row(files: int, what: str, costs: Sequence[Cost]) -> dict[str, Any]:
    return {
        "files": files,
        "what": what,
        "seconds": median(cost.wall_s for cost in costs),
        "cpu_s": median(cost.cpu_s for cost in costs),
        "rss_mib": max(cost.rss_mib for cost in costs),
    }


def show(rows: Rows) -> Rows:
    first = {row["files"]: row["seconds"] for row in reversed(rows)}
    print_table(
        [
            {
                "what": row["what"],
                "files": f"{row['files']:,}",
                "s": f"{row['seconds']:.2f}",
                "÷ first": f"{row['seconds'] / first[row['files']]:.2f}",
                "CPU s": f"{row['cpu_s']:.2f}",
                "peak RSS MiB": f"{row['rss_mib']:.0f}",
            }
            for row in rows
        ]
    )
    return rows
