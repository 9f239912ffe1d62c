"""The progress of a run as one line that changes: in a notebook, and on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from classify_batch.vocabulary import OutcomeKind

if TYPE_CHECKING:
    from classify_batch.engine.progress import Progress


class ProgressLine:
    """An `on_progress` that shows one line: `arun(…, on_progress=ProgressLine())`.

    In a notebook the cell's output has one line that changes; on a terminal, stderr has. Where stderr is neither (a
    file, a log), nothing is shown.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._in_notebook = is_notebook()
        self._shown = ""

    def __call__(self, progress: Progress) -> None:
        """Shows how far the run is now."""
        text = format_progress(progress)
        if self._in_notebook:
            self._show_in_notebook(text)
        elif sys.stderr is not None and sys.stderr.isatty():
            is_over = sum(progress.outcomes.values()) == progress.files
            line = f"\r{text}\x1b[K" + ("\n" if is_over else "")
            if line != self._shown:  # the end is reported twice where the run was over between two calls
                sys.stderr.write(line)
                sys.stderr.flush()
            self._shown = line

    def _show_in_notebook(self, text: str) -> None:
        shown = {"text/plain": text}
        if self._handle is None:
            from IPython.display import display  # noqa: PLC0415 - is there in a notebook, and only there

            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


def is_notebook() -> bool:
    """Whether this is a notebook: IPython with a kernel. Loads nothing."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def format_progress(progress: Progress) -> str:
    """How far a run is, in one line."""
    done, failed = sum(progress.outcomes.values()), progress.outcomes.get(OutcomeKind.FAILED, 0)
    parts = [f"{done:,} of {progress.files:,} files"]
    parts += [f"{failed:,} failed"] if failed else []
    parts += [f"{progress.in_flight:,} jobs in flight"] if progress.in_flight else []
    if progress.stopping:
        parts.append(f"stopping: {progress.stopping}")
    elif progress.down:
        parts.append("the API doesn't answer")
    elif progress.paused:
        parts.append("paused")
    return " · ".join(parts)
