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
    from classify_batch.operations.cancel import acancel as acancel
    from classify_batch.operations.cancel import cancel as cancel
    from classify_batch.operations.report.write_report import areport as areport
    from classify_batch.operations.report.write_report import report as report
    from classify_batch.operations.result import RunResult as RunResult
    from classify_batch.operations.run import arun as arun
    from classify_batch.operations.run import run as run
    from classify_batch.settings import Settings as Settings

_HOMES = {
    "ApiError": "errors",
    "ClassifyBatchError": "errors",
    "ExitStatus": "errors",
    "Progress": "engine.progress",
    "RunResult": "operations.result",
    "Settings": "settings",
    "UsageError": "errors",
    "WorldError": "errors",
    "acancel": "operations.cancel",
    "areport": "operations.report.write_report",
    "arun": "operations.run",
    "cancel": "operations.cancel",
    "report": "operations.report.write_report",
    "run": "operations.run",
}

__all__ = [
    "ApiError",
    "ClassifyBatchError",
    "ExitStatus",
    "Progress",
    "RunResult",
    "Settings",
    "UsageError",
    "WorldError",
    "acancel",
    "areport",
    "arun",
    "cancel",
    "report",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
