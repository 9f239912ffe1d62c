"""The demo: classify the files of the installed environment, be interrupted, go on, and compare with the file names;
then a folder of texts, answered by name, and the report.

Run it through scripts/demo. Everything that it writes lies in .demo/, made anew each time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / ".demo"
RUN = HERE / "run"
DOCUMENTS = Path(sysconfig.get_paths()["purelib"])
COMMAND = [sys.executable, "-m", "classify_batch"]
INBOX, INBOX_RUN = HERE / "inbox", HERE / "inbox-run"
INBOX_FILES_EACH = 8
"""So many documents of each label are copied to the inbox."""
SHOWN_ANSWERS = 6
FILES_MAX = 3000
INTERRUPT_AT = 0.4
SECONDS_MAX = 120


def main() -> int:
    names = {file_id(name): name for name in labelled_documents()}
    if len(names) < 1000:
        print(f"only {len(names)} documents under {DOCUMENTS}; the demo wants 1,000", file=sys.stderr)
        return 1
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    ids = HERE / "ids.txt"
    ids.write_text("".join(f"{each}\n" for each in names))
    say(f"{len(names):,} real documents: the Python files, licences and package data of this environment")
    run = ["run", "configs/demo.toml", "--input", str(ids), "--run-dir", str(RUN)]
    show(run)
    status = interrupted(run, at_files=int(INTERRUPT_AT * len(names)))
    say(f"that was Ctrl-C, in the middle: exit status {status} means «the same command goes on»")
    show(["status", str(RUN)])
    subprocess.run([*COMMAND, "status", str(RUN)], env=environment(), check=True)
    say("the same command again")
    show(run)
    status = subprocess.run([*COMMAND, *run], env=environment(), check=False).returncode
    if status != 0:
        print(f"the run ended with exit status {status}", file=sys.stderr)
        return status
    show(["verify", str(RUN)])
    subprocess.run([*COMMAND, "verify", str(RUN)], env=environment(), check=True)
    compare(names)
    return classify_folder(names.values())


def classify_folder(names: Iterable[str]) -> int:
    """A folder as the input: its documents are brought to the server, and answered by name. Ends with the report."""
    by_label: dict[str, list[str]] = {}
    for name in names:
        by_label.setdefault(label(name) or "", []).append(name)
    for found in by_label.values():
        for number, name in enumerate(found[:INBOX_FILES_EACH]):
            copy = INBOX / f"{number:02}-{name.rsplit('/', 1)[-1]}.txt"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(DOCUMENTS / name, copy)
    say(f"a folder is an input, too: {len(list(INBOX.iterdir()))} texts in {INBOX.relative_to(ROOT)}, answered by name")
    run = ["run", "configs/demo.toml", "--input", str(INBOX), "--run-dir", str(INBOX_RUN), "--progress", "none"]
    report = ["report", str(INBOX_RUN)]
    kind = environment() | {"CLASSIFY_BATCH_SANDBOX__DOCUMENTS": ""}
    show(run)
    if status := subprocess.run([*COMMAND, *run], env=kind, check=False).returncode:
        print(f"the run ended with exit status {status}", file=sys.stderr)
        return status
    print()
    lines = (INBOX_RUN / "results.jsonl").read_text().splitlines()
    for result in map(json.loads, lines[:: max(1, len(lines) // SHOWN_ANSWERS)]):
        carried = result["carried"]
        path = (carried if isinstance(carried, dict) else carried[0])["path"]
        print(f"  {path} → {result['type'] or '(unmatched)'}, because: {result['reasoning']}")
    show(report)
    return subprocess.run([*COMMAND, *report], env=kind, check=False).returncode


def labelled_documents() -> list[str]:
    """Files whose name tells what they are, spread evenly over the environment."""
    found = sorted(
        path.relative_to(DOCUMENTS).as_posix()
        for path in DOCUMENTS.rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_size and "__pycache__" not in path.parts
    )
    named = [name for name in found if label(name) and not any(part.startswith(".") for part in name.split("/"))]
    rare = [name for name in named if label(name) not in ("python", "stub")]
    common = [name for name in named if label(name) in ("python", "stub")]
    step = max(1, -(-len(common) // max(1, FILES_MAX - len(rare))))
    return sorted(rare + common[::step])


def label(name: str) -> str | None:
    """What a file's name says. The sandbox never sees it: it answers from what the file holds."""
    path = Path(name)
    if "licenses" in path.parts or path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")):
        return "licence" if path.suffix in ("", ".txt", ".md", ".rst") else None
    by_name = {"METADATA": "metadata", "RECORD": "record", "WHEEL": "wheel"}
    return by_name.get(path.name) or {".py": "python", ".pyi": "stub"}.get(path.suffix)


def file_id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def environment() -> dict[str, str]:
    """The user's own, but for what would send the demo's files to another server than the embedded one."""
    ours = ("LLAMA_CLOUD_", "CLASSIFY_BATCH_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"CLASSIFY_BATCH_SANDBOX__DOCUMENTS": str(DOCUMENTS)}


def interrupted(run: list[str], at_files: int) -> int:
    """Starts the run, presses Ctrl-C when so many files are done, and returns the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it, and so would a run
    process = subprocess.Popen([*COMMAND, *run], env=environment())
    results = RUN / "results.jsonl"
    give_up = time.monotonic() + SECONDS_MAX
    while process.poll() is None and time.monotonic() < give_up:
        if results.exists() and results.read_bytes().count(b"\n") >= at_files:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.05)
    return process.wait(timeout=SECONDS_MAX)


def compare(names: dict[str, str]) -> None:
    """The table of types, and how many agree with the file names."""
    asked: Counter[str] = Counter()
    agreed: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    with (RUN / "results.jsonl").open() as file:
        for line in file:
            result = json.loads(line)
            kind = result["type"] or "(unmatched)"
            expected = label(names[result["file_id"]]) or ""
            asked[expected] += 1
            answered[kind] += 1
            agreed[expected] += kind == expected
    say("what the files hold, against what their names say")
    print(f"  {'type':<12}{'by name':>9}{'answered':>10}{'agree':>8}")
    for kind in sorted(asked | answered):
        share = f"{100 * agreed[kind] / asked[kind]:6.1f} %" if asked[kind] else ""
        print(f"  {kind:<12}{asked[kind]:>9,}{answered[kind]:>10,}{share:>8}")
    total = sum(asked.values())
    print(f"  agree: {sum(agreed.values()):,} of {total:,} ({100 * sum(agreed.values()) / total:.1f} %)")
    balanced = sum(agreed[kind] / count for kind, count in asked.items()) / len(asked)
    print(f"  the mean of the types' shares: {100 * balanced:.1f} % (by chance: {100 / len(asked):.1f} %)")
    print("  (the sandbox ranks words: a stand-in, not a language model; the rules were tuned on files like these)")
    say(f"everything lies in {RUN.relative_to(ROOT)}: results.jsonl, failures.jsonl, manifest.json, journal.jsonl")


def say(words: str) -> None:
    print(f"\n── {words}", flush=True)


def show(command: list[str]) -> None:
    shown = [part.replace(f"{ROOT}/", "") for part in command]
    print(f"\n$ classify-batch {' '.join(shown)}", flush=True)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
