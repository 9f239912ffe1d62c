"""Classify very many LlamaCloud files: planned, paced, resumable, nothing lost, nothing paid twice.

    from classify_batch import Settings, run

    result = run(Settings.load("my.toml"), file_ids=["…"], run_dir="runs/2026-11-22")
    print(result.state, result.counts, result.exit_status)

The names below are loaded when they are first used, so that `import classify_batch` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classify_batch.engine.progress import Progress as Progress
    from classify_batch.errors import ApiError as ApiError
    from classify_batch.errors import ClassifyBatchError as ClassifyBatchError
    from classify_batch.errors import ExitStatus as ExitStatus
    from classify_batch.errors import UsageError as UsageError
    from classify_batch.errors import WorldError as WorldError
    from classify_batch.limits.shared_limits import SharedLimits as SharedLimits
    from classify_batch.operations.cancel import acancel as acancel
    from classify_batch.operations.cancel import cancel as cancel
    from classify_batch.operations.diff.changes import Diff as Diff
    from classify_batch.operations.export.export_run import Exported as Exported
    from classify_batch.operations.merge.merge_runs import amerge as amerge
    from classify_batch.operations.merge.merge_runs import merge as merge
    from classify_batch.operations.outcome import Outcome as Outcome
    from classify_batch.operations.progress_line import ProgressLine as ProgressLine
    from classify_batch.operations.public import CheckReport as CheckReport
    from classify_batch.operations.public import Planned as Planned
    from classify_batch.operations.public import acheck as acheck
    from classify_batch.operations.public import adiff as adiff
    from classify_batch.operations.public import aexport as aexport
    from classify_batch.operations.public import aplan as aplan
    from classify_batch.operations.public import aupload as aupload
    from classify_batch.operations.public import averify as averify
    from classify_batch.operations.public import check as check
    from classify_batch.operations.public import diff as diff
    from classify_batch.operations.public import export as export
    from classify_batch.operations.public import plan as plan
    from classify_batch.operations.public import upload as upload
    from classify_batch.operations.public import verify as verify
    from classify_batch.operations.public_run import arun as arun
    from classify_batch.operations.public_run import run as run
    from classify_batch.operations.report.write_report import areport as areport
    from classify_batch.operations.report.write_report import report as report
    from classify_batch.operations.result import RunResult as RunResult
    from classify_batch.operations.resume import aresume as aresume
    from classify_batch.operations.resume import resume as resume
    from classify_batch.operations.run_handle import RunHandle as RunHandle
    from classify_batch.operations.run_handle import open_run as open_run
    from classify_batch.operations.stream import OutcomeStream as OutcomeStream
    from classify_batch.operations.stream import stream as stream
    from classify_batch.operations.uploads import NotUploaded as NotUploaded
    from classify_batch.operations.uploads import Uploaded as Uploaded
    from classify_batch.operations.verify import Verification as Verification
    from classify_batch.scale.ray_executor import RayExecutor as RayExecutor
    from classify_batch.settings import Settings as Settings

_HOMES = {
    "ApiError": "errors",
    "CheckReport": "operations.public",
    "ClassifyBatchError": "errors",
    "Diff": "operations.diff.changes",
    "ExitStatus": "errors",
    "Exported": "operations.export.export_run",
    "NotUploaded": "operations.uploads",
    "Outcome": "operations.outcome",
    "OutcomeStream": "operations.stream",
    "Planned": "operations.public",
    "Progress": "engine.progress",
    "ProgressLine": "operations.progress_line",
    "RayExecutor": "scale.ray_executor",
    "RunHandle": "operations.run_handle",
    "RunResult": "operations.result",
    "Settings": "settings",
    "SharedLimits": "limits.shared_limits",
    "Uploaded": "operations.uploads",
    "UsageError": "errors",
    "Verification": "operations.verify",
    "WorldError": "errors",
    "acancel": "operations.cancel",
    "acheck": "operations.public",
    "adiff": "operations.public",
    "aexport": "operations.public",
    "amerge": "operations.merge.merge_runs",
    "aplan": "operations.public",
    "areport": "operations.report.write_report",
    "aresume": "operations.resume",
    "arun": "operations.public_run",
    "aupload": "operations.public",
    "averify": "operations.public",
    "cancel": "operations.cancel",
    "check": "operations.public",
    "diff": "operations.public",
    "export": "operations.public",
    "merge": "operations.merge.merge_runs",
    "open_run": "operations.run_handle",
    "plan": "operations.public",
    "report": "operations.report.write_report",
    "resume": "operations.resume",
    "run": "operations.public_run",
    "stream": "operations.stream",
    "upload": "operations.public",
    "verify": "operations.public",
}

__all__ = [
    "ApiError",
    "CheckReport",
    "ClassifyBatchError",
    "Diff",
    "ExitStatus",
    "Exported",
    "NotUploaded",
    "Outcome",
    "OutcomeStream",
    "Planned",
    "Progress",
    "ProgressLine",
    "RayExecutor",
    "RunHandle",
    "RunResult",
    "Settings",
    "SharedLimits",
    "Uploaded",
    "UsageError",
    "Verification",
    "WorldError",
    "acancel",
    "acheck",
    "adiff",
    "aexport",
    "amerge",
    "aplan",
    "areport",
    "aresume",
    "arun",
    "aupload",
    "averify",
    "cancel",
    "check",
    "diff",
    "export",
    "merge",
    "open_run",
    "plan",
    "report",
    "resume",
    "run",
    "stream",
    "upload",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
