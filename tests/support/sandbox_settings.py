"""Settings for a run on the embedded sandbox, as Python programs make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from classify_batch import Settings

RULES = [{"type": "invoice", "description": "has an invoice number and a total"}]
IDS = [f"file-{number}" for number in range(25)]


def sandbox_settings(**values: Any) -> Settings:
    """Settings for the embedded sandbox, in jobs of 10 files."""
    limits = {"requests_per_s": 500.0, "settle_s": 1.0}
    common = {"api": {"base_url": "sandbox"}, "job": {"rules": RULES}, "plan": {"files_per_job": 10}, "limits": limits}
    return Settings(**{**common, **values})


def two_documents(folder: Path, **values: Any) -> Settings:
    """Settings for a project of two documents: every other file ID fails."""
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("an invoice number and a total")
    return sandbox_settings(sandbox={"documents": folder}, **values)


def small_jobs(base_url: str, **limits: Any) -> Settings:
    """A file a job, four of them in flight. What became of a create that was cut off is asked after five seconds."""
    return sandbox_settings(
        api={"base_url": base_url, "timeout_s": 5},
        plan={"files_per_job": 1},
        limits={"requests_per_s": 500.0, "jobs_in_flight": 4, "settle_s": 1.0, "accept_s": 0, **limits},
    )
