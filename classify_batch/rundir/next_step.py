"""What to do about a run: the tolerance in words, which failures are worth a retry, and the next command.

Free of heavy imports, as `status` shows it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from classify_batch.errors import ExitStatus
from classify_batch.rundir.percentages import format_percentage
from classify_batch.rundir.run_json import MergedRun, RunFile
from classify_batch.shell_words import command_of
from classify_batch.vocabulary import OutcomeKind, RunState

if TYPE_CHECKING:
    from classify_batch.rundir.manifest_json import Manifest

CONFIG_HINT = "put the path of its config in the place of CONFIG: the secrets of its webhooks are stored nowhere else"
RETRY_IN_PARTS = "try failures again in the runs that were merged, and merge these anew"
KILLED_HINT = "its last process ended without a word (killed, or the machine stopped); the same command goes on"
OLDER_MANIFEST_HINT = (
    "manifest.json is older than the journal: the last process was killed when it began, or somebody put an older copy "
    "back; `resume` writes it anew"
)

UNKNOWN_CONFIG = "CONFIG"

TOLERATED = "tolerated_failure_percentage"


def tolerated_percentage(limits: Mapping[str, object], run: RunFile) -> float:
    """Failed files, in percent, that still exit with 0: by the limits in force, or those that the run was planned
    with."""
    value = limits.get(TOLERATED, run.settings.get("limits", {}).get(TOLERATED, 0.0))
    return float(value) if isinstance(value, int | float) else 0.0


def describe_tolerance(counts: Mapping[str, int], tolerated: float) -> str:
    """How many files failed against how many may."""
    failed, total = counts.get(OutcomeKind.FAILED, 0), sum(counts.values())
    share = format_percentage(failed, total, apart_from=tolerated)
    return f"{failed:,} of {total:,} files failed ({share}), and {tolerated:g} % are tolerated"


def describe_retry(manifest: Manifest) -> str:
    """Which failures may get an answer at another try."""
    read, worth = manifest.get("failures_read", 0), manifest.get("failures_worth_a_retry", 0)
    failed = manifest["counts"].get(OutcomeKind.FAILED, 0)
    if failed == 1:
        reason = "the API refused the file, or something is wrong with the document"
        return "another try may bring its answer" if worth else f"another try is no use: {reason}"
    which = f"of the {read:,} failures" if read >= failed else f"of the first {read:,} of the {failed:,} failures"
    if not worth:
        return f"{which} none is worth a retry: the API refused the files, or something is wrong with the documents"
    if worth == read:
        return f"{which} all are worth a retry"
    return f"{which} {worth:,} are worth a retry; of the others the API refused the file, or the document has a flaw"


def add_next_step(manifest: Manifest, run: RunFile, where: str) -> None:
    """Puts `next` into a manifest, and where it is complete or has none, `hint`. `where`: the run directory."""
    state, status = manifest["state"], manifest["exit_status"]
    if state == RunState.COMPLETE:
        manifest["hint"] = None
        if status == ExitStatus.FAILURES:
            tolerated = tolerated_percentage(manifest.get("limits") or {}, run)
            which = describe_retry(manifest) if run.merged is None else RETRY_IN_PARTS
            manifest["hint"] = f"{describe_tolerance(manifest['counts'], tolerated)}; {which}"
    manifest["next"] = next_command(manifest, run, where)
    if manifest["next"].endswith(f"--config {UNKNOWN_CONFIG}"):
        manifest["hint"] = "; ".join(filter(None, (manifest.get("hint"), CONFIG_HINT)))


def next_command(manifest: Manifest, run: RunFile, where: str) -> str:
    """The whole command, quoted for a shell. The path is absolute, so that it is never taken for an option, and the
    command works in any folder."""
    path = Path(where).absolute()
    words: Sequence[str | Path]
    match manifest["state"]:
        case RunState.RUNNING:
            words = ("status", path, "--watch")
        case RunState.COMPLETE:
            failures = run.merged is None and manifest["exit_status"] == ExitStatus.FAILURES
            retry = failures and manifest.get("failures_worth_a_retry", 0)
            again = ("resume", path, "--retry-failed", *resume_options(manifest, run))
            words = again if retry else ("verify", path)
        case _ if run.merged is not None:
            return merge_command(run.merged, where)
        case _:
            words = ("resume", path, *resume_options(manifest, run))
    return command_of(*words)


def merge_command(merged: Sequence[MergedRun], where: str) -> str:
    """The command that merges runs into the directory `where`, or goes on with that."""
    runs = [Path(each["run_dir"]).absolute() for each in merged]
    return command_of("merge", *runs, "--output", Path(where).absolute())


def needs_config(run: RunFile) -> bool:
    """Whether a resume needs the config, since the run's webhooks have secrets."""
    webhooks = run.settings.get("job", {}).get("webhook_configurations") or ()
    return any(webhook.get("webhook_headers") or webhook.get("webhook_signing_secret") for webhook in webhooks)


def resume_options(manifest: Manifest, run: RunFile) -> list[str | Path]:
    """What a resume must be given again, as the last process was: trust in the directory, and the config."""
    options: list[str | Path] = ["--trust-run-dir"] if manifest.get("trusted") else []
    if needs_config(run):
        options += ["--config", Path(manifest.get("config") or UNKNOWN_CONFIG)]
    elif manifest.get("accounts") and (config := manifest.get("config")):
        options += ["--config", Path(config)]  # it may name other accounts than the one that the run was planned with
    return options
