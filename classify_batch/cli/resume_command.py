"""The command that goes on with a run, as a person would type it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from classify_batch.shell_words import command_of

if TYPE_CHECKING:
    from classify_batch.settings import Settings


def resume_command_for(
    run_dir: Path, settings: Settings | None, config: Path | None, *, trusted: bool = False, more: Sequence[str] = ()
) -> str:
    """The command that goes on with a run. It needs the config only for the secrets of webhooks, which are stored
    nowhere. `more`: further options that it takes."""
    options: list[str | Path] = ["--trust-run-dir"] if trusted else []
    webhooks = () if settings is None else settings.job.webhook_configurations
    if config is not None and any(each.secret_values for each in webhooks):
        options += ["--config", config]
    return command_of("resume", run_dir, *options, *more)
